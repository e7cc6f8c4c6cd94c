"""How worker threads wait for each other: by spinning while the cores are theirs, by sleeping beside busy programs.

PyTorch's CPU threads meet at the end of every parallel loop, hundreds of times a step. GNU OpenMP lets the one that
comes first spin for some milliseconds, which is quickest while each thread has a core. Beside other busy programs the
thread that is waited for has no core, and the spinning ones keep it from getting one: a step then takes up to thirty
times as long (``benchmarks/contention.py``). The choice can be made from outside before a program starts
(``GOMP_SPINCOUNT``), but neither value serves both cases, and the neighbours come and go.

GNU OpenMP itself spins a thousand times less as soon as it manages more threads than there are cores. That is the
switch which works at run time: a second, sleeping team is held while the kernel says that our threads wait for cores.
No result changes, no environment variable is set, and no thread is left when training ends.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("trueup.engine")

LOOK_SECONDS = 0.2
"""Time between two looks at how long our threads waited for a core; a look takes a quarter of a millisecond."""
CROWDED = 0.15
"""Cores' worth of waiting from which on threads sleep instead of spinning."""
FREE = 0.03
"""Waiting below which the cores are ours again, if it stays so for ``PATIENCE`` looks."""
PATIENCE = 5


@contextmanager
def adaptive_waiting() -> Iterator[None]:
    """Let OpenMP's threads spin or sleep by the load of the machine, until the block ends.

    Does nothing where the kernel does not say how long threads waited, or PyTorch uses another OpenMP than GNU's.
    """
    libraries = _gnu_openmp()
    if not libraries or _waited() is None:
        log.info("threads wait as OpenMP was set: no GNU OpenMP, or a kernel without schedstat")
        yield
        return
    watch = Watch(lambda: SleepingTeam(libraries))
    watch.start()
    try:
        yield
    finally:
        watch.stop()


class SleepingTeam:
    """More OpenMP threads than cores, all asleep: while they are held, GNU OpenMP's other threads hardly spin."""

    def __init__(self, libraries: list[ctypes.CDLL]) -> None:
        self._libraries = libraries
        self._ready, self._release = threading.Event(), threading.Event()
        # A team belongs to the thread that made it and ends with that thread.
        self._leader = threading.Thread(target=self._hold, name="trueup-sleeping-team", daemon=True)
        self._leader.start()
        self._ready.wait()

    def release(self) -> None:
        """End the team's threads; OpenMP spins again as it was set."""
        self._release.set()
        self._leader.join()

    def _hold(self) -> None:
        # The loop body is C's free(NULL), which does nothing: no Python runs in the team's threads.
        body = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        try:
            for library in self._libraries:
                library.GOMP_parallel(body, None, len(os.sched_getaffinity(0)) + 1, 0)
        finally:
            self._ready.set()
        self._release.wait()


class Watch(threading.Thread):
    """Looks at how long our threads wait for cores and holds a ``SleepingTeam`` while it is much."""

    def __init__(
        self,
        crowd: Callable[[], SleepingTeam],
        waited: Callable[[], dict[str, int] | None] | None = None,
        seconds: float = LOOK_SECONDS,
    ) -> None:
        super().__init__(name="trueup-waiting", daemon=True)
        self._crowd = crowd
        self._waited = waited or _waited
        self._seconds = seconds
        self._team: SleepingTeam | None = None
        self._quiet = 0
        self._end = threading.Event()

    @property
    def sleeps(self) -> bool:
        """Whether waiting threads sleep at present."""
        return self._team is not None

    def run(self) -> None:
        """Look now and then until ``stop``."""
        before = self._waited() or {}
        while not self._end.wait(self._seconds):
            now = self._waited() or {}
            share = sum(ns - before[thread] for thread, ns in now.items() if thread in before) / (self._seconds * 1e9)
            self.decide(share)
            before = now
        if self._team is not None:
            self._team.release()

    def decide(self, share: float) -> None:
        """Take note of one look: ``share`` is the mean number of our threads that waited for a core."""
        self._quiet = self._quiet + 1 if share < FREE else 0
        if self._team is None and share > CROWDED:
            self._team = self._crowd()
            log.info("other programs are busy: threads sleep while they wait for each other")
        elif self._team is not None and self._quiet >= PATIENCE:
            self._team.release()
            self._team = None
            log.info("the cores are free again: threads spin while they wait for each other")

    def stop(self) -> None:
        """End the watch and release the team."""
        self._end.set()
        self.join()


def _waited() -> dict[str, int] | None:
    """Nanoseconds for which each of our threads was ready to run and had no core; None where Linux does not say."""
    waits, ran = {}, 0
    try:
        for task in os.scandir("/proc/self/task"):
            try:
                on_core, wait, _ = Path(task.path, "schedstat").read_bytes().split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # a thread that has just ended
            waits[task.name] = int(wait)
            ran += int(on_core)
    except (OSError, ValueError):
        return None
    return waits if ran else None  # kernels built without these counts show zeros


def _gnu_openmp() -> list[ctypes.CDLL]:
    """GNU OpenMP libraries that this process has loaded; PyTorch's wheels bring one of their own."""
    try:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in mapped.splitlines() if "libgomp" in line and "/" in line}
    libraries = []
    for path in sorted(paths):
        try:
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            library.GOMP_parallel.restype = None
        except (OSError, AttributeError):
            continue
        libraries.append(library)
    return libraries
