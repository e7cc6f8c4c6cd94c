"""A project's judgments as answers that speak of places, so that they can leave with texts instead of ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.feedback.snapshot.candidates import prompt_key
from trueup.feedback.snapshot.selection import split_of_prompts
from trueup.feedback.store.records import TRAINABLE, ItemRow, Judged, JudgmentRow


@dataclass(frozen=True, slots=True)
class Case:
    """An item with the judgments it was given, in order of time."""

    item: ItemRow
    judgments: tuple[JudgmentRow, ...]

    @property
    def texts(self) -> list[str]:
        """The responses, in the item's order."""
        return [response.text for response in self.item.responses]

    def placed(self, answer: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The answer with places instead of ids."""
        return placed(answer, [response.id for response in self.item.responses])

    def shown(self, judgment: JudgmentRow) -> list[int] | None:
        """Places in the order shown; None where it was not recorded."""
        place = {response.id: number for number, response in enumerate(self.item.responses)}
        return [place[name] for name in judgment.shown] if judgment.shown else None


def cases(judged: Judged) -> Iterator[Case]:
    """Every item of a project, in the project's order."""
    judgments: dict[str, list[JudgmentRow]] = {}
    for row in judged.judgments:
        judgments.setdefault(row.item, []).append(row)
    for item in judged.items.values():
        yield Case(item, tuple(judgments.get(item.id, ())))


def open_cases(judged: Judged, kinds: Sequence[str], format: str, left_out: list[tuple[str, str]]) -> Iterator[Case]:
    """Judged items that a format without streams may carry: main and hold-out, of these kinds; the rest is counted.

    Surplus, which such a format cannot mark, is left out.
    """
    splits = split_of_prompts(judged)
    left_out += [
        (row.item, "surplus: it came after its seat was taken back") for row in judged.judgments if row.surplus
    ]
    for case in cases(judged.without_surplus()):
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
    by_place = {name: value for name, value in answer.items() if name != "kind"}
    for name in ("preferred", "response"):
        if by_place.get(name) is not None:
            by_place[name] = place(by_place[name])
    if "tiers" in by_place:
        by_place["tiers"] = [[place(response_id) for response_id in tier] for tier in by_place["tiers"]]
    return by_place


def split_of(item: ItemRow) -> str:
    """The split that leaves: the random hold-out stream is the unbiased test set."""
    return "test" if item.stream == "holdout" else item.split
