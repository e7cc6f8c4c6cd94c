"""The numbers of a run, column by column, and how many of them a screen can show.

N   values of one metric that lie in a range of steps
BW  buckets of equal width
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

GAPS = ("nan", "inf", "-inf")
"""How a run writes a value that is no number."""
LARGEST_STEP = 2**53 - 1


def number_of(value: Any) -> float | None:
    """A logged value as a float, typed gaps too; None for what is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return None
    return float(value) if isinstance(value, str) and value in GAPS else None


def as_json(value: float) -> float | str:
    """A float as it is written: JSON has no NaN."""
    return value if math.isfinite(value) else str(value)


class _Together:
    """Metrics that have values at exactly the same steps, which are held once for all of them."""

    __slots__ = ("names", "steps")

    def __init__(self, names: set[str], steps: array[int]) -> None:
        self.names, self.steps = names, steps


_NONE = _Together(set(), array("q"))
_MOST_SHAPES = 64
"""Sets of metrics of a row that are remembered; a run has a handful."""


class Columns:
    """Values by metric; each metric has its own steps, because some are measured at a few steps only.

    Eight bytes are held for each value, and eight for each step of metrics that always come together.
    """

    def __init__(self) -> None:
        self.first_step: int | None = None
        self.last_step: int | None = None
        self.rows = 0
        self._values: dict[str, array[float]] = {}
        self._together: dict[str, _Together] = {}
        self._shapes: dict[tuple[str, ...], list[_Together]] = {}

    def append(self, row: Mapping[str, Any]) -> bool:
        """Add the numbers of a row, unless its step is not past the last one: then False."""
        step = row.get("step")
        if not isinstance(step, int) or step > LARGEST_STEP:
            return False
        if self.last_step is not None and step <= self.last_step:
            return False
        self.first_step = step if self.first_step is None else self.first_step
        self.last_step = step
        self.rows += 1
        numbers: dict[str, float] = {}
        for name, raw in row.items():
            value = raw if type(raw) is float else None if name == "step" else number_of(raw)
            if value is not None:
                numbers[name] = value
        names = tuple(numbers)
        groups = self._shapes.get(names) or self._arrange(names)
        for name, value in numbers.items():
            self._values[name].append(value)
        for group in groups:  # last: who reads meanwhile takes as many values as there are steps
            group.steps.append(step)
        return True

    def _arrange(self, names: tuple[str, ...]) -> list[_Together]:
        """The groups that make up a row of these metrics; one that only some of them belong to is parted."""
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        row, groups = set(names), []
        fresh = _Together({name for name in names if name not in self._together}, array("q"))
        for name in names:
            if name in fresh.names:
                self._together[name], self._values[name] = fresh, array("d")
            group = self._together[name]
            if not group.names <= row:
                part = _Together(group.names & row, group.steps[:])
                group.names = group.names - row
                self._together |= dict.fromkeys(part.names, part)
                self._shapes.clear()
                group = part
            if group not in groups:
                groups.append(group)
        self._shapes[names] = groups
        return groups

    def pack(self) -> tuple[dict[str, Any], bytes]:
        """All of it, as what JSON takes and the bytes of the numbers, for ``unpack``."""
        groups = list({id(group): group for group in self._together.values()}.values())
        names = [[name for name in self._values if name in group.names] for group in groups]
        head = {
            "first": self.first_step,
            "last": self.last_step,
            "rows": self.rows,
            "names": self.names,
            "groups": [[len(group.steps), listed] for group, listed in zip(groups, names, strict=True)],
        }
        body: list[bytes] = []
        for group, listed in zip(groups, names, strict=True):
            body += [group.steps.tobytes(), *(self._values[name].tobytes() for name in listed)]
        return head, b"".join(body)

    @classmethod
    def unpack(cls, head: Mapping[str, Any], body: bytes) -> Columns:
        """Back from what ``pack`` gave.

        Raises:
            ValueError: The bytes are not as many as the head says.
            KeyError: The head lacks something.
        """
        columns = cls()
        columns.first_step, columns.last_step, columns.rows = head["first"], head["last"], head["rows"]
        values: dict[str, array[float]] = {}
        at = 0
        for count, names in head["groups"]:
            together = _Together(set(names), array("q", body[at : at + 8 * count]))
            for name in names:
                at += 8 * count
                values[name] = array("d", body[at : at + 8 * count])
            at += 8 * count
            columns._together |= dict.fromkeys(names, together)
        if at != len(body):
            raise ValueError(f"{len(body)} bytes of numbers, expected {at}")
        columns._values = {name: values[name] for name in head["names"]}
        return columns

    @property
    def names(self) -> list[str]:
        """Metrics that have a value, in the order in which they came."""
        return list(self._values)

    @property
    def bytes(self) -> int:
        """Bytes that the numbers take."""
        groups = {id(group): group for group in list(self._together.values())}
        steps = [group.steps for group in groups.values()]
        return 8 * (sum(map(len, steps)) + sum(map(len, list(self._values.values()))))

    def last(self, name: str) -> float | None:
        """The newest value of a metric."""
        values = self._values.get(name)
        return values[-1] if values else None

    def _steps(self, name: str) -> array[int]:
        return self._together.get(name, _NONE).steps

    def _read(self, name: str) -> tuple[array[int], array[float]]:
        """Copies of steps and values, as many of one as of the other even while somebody appends."""
        steps = self._steps(name)[:]
        return steps, self._values.get(name, array("d"))[: len(steps)]

    def pairs(self, name: str) -> Iterator[tuple[int, float]]:
        """(step, value) of a metric, oldest first."""
        return zip(*self._read(name), strict=True)

    def curve(self, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Steps and values of a metric where it is finite."""
        steps, values = map(np.array, self._read(name))
        finite = np.isfinite(values)
        return steps[finite], values[finite]

    def first_gap(self, name: str) -> tuple[int, float] | None:
        """The first step at which a metric was no number, and what it was."""
        steps, values = self._read(name)
        odd = np.flatnonzero(~np.isfinite(np.array(values)))
        return None if not len(odd) else (steps[int(odd[0])], values[int(odd[0])])

    def decimate(
        self, name: str, points: int, first: int | None = None, last: int | None = None
    ) -> tuple[list[int], list[float]]:
        """Steps and values of a metric between two steps, at most about ``points`` of them.

        Each bucket gives its lowest and its highest value and the first that is no number, so that no spike and no gap
        is lost.
        """
        all_steps, all_values = self._read(name)
        low = 0 if first is None else bisect_left(all_steps, first)
        high = len(all_steps) if last is None else bisect_right(all_steps, last)
        steps, values = all_steps[low:high], all_values[low:high]
        if len(values) <= max(points, 4):
            return list(steps), list(values)
        kept = extremes(np.array(values), max(points // 2, 2))
        return [steps[place] for place in kept], [values[place] for place in kept]


def extremes(values_N: npt.NDArray[np.float64], buckets: int) -> list[int]:
    """Places of the ends, and of the lowest, the highest and the first non-finite value of each bucket, in order."""
    count = len(values_N)
    width = -(-count // buckets)
    padded = np.full(width * -(-count // width), np.nan)
    padded[:count] = values_N
    real = np.zeros(len(padded), dtype=bool)
    real[:count] = True
    grid_BW, real_BW = padded.reshape(-1, width), real.reshape(-1, width)
    finite_BW = np.isfinite(grid_BW)
    odd_BW = real_BW & ~finite_BW
    starts = np.arange(len(grid_BW)) * width
    some, odd = finite_BW.any(axis=1), odd_BW.any(axis=1)
    lowest = starts + np.where(finite_BW, grid_BW, np.inf).argmin(axis=1)
    highest = starts + np.where(finite_BW, grid_BW, -np.inf).argmax(axis=1)
    places = np.concatenate([[0, count - 1], lowest[some], highest[some], (starts + odd_BW.argmax(axis=1))[odd]])
    return [int(place) for place in np.unique(places)]
