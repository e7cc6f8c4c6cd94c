"""A project's judgments as answers that speak of places, so that they can leave with texts instead of ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.feedback.records import TRAINABLE, ItemRow, Judged, JudgmentRow
from trueup.feedback.selection import prompt_key, split_of_prompts


@dataclass(frozen=True, slots=True)
class Case:
    """An item with the judgments it was given, in order of time."""

    item: ItemRow
    judgments: tuple[JudgmentRow, ...]

    @property
    def texts(self) -> list[str]:
        """The responses, in the item's order."""
        return [one.text for one in self.item.responses]

    def placed(self, answer: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The answer with places instead of ids."""
        return placed(answer, [one.id for one in self.item.responses])

    def shown(self, judgment: JudgmentRow) -> list[int] | None:
        """Places in the order shown; None where it was not recorded."""
        place = {one.id: number for number, one in enumerate(self.item.responses)}
        return [place[name] for name in judgment.shown] if judgment.shown else None


def cases(judged: Judged) -> Iterator[Case]:
    """Every item of a project, in the project's order."""
    given: dict[str, list[JudgmentRow]] = {}
    for row in judged.judgments:
        given.setdefault(row.item, []).append(row)
    for item in judged.items.values():
        yield Case(item, tuple(given.get(item.id, ())))


def open_cases(judged: Judged, kinds: Sequence[str], format: str, left_out: list[tuple[str, str]]) -> Iterator[Case]:
    """Judged items that a format without streams may carry: main and hold-out, of these kinds; the rest is counted."""
    splits = split_of_prompts(judged)
    for case in cases(judged):
        if case.item.stream not in TRAINABLE:
            left_out.append((case.item.id, f"stream {case.item.stream}"))
        elif case.item.kind not in kinds:
            left_out.append((case.item.id, f"kind {case.item.kind} has no place in the format {format}"))
        elif not case.judgments:
            left_out.append((case.item.id, "no answer"))
        elif split_of(case.item) != splits[prompt_key(case.item.prompt)]:
            left_out.append((case.item.id, f"prompt is in the {splits[prompt_key(case.item.prompt)]} split too"))
        else:
            yield case


def placed(answer: Mapping[str, Any] | None, ids: Sequence[str]) -> dict[str, Any] | None:
    """The inverse of ``projects.by_id``: an answer that names responses by id, with their places instead."""
    if answer is None:
        return None
    place: Callable[[str], int] = list(ids).index
    found = {name: value for name, value in answer.items() if name != "kind"}
    for name in ("preferred", "response"):
        if found.get(name) is not None:
            found[name] = place(found[name])
    if "tiers" in found:
        found["tiers"] = [[place(one) for one in tier] for tier in found["tiers"]]
    return found


def split_of(item: ItemRow) -> str:
    """The split that leaves: the random hold-out stream is the unbiased test set."""
    return "test" if item.stream == "holdout" else item.split
