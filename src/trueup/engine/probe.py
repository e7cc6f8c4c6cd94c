"""Which steps of a plan a run takes: all that are left, or in a probe a few of them. Free of torch.

``trueup plan`` measures by a probe: real steps, spread evenly over the whole run, and the one with the longest batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Protocol, TypeVar

SECONDS = 8.0
"""How long a probe goes on with its steps, at least."""
OTHERS = 24
"""Further steps of a probe, as far as its time allows: other lengths bring other kernels, which the whole run holds."""

T_co = TypeVar("T_co", covariant=True)


class Plan(Protocol[T_co]):
    """Batches addressable by step: ``plan[k]`` is the same whether or not steps before it ran.

    A plan that knows which step has the longest batch says so as ``longest``; a probe takes that one too.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, step: int, /) -> T_co: ...


@dataclass(frozen=True)
class StepOrder:
    """The steps of ``plan`` that one run takes, and in which order.

    ``first`` is the first step that is not done yet; ``probe``, if given, how many steps are enough.
    """

    plan: Plan[Any]
    first: int = 0
    probe: int | None = None

    @property
    def partial(self) -> bool:
        """Whether only some steps are taken: in a probe, unless it would take most of them anyway."""
        return self.probe is not None and 2 * self.probe < len(self.plan)

    @property
    def steps(self) -> Sequence[int]:
        """All that are left, or the probe's, each named once."""
        if self.probe is None or not self.partial:
            return range(self.first, len(self.plan))
        return sorted(spread(len(self.plan), self.probe) | {getattr(self.plan, "longest", 0)})

    @property
    def others(self) -> Sequence[int]:
        """Steps that a probe takes beside ``steps`` if there is time; none in a run."""
        if self.probe is None or not self.partial:
            return ()
        total = len(self.plan)
        return sorted(spread(total, min(total, self.probe + OTHERS)) - set(self.steps))

    def __iter__(self) -> Iterator[int]:
        """The steps as they are taken.

        A probe goes over its steps twice, because the first time pays for kernels and pages that the whole run pays
        for once, and goes on for a while with others, because a heap takes time, and kernels of ever other lengths, to
        grow to what it will be. The last step, which measures and saves, comes once.
        """
        steps = self.steps
        if not self.partial:
            yield from steps
            return
        began = time.perf_counter()
        yield from (*steps[:-1], *steps[:-1])
        more = cycle((*self.others, *steps[:-1]))
        while time.perf_counter() - began < SECONDS:
            yield next(more)
        yield steps[-1]


def spread(total: int, steps: int) -> set[int]:
    """``steps`` of ``total`` steps at even distances, the first and the last among them."""
    return {round((total - 1) / max(1, steps - 1) * i) for i in range(steps)}


SAMPLED = 4
"""Times that a run on a file writes samples, beside those before its first step, where ``probe_every`` is not set."""


def sample_distance(every: int | None, steps: int) -> int:
    """Steps from samples to samples in a run of ``steps`` steps: ``every``, or an even share of the run."""
    return every or max(1, math.ceil(steps / SAMPLED))
