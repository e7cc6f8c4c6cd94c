"""Starts the program again with a C library whose heap can use its holes.

PyTorch takes its blocks at addresses that 64 divides. To find one, glibc takes up to 96 bytes more and cuts them off
at both ends. Its caches of small blocks (``tcache`` and fast bins) hand the cuttings to whatever small object comes
next, and when the large block is freed, the hole between two of these is too small for another block of the very same
size. A training process then holds a tenth more than it needs (decision 14). Without the caches the cuttings join the
hole again. glibc reads this setting when a program starts and at no other time.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "GLIBC_TUNABLES"
SETTINGS = {"glibc.malloc.tcache_count": "0", "glibc.malloc.mxfast": "0"}
ONCE = "TRUEUP_RESTARTED"
"""Set in a program that was started anew, which is not done twice; who sets it beforehand turns that off."""


def settled(variable: str | None) -> str:
    """The value of ``GLIBC_TUNABLES`` that adds our settings to those it has; it wins where it has one of ours."""
    given = [item for item in (variable or "").split(":") if item]
    names = {item.partition("=")[0] for item in given}
    return ":".join(given + [f"{name}={value}" for name, value in SETTINGS.items() if name not in names])


def restart() -> None:
    """Run this program anew, in the same process and with the same arguments, if its C library is unsettled glibc.

    For the first line of a program: nothing of what it has done so far is left, unless it returns.
    """
    wanted = settled(os.environ.get(VARIABLE))
    started = bool(sys.executable) and len(sys.orig_argv) > 1  # else there is no command line to repeat
    if not started or not _is_glibc() or os.environ.get(VARIABLE) == wanted or ONCE in os.environ:
        return
    os.environ[VARIABLE], os.environ[ONCE] = wanted, "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):
        return False
