"""The loop over a plan: steps with progress, checkpoints at their time, signals that let a step finish.

loop = Loop(run, plan, save=saver(run, stepper), save_every=config.save_every)
for step, batch in loop:
    ...
    loop.time(step, pairs=len(batch))
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Generic, TypeVar

from trueup.engine.device import peak
from trueup.engine.probe import Plan, StepOrder
from trueup.engine.processes import highest
from trueup.errors import Interrupted, Paused
from trueup.ledger import Run
from trueup.ledger.progress import Progress

T = TypeVar("T")


class Loop(Generic[T]):
    """Yields ``(step, plan[step])`` from the first step not yet done.

    The first SIGINT or SIGTERM lets the running step finish, saves and raises ``Interrupted``; a second one stops at
    once. In a job of several processes a signal to one of them stops all after the same step.

    Args:
        run: Where the steps are logged; ``run.first_step`` is where it begins, ``run.probe`` how many are enough.
        plan: The batches.
        save: ``save(done)`` is called every ``save_every`` finished steps and after the last one.
        save_every: Steps between checkpoints.
        headline: Metrics that the progress shows.
    """

    def __init__(
        self,
        run: Run,
        plan: Plan[T],
        *,
        save: Callable[[int], None],
        save_every: int,
        headline: Sequence[str] = ("loss",),
    ) -> None:
        self.run = run
        self.plan = plan
        self.save = save
        self.save_every = save_every
        self.headline = headline
        self._signals = 0
        self._pause: tuple[str, str] | None = None
        self._ends = False
        self._clock = time.perf_counter()

    def __iter__(self) -> Iterator[tuple[int, T]]:
        run, total = self.run, len(self.plan)
        with self._signals_counted(), Progress(run.kind, total, run.first_step, quiet=run.quiet) as progress:
            for step in StepOrder(self.plan, run.first_step, run.probe):
                self._clock = time.perf_counter()
                yield step, self.plan[step]
                done = step + 1
                progress.update(done, {name: run.latest[name] for name in self.headline if name in run.latest})
                self._signals = int(highest(self._signals))
                last = done == total or self._ends
                if last or done % self.save_every == 0 or self._signals or self._pause:
                    began = time.perf_counter()
                    self.save(done)
                    run.event("saved", step=done, seconds=time.perf_counter() - began, **peak())
                if last:
                    return
                if self._pause is not None:
                    raise Paused(
                        f"paused after step {step} ({done} of {total} are done), everything is saved: {self._pause[0]}",
                        where=str(run.path),
                        fix=self._pause[1],
                    )
                if self._signals:
                    raise Interrupted(
                        f"interrupted after step {step} ({done} of {total} are done); everything is saved",
                        where=str(run.path),
                        fix="run the same command again to go on from here",
                    )

    def pause(self, why: str, fix: str) -> None:
        """Save after the running step and raise ``Paused``. In a job all processes must call this at the same step.

        Args:
            why: What paused it.
            fix: How to go on.
        """
        self._pause = (why, fix)

    def end(self) -> None:
        """Save after the running step and yield no more. In a job all processes must call this at the same step."""
        self._ends = True

    def time(self, step: int, **rates: float) -> None:
        """Append the seconds that ``step`` has taken so far, and how much it did in them, to timing.jsonl."""
        now = time.perf_counter()
        self.run.time(step, now - self._clock, **rates)
        self._clock = now

    @contextlib.contextmanager
    def _signals_counted(self) -> Iterator[None]:
        """Turn the first SIGINT/SIGTERM into a request; only the main thread may install handlers."""

        def handle(number: int, frame: FrameType | None) -> None:
            self._signals += 1
            if self._signals > 1:
                raise KeyboardInterrupt

        saved: dict[int, Any] = {}
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            if signal.getsignal(number) is signal.SIG_IGN:  # nohup, or a job in the background of a script
                continue
            with contextlib.suppress(ValueError):
                saved[number] = signal.signal(number, handle)
        try:
            yield
        finally:
            for number, old in saved.items():
                signal.signal(number, old)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end what comes before and after the steps as Ctrl-C does, so that run.json says so.

    Enter it around the run, which then writes how it ended before the signal has its old meaning again.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
