"""Which prompts leave room for an answer: found out for all of them before anything is sampled, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from trueup.data.read_report import Count, Loaded
from trueup.errors import DataError
from trueup.types import Prompt


class Measure(Protocol):
    """What knows how long prompts are for a model: its ``Renderer``, or whoever else writes its rows."""

    def prompt_lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, with all that is written around it."""


@dataclass(frozen=True, slots=True)
class Window:
    """How much one model can take: its own rendering of the prompt, and an answer after it."""

    owner: str
    """Which model, as a message names it: ``the policy runs/sft/final``."""
    renderer: Measure
    positions: int
    """Longest prompt plus answer in tokens."""
    limit: str
    """What says so: ``its context of 256 positions``."""
    answer: int
    """Longest answer in tokens."""
    fix: str
    """What can be done about a prompt that does not fit."""


@dataclass(slots=True)
class FitReport:
    """``prompts == kept + dropped``; reasons come with the lines of the file."""

    prompts: int
    kept: int = 0
    longest: int = 0
    """Tokens of the longest prompt in the rendering of the first model."""
    dropped: dict[str, Count] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """How many prompts are not used."""
        return self.prompts - self.kept

    def __str__(self) -> str:
        reasons = "; ".join(f"{why}: {count}" for why, count in self.dropped.items())
        return f"{self.lost} of {self.prompts} prompts are not used: {reasons}"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "prompts": self.prompts,
            "kept": self.kept,
            "longest": self.longest,
            "dropped": {why: count.to_dict() for why, count in self.dropped.items()},
        }


def fitting_prompts(
    loaded: Loaded[Prompt], windows: Sequence[Window], *, max_lost: float = 0.0, skip_refused: bool = False
) -> tuple[tuple[Prompt, ...], FitReport]:
    """The prompts that every model can answer or read whole, in order.

    Args:
        loaded: Prompts and their lines.
        windows: The models; the first is the one that answers.
        max_lost: Share of the prompts that may be dropped because they do not fit.
        skip_refused: Also drop, and count, the prompts that a template refuses; by default the first is an error.

    Raises:
        DataError: A template refuses a prompt, or too many do not fit; it names file and line.
    """
    prompts, lines = loaded.items, loaded.lines or tuple(range(1, len(loaded.items) + 1))
    loaded = replace(loaded, lines=lines)
    report = FitReport(len(prompts))
    fits, refused = [True] * len(prompts), [False] * len(prompts)
    first: DataError | None = None
    for number, window in enumerate(windows):
        for index, length in enumerate(_lengths(window, prompts)):
            if refused[index]:
                continue
            place = loaded.place(index)
            if isinstance(length, DataError):
                if not skip_refused:
                    raise DataError(
                        length.what, where=f"{place}, {length.where}", expected=length.expected, fix=length.fix
                    )
                refused[index] = True
                report.dropped.setdefault(f"{window.owner}: {length.what}", Count()).add(lines[index])
                continue
            report.longest = max(report.longest, length) if number == 0 else report.longest
            if length and length + window.answer <= window.positions:
                continue
            if fits[index]:
                report.dropped.setdefault(_reason(window, length), Count()).add(lines[index])
                first = first or _misfit(window, length, place)
            fits[index] = False
    kept = tuple(p for p, fit, bad in zip(prompts, fits, refused, strict=True) if fit and not bad)
    report.kept = len(kept)
    too_long = sum(not fit and not bad for fit, bad in zip(fits, refused, strict=True))
    if first is not None and (too_long > max_lost * len(prompts) or not kept):
        raise DataError(
            first.what + (f"; so do {too_long - 1} others" if too_long > 1 else ""),
            where=first.where,
            expected=f"at most {max_lost:.1%} of the {len(prompts)} prompts dropped (batch.max_truncated)"
            if max_lost
            else "prompts that leave room for the answer",
            fix=first.fix,
        )
    if not kept:
        raise DataError(str(report), where=loaded.report.source, expected="at least one prompt that can be used")
    return kept, report


def _lengths(window: Window, prompts: Sequence[Prompt]) -> list[int | DataError]:
    """Tokens of each prompt, or why the template refuses it."""
    try:
        return list(window.renderer.prompt_lengths(prompts))
    except DataError:
        return [_length(window, prompt) for prompt in prompts]


def _length(window: Window, prompt: Prompt) -> int | DataError:
    try:
        return window.renderer.prompt_lengths([prompt])[0]
    except DataError as error:
        return error


def _reason(window: Window, tokens: int) -> str:
    return f"no room for the answer in {window.owner}" if tokens else f"no tokens in the rendering of {window.owner}"


def _misfit(window: Window, tokens: int, place: str) -> DataError:
    if not tokens:
        return DataError(f"the prompt has no tokens for {window.owner}", where=place, fix="give it some text")
    return DataError(
        f"the prompt has {tokens} tokens for {window.owner}; with {window.answer} of the answer they exceed"
        f" {window.limit}",
        where=place,
        fix=window.fix,
    )
