"""Starts a training command anew with settings of the C library under which its heap is less fragmented.

PyTorch takes its blocks at addresses that 64 divides. To find one, glibc takes up to 96 bytes more and cuts them off
at both ends. Its caches of small blocks (``tcache`` and fast bins) hand the cuttings to whatever small object comes
next, and when the large block is freed, the hole between two of these is too small for another block of the very same
size. A training process then holds a tenth more than it needs (decision 14). Without the caches the cuttings join the
hole again. glibc reads this setting when a program starts and at no other time.

Only the real command starts itself anew, and only to train: a program that Python reads from standard input or from
``-c``, a notebook, a debugger or somebody's own script would lose what it has done so far. What the new program
inherits for its own start, it takes back at once: glibc has read it by then, and no program that is started from here
is to have it (decision 20).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
SETTINGS = {"glibc.malloc.tcache_count": "0", "glibc.malloc.mxfast": "0"}
ONCE = "TRUEUP_RESTARTED"
"""Set in a program that was started anew, where it holds what its variables were before; who sets it beforehand, to
anything, turns the restart off."""

_COMMANDS = ("trueup", "trueup.exe", "trueup-script.py")
_OPTIONS_WITH_VALUE = "WX"


def with_tunables(variable: str | None) -> str:
    """The value of ``GLIBC_TUNABLES`` that adds our settings to those it has; it wins where it has one of ours."""
    items = [item for item in (variable or "").split(":") if item]
    names = {item.partition("=")[0] for item in items}
    return ":".join(items + [f"{name}={value}" for name, value in SETTINGS.items() if name not in names])


def training_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process that is to train, and what they were before, so that it can take them back.

    They are those of ``environment`` where there is nothing to change or somebody turned that off.
    """
    wanted = {VARIABLE: with_tunables(environment.get(VARIABLE))} if _is_glibc() else {}
    changed = {name: value for name, value in wanted.items() if environment.get(name) != value}
    if not changed or ONCE in environment:
        return dict(environment)
    before = {name: environment.get(name) for name in changed}
    return {**environment, **changed, ONCE: json.dumps(before)}


def program(arguments: Sequence[str]) -> tuple[str, str]:
    """What Python was told to run: ``("module", name)``, ``("script", path)``, or ``("other", "")``.

    Args:
        arguments: As in ``sys.orig_argv``, the interpreter first.
    """
    rest = iter(arguments[1:])
    for word in rest:
        if word == "--check-hash-based-pycs":
            next(rest, None)
        elif word == "-" or word.startswith("--"):
            return "other", ""
        elif not word.startswith("-"):
            return "script", word
        else:
            for place, letter in enumerate(word[1:], 2):
                if letter == "m":
                    return "module", word[place:] or next(rest, "")
                if letter in "ci":
                    return "other", ""
                if letter in _OPTIONS_WITH_VALUE:
                    if not word[place:]:
                        next(rest, None)
                    break
    return "other", ""


def is_command() -> bool:
    """Whether this program is ``trueup`` itself, started by its script or by ``python -m trueup``."""
    if not sys.executable or sys.flags.interactive or hasattr(sys, "ps1") or sys.gettrace() is not None:
        return False
    kind, name = program(sys.orig_argv)
    if kind == "script":
        return Path(name).name in _COMMANDS and sys.argv[:1] == [name]
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return (kind, name) == ("module", "trueup") and spec is not None and spec.name == "trueup.__main__"


def restart(*, any_program: bool = False) -> None:
    """Run this command anew, in the same process and with the same arguments, unless its heap has the settings already.

    To be called before anything that must not happen twice. Returns where there is nothing to do, and in the new
    program, which has taken the variables back then.

    Args:
        any_program: Also where this program is not ``trueup`` itself; the caller knows that it can be started anew.
    """
    if restore():
        return
    wanted = training_environment(os.environ)
    if wanted == dict(os.environ) or not (any_program or is_command()):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def restore() -> bool:
    """Take back the variables that this program was started with, so that those started from it do not inherit them.

    Returns whether there were any.
    """
    try:
        before = json.loads(os.environ.get(ONCE, ""))
    except ValueError:
        return False
    if not isinstance(before, dict):  # somebody's own value
        return False
    del os.environ[ONCE]
    for name, value in before.items():
        if isinstance(value, str):
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
    return True


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):
        return False
