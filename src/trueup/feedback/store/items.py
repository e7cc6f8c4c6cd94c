"""What an item to judge is before it is stored, and every check that it has to pass; nothing here opens a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trueup.data.splits import SPLITS
from trueup.errors import DataError, nearest
from trueup.feedback.store.answers import KINDS, RESPONSES, parse_answer
from trueup.feedback.store.records import STREAMS
from trueup.feedback.store.template_settings import TemplateSettings, check_allowed, scales
from trueup.feedback.store.texts import check_value
from trueup.types import Prompt, prompt_json

_SPLIT_WORDS = (
    *((stem, "validation") for stem in ("val", "dev", "eval")),
    *((stem, "test") for stem in ("test", "held", "holdout")),
    *((stem, "train") for stem in ("train", "fit")),
)
"""How names of splits begin that are in ``data.splits.SPLIT_NAMES`` not, and which of ours is suggested for them."""

LONGEST_NAME = 200
"""Characters of a generator's name."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """One item to judge. ``gold`` is a right answer that speaks of response *places*: see ``by_id``."""

    prompt: Prompt
    responses: tuple[str, ...] = ()
    generators: tuple[str, ...] = ()
    stream: str = "main"
    split: str | None = None
    gold: Mapping[str, Any] | None = None
    explanation: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)


def check_item(kind: str, row: NewItem, settings: TemplateSettings | None = None) -> None:
    """Refuse an item that cannot be judged.

    Args:
        kind: Task kind.
        row: The item.
        settings: Of its template, where that is known: a gold answer must be one that people can give.

    Raises:
        DataError: Names the field.
    """
    if kind not in KINDS:
        raise DataError(f"kind is {kind!r}", where="kind", expected=nearest(kind, KINDS))
    check_value(prompt_json(row.prompt), "prompt")
    for name in ("responses", "generators", "stream", "split", "gold", "explanation", "context"):
        check_value(getattr(row, name), name)
    fewest, most = RESPONSES[kind]
    if not fewest <= len(row.responses) <= most:
        fix = "leave some out, or import them as pairs" if kind == "ranking" and len(row.responses) > most else None
        expected = f"{fewest} to {most}" if most > fewest else f"{most}, because the task kind is {kind}"
        raise DataError(f"{len(row.responses)} responses", where="responses", expected=expected, fix=fix)
    for place, text in enumerate(row.responses):
        if not text.strip():
            raise DataError("a response is empty", where="responses", expected=f"some text at place {place}")
    if len(set(row.responses)) != len(row.responses):
        raise DataError("two responses are the same text", where="responses", fix="take the row out")
    if len(row.generators) > len(row.responses):
        raise DataError(
            f"{len(row.generators)} names for {len(row.responses)} responses", where="generators", expected="one each"
        )
    if any(len(name) > LONGEST_NAME for name in row.generators):
        raise DataError(f"a name has more than {LONGEST_NAME} characters", where="generators")
    if row.stream not in STREAMS:
        raise DataError(f"stream is {row.stream!r}"[:80], where="stream", expected=nearest(row.stream, STREAMS))
    if row.split is not None and row.split not in SPLITS:
        meant = next((name for stem, name in _SPLIT_WORDS if row.split.strip().lower().startswith(stem)), row.split)
        raise DataError(f"split is {row.split!r}"[:80], where="split", expected=nearest(meant, SPLITS), fix="rename it")
    if row.gold is None and row.stream in ("gold", "calibration"):
        raise DataError(f"a {row.stream} item has no right answer", where="gold", expected="an answer")
    if row.gold is not None:
        check_placed(kind, row, row.gold, "gold", settings)
    revision = row.context.get("revision")
    if isinstance(revision, (int, float)) and revision not in range(len(row.responses)):
        raise DataError(
            f"is {revision!r}", where="context.revision", expected=f"a response's place, 0 to {len(row.responses) - 1}"
        )


def check_placed(
    kind: str, row: NewItem, answer: Mapping[str, Any], where: str, settings: TemplateSettings | None = None
) -> None:
    """Refuse an answer that names responses by place and is none to this item.

    Raises:
        DataError: Names the field, under ``where``.
    """
    if not answer:  # of some kinds it would be a tie, which nobody said
        raise DataError("is empty", where=where, expected=f"an answer of kind {kind!r}")
    names = [str(place) for place in range(len(row.responses))]
    for field_, value in _named(answer, where):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(names):
            expected = f"a place, 0 to {len(names) - 1}" if names else "no response: this task kind has none"
            raise DataError(f"names the response {value!r}"[:80], where=f"{where}.{field_}", expected=expected)
    texts = dict(zip(names, row.responses, strict=True))
    try:
        axes = None if settings is None else scales(settings)
        parsed = parse_answer(by_id(answer, names), kind=kind, responses=names, texts=texts, axes=axes)
        if settings is not None:
            check_allowed(parsed, settings)
    except DataError as error:
        place = (error.where or "").replace("answer", where, 1)
        raise DataError(error.what, where=place, expected=error.expected, fix=error.fix) from None


def _named(answer: Mapping[str, Any], where: str) -> list[tuple[str, Any]]:
    names = [(name, answer[name]) for name in ("preferred", "response") if answer.get(name) is not None]
    tiers = answer.get("tiers", [])
    if not isinstance(tiers, list) or not all(isinstance(tier, list) for tier in tiers):
        raise DataError(f"is {tiers!r}"[:80], where=f"{where}.tiers", expected="lists of places, best first")
    return [*names, *(("tiers", place) for tier in tiers for place in tier)]


def by_id(answer: Mapping[str, Any], ids: Sequence[str]) -> dict[str, Any]:
    """An answer that names responses by place, with their ids instead.

    ``{"preferred": 0, "strength": 2}``, ``{"tiers": [[1], [0]]}``: ids are only made when an item is stored.
    """
    named = dict(answer)
    for key in ("preferred", "response"):
        if isinstance(named.get(key), int) and not isinstance(named[key], bool):
            named[key] = ids[named[key]]
    if "tiers" in named:
        named["tiers"] = [[ids[place] for place in tier] for tier in named["tiers"]]
    return named
