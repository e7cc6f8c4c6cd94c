"""What a process needs so that training is fast where it runs, and what it took: CPU settings, peak memory."""

from __future__ import annotations

import ctypes
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trueup.engine.waiting import adaptive_waiting

log = logging.getLogger("trueup.engine")

LEAST_WAIT = 3.0
"""Seconds between looks at the heap: to look takes time too."""
WAIT_PER_GIB = 60.0
"""Seconds of work that pay for giving back one GiB: to page it in again takes 0.3 s, in some virtual machines 1.5."""

APART = 32 << 20
"""Bytes from which on a block lives outside the heap: copies and gradients of an embedding, above all. They are few,
and in the heap they leave holes that other blocks break up. glibc allows no more."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


@contextmanager
def tuned_process() -> Iterator[None]:
    """Settings that make CPU training faster without changing a result that matters.

    Freed memory is kept for the next step: by default glibc returns every large tensor to the system and the next
    one is paid for page by page, a fifth to a third of a step's CPU time on GPT-2. Numbers below 1e-38 count as
    zero: products of tiny gradients otherwise run two hundred times slower on some processors
    (``benchmarks/kernels.py``). The second belongs to the thread, and other code may count on the standard's
    arithmetic, so it ends with the block. Threads spin or sleep by the load of the machine (``engine.waiting``).
    """
    flushed = _flushes()
    torch.set_flush_denormal(True)  # before the first parallel operation, so that worker threads inherit it
    if sys.platform.startswith("linux") and not torch.cuda.is_available():
        _keep_freed_memory()
    try:
        with adaptive_waiting():
            yield
    finally:
        torch.set_flush_denormal(flushed)


class Heap:
    """Gives freed memory back to the system now and then.

    Batches of ever new sizes leave ever new holes in a heap that keeps what was freed. Giving the holes back costs the
    next step the pages that it needs again, so it is done rarely enough to cost a fiftieth of the time.
    """

    def __init__(self) -> None:
        self._libc = _glibc() if not torch.cuda.is_available() else None
        self._since = time.perf_counter()

    def trim(self) -> bool:
        """To be called between steps. Returns whether memory was given back."""
        waited = time.perf_counter() - self._since
        if self._libc is None or waited < LEAST_WAIT:
            return False
        free: int = self._libc.mallinfo2().fordblks
        if waited < WAIT_PER_GIB * free / 2**30:
            return False
        self._libc.malloc_trim(0)
        self._since = time.perf_counter()
        return True


class _MallInfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def _glibc() -> Any:
    """The C library, if it is one that tells of its heap (glibc from 2.33) and can give it back."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallinfo2.restype = _MallInfo
        libc.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):
        return None
    return libc


def peak_memory() -> int:
    """Most bytes that this program has held so far; GPU memory apart.

    Linux says it of the program itself. Elsewhere it is the process's, which may begin with its parent's.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def peak() -> dict[str, int]:
    """``peak_memory`` and, where there is a GPU, ``gpu_peak_memory``: bytes, most so far."""
    peaks = {"peak_memory": peak_memory()}
    return peaks | {"gpu_peak_memory": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else peaks


def _flushes() -> bool:
    return bool(torch.tensor(1e-30, dtype=torch.float32) * 1e-10 == 0)


def _keep_freed_memory() -> None:
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        log.info("this C library has no mallopt; large tensors are paged in at every step")
        return
    for name, value in ((_M_MMAP_THRESHOLD, APART), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20)):
        if not mallopt(name, value):
            log.info("mallopt(%d) was refused", name)
