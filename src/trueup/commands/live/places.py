"""The answers of a run by step, as they are listed: what is known of each without reading its text.

N  answers
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from trueup.commands.live.sample_index import COMPARED, LABELLED, SCORED, Records
from trueup.web.explorer.source import Order

SORTS: tuple[Order, ...] = get_args(Order)
_KEY = re.compile(r"[0-9a-f]{1,12}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one sample stands in the file, and what lists are made from."""

    step: int
    offset: int
    size: int
    prompt: str
    """12 hex digits of the prompt's hash."""
    turn: int
    """Which of the step's answers to that prompt it is, from 0."""
    score: float | None
    """What the reward said of the answer; in the run of a reward model, what that says of it by now."""
    log_ratio: float | None
    """How much more likely the answer is than to the reference, in nats: one draw of the KL."""
    labelled: bool
    """Whether the answer is one of the data, with a label; those of one prompt come from the best to the worst."""
    length: int
    """Words of the answer."""


class Places:
    """The answers that were read by some moment; it does not change.

    Args:
        records_N: What the index holds of each, in the order of the file.
    """

    def __init__(self, records_N: Records) -> None:
        self.records_N = records_N
        steps_N = records_N["step"].astype(np.int64)
        self._order = None if bool((np.diff(steps_N) >= 0).all()) else np.argsort(steps_N, kind="stable")
        listed, starts = np.unique(steps_N if self._order is None else steps_N[self._order], return_index=True)
        self.steps: list[int] = listed.tolist()
        """Steps that have answers."""
        bounds = [*starts.tolist(), len(steps_N)]
        self._spans: dict[int, tuple[int, int]] = {
            step: (bounds[n], bounds[n + 1]) for n, step in enumerate(self.steps)
        }

    def count(self, step: int) -> int:
        """Answers of a step."""
        start, end = self._spans.get(step, (0, 0))
        return end - start

    def rows(self, step: int) -> slice | npt.NDArray[np.intp]:
        """Which of the records are those of a step."""
        span = slice(*self._spans.get(step, (0, 0)))
        return span if self._order is None else self._order[span]

    def digest(self, step: int) -> bytes:
        """What changes when anything of a step's records does."""
        return hashlib.sha256(self.records_N[self.rows(step)].tobytes()).digest()

    def of(self, step: int) -> list[Place]:
        """The answers of a step, in the order of the file."""
        return _places(self.records_N[self.rows(step)])

    def answers_to(self, prompt: str) -> list[Place]:
        """The answers to a prompt, whose key begins so: by step, those of one step in the order of the file."""
        if not _KEY.fullmatch(prompt):
            return []
        bits = 4 * (12 - len(prompt))
        is_asked_N = self.records_N["prompt"] >> np.uint64(bits) == np.uint64(int(prompt, 16))
        records_N = self.records_N[is_asked_N]
        return _places(records_N[np.argsort(records_N["step"], kind="stable")])

    def summary(self, step: int) -> dict[str, Any]:
        """Of a step: answers, mean, p10, median and p90 of their scores, mean log-ratio, margin and words."""
        records_N = self.records_N[self.rows(step)]
        scores, ratios = (_finite(records_N, name, flag) for name, flag in (("score", SCORED), ("log_ratio", COMPARED)))
        margins = _margins(self.of(step)) if (records_N["known"] & LABELLED).any() else []
        low, middle, high = np.quantile(scores, (0.1, 0.5, 0.9)) if len(scores) else (None, None, None)
        return {
            "step": step,
            "answers": len(records_N),
            "mean": float(np.mean(scores)) if len(scores) else None,
            "p10": None if low is None else float(low),
            "median": None if middle is None else float(middle),
            "p90": None if high is None else float(high),
            "log_ratio": float(np.mean(ratios)) if len(ratios) else None,
            "margin": float(np.mean(margins)) if margins else None,
            "words": float(np.mean(records_N["words"])),
        }


def _places(records_N: Records) -> list[Place]:
    """Records in the order given, all answers to a prompt at a step among them."""
    names = ("step", "offset", "size", "prompt", "score", "log_ratio", "known", "words")
    turns: Counter[tuple[int, int]] = Counter()
    places = []
    for step, offset, size, prompt, score, ratio, known, words in zip(
        *(records_N[name].tolist() for name in names), strict=True
    ):
        places.append(
            Place(
                step=step,
                offset=offset,
                size=size,
                prompt=f"{prompt:012x}",
                turn=turns[step, prompt],
                score=score if known & SCORED else None,
                log_ratio=ratio if known & COMPARED else None,
                labelled=bool(known & LABELLED),
                length=words,
            )
        )
        turns[step, prompt] += 1
    return places


def _finite(records_N: Records, name: str, flag: int) -> npt.NDArray[np.float64]:
    """The finite ones of the numbers that are known."""
    values: npt.NDArray[np.float64] = records_N[name][(records_N["known"] & flag) > 0]
    return values[np.isfinite(values)]


def ordered(places: Sequence[Place], sort: str) -> list[Place]:
    """Places in one of ``SORTS``; those without what it goes by come last. Answers to one prompt stay together,
    where the first of them comes."""
    middle = _typical(places)
    keys: dict[str, Callable[[Place], Any]] = {
        "reward": lambda p: (p.score is None, -(p.score or 0.0)),
        "reward-low": lambda p: (p.score is None, p.score or 0.0),
        "typical": lambda p: (middle(p) is None, middle(p) or 0.0),
        "kl": lambda p: (p.log_ratio is None, -(p.log_ratio or 0.0)),
        "kl-low": lambda p: (p.log_ratio is None, p.log_ratio or 0.0),
        "length": lambda p: -p.length,
        "length-short": lambda p: p.length,
    }
    ordered = sorted(places, key=keys[sort]) if sort in keys else list(places)
    groups: dict[str, list[Place]] = {}
    for place in ordered:
        groups.setdefault(place.prompt, []).append(place)
    return [place for group in groups.values() for place in group]


def _typical(places: Sequence[Place]) -> Callable[[Place], float | None]:
    """How far from the middle of its step an answer is: by score, else by log-ratio, else by length."""
    kinds: tuple[Callable[[Place], float | None], ...] = (lambda p: p.score, lambda p: p.log_ratio, lambda p: p.length)
    for of in kinds:
        known = [value for place in places if (value := of(place)) is not None and np.isfinite(value)]
        if known:
            middle = float(np.median(known))
            return lambda place: None if (value := of(place)) is None else abs(value - middle)
    return lambda place: None


def _margins(places: Sequence[Place]) -> list[float]:
    """By how much the best labelled answer to each prompt is scored above the worst one."""
    groups: dict[str, list[float]] = {}
    for place in places:
        if place.labelled and place.score is not None and np.isfinite(place.score):
            groups.setdefault(place.prompt, []).append(place.score)
    return [scores[0] - scores[-1] for scores in groups.values() if len(scores) > 1]
