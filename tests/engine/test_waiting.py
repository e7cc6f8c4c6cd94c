"""Threads spin while the cores are theirs and sleep beside busy programs; results do not change, nothing is left."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import pytest
import torch

from trueup.engine import waiting
from trueup.engine.waiting import CROWDED, FREE, PATIENCE, SleepingTeam, Watch, adaptive_waiting


class Team:
    """Stands for a sleeping team and counts how often one was held and released."""

    def __init__(self) -> None:
        self.held = self.released = 0

    def __call__(self) -> "Team":
        self.held += 1
        return self

    def release(self) -> None:
        self.released += 1


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def openmp() -> list[Any]:
    torch.ones(1 << 17).add(1)  # PyTorch's own team exists from its first parallel loop on
    libraries = waiting._gnu_openmp()
    if not libraries:
        pytest.skip("PyTorch does not use GNU OpenMP here")
    return libraries


def test_waiting_threads_sleep_when_crowded_and_spin_again_only_after_lasting_quiet() -> None:
    team = Team()
    watch = Watch(team, waited=dict)  # type: ignore[arg-type]
    watch.decide(CROWDED - 0.01)
    assert not watch.sleeps
    watch.decide(CROWDED + 0.01)
    assert watch.sleeps
    for _ in range(PATIENCE - 1):
        watch.decide(FREE / 2)
    watch.decide(FREE * 2)  # not crowded, but not quiet either: the count of quiet looks starts again
    for _ in range(PATIENCE - 1):
        watch.decide(FREE / 2)
    assert (watch.sleeps, team.held, team.released) == (True, 1, 0)
    watch.decide(FREE / 2)
    assert (watch.sleeps, team.held, team.released) == (False, 1, 1)


def test_a_look_counts_only_threads_that_were_there_before() -> None:
    looks: Iterator[dict[str, int]] = chain([{"1": 0}, {"1": 0, "2": 10**12}], repeat({"1": 0, "2": 10**12}))
    team = Team()
    watch = Watch(team, waited=lambda: next(looks), seconds=0.01)  # type: ignore[arg-type]
    watch.start()
    time.sleep(0.2)
    watch.stop()
    assert team.held == 0  # a new thread brings the waiting of its whole life, which is not the last look's


def test_a_team_that_is_held_at_the_end_is_released() -> None:
    wait = iter(range(0, 10**15, 10**10))
    team = Team()
    watch = Watch(team, waited=lambda: {"1": next(wait)}, seconds=0.01)  # type: ignore[arg-type]
    watch.start()
    while not watch.sleeps:
        time.sleep(0.01)
    watch.stop()
    assert (team.held, team.released) == (1, 1)


def test_a_sleeping_team_has_more_threads_than_cores_and_ends_with_its_release() -> None:
    libraries = openmp()
    before = threads()
    team = SleepingTeam(libraries)
    assert threads() > before + len(os.sched_getaffinity(0)) - 1
    team.release()
    deadline = time.monotonic() + 30
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel takes a moment to reap them
    assert threads() == before


def test_numbers_are_the_same_beside_a_sleeping_team() -> None:
    libraries = openmp()
    left, right = torch.randn(300, 200), torch.randn(200, 500)
    alone = (left @ right).softmax(-1).sum(0)
    team = SleepingTeam(libraries)
    beside = (left @ right).softmax(-1).sum(0)
    team.release()
    assert torch.equal(alone, beside)


def test_threads_sleep_beside_busy_programs() -> None:
    libraries = openmp()
    if waiting._waited() is None:
        pytest.skip("this kernel does not say how long threads waited")
    spin = "import time\nend = time.time() + 60\nwhile time.time() < end:\n    pass"
    others = [subprocess.Popen([sys.executable, "-c", spin]) for _ in os.sched_getaffinity(0)]
    watch = Watch(lambda: SleepingTeam(libraries))
    watch.start()
    try:
        deadline = time.monotonic() + 50
        while not watch.sleeps and time.monotonic() < deadline:
            torch.ones(1 << 17).add(1)
        assert watch.sleeps
    finally:
        watch.stop()
        for other in others:
            other.kill()
            other.wait()


def test_a_block_leaves_no_thread_behind_even_if_it_fails() -> None:
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="stop"), adaptive_waiting():
        raise RuntimeError("stop")
    assert set(threading.enumerate()) <= before


def test_without_gnu_openmp_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_gnu_openmp", list)
    before = set(threading.enumerate())
    with adaptive_waiting():
        assert set(threading.enumerate()) == before
