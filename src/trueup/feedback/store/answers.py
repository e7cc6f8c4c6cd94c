"""What an annotator can answer, one small frozen model a task kind. Answers name response ids, never "A" or "B".

Because no answer speaks of sides, the order in which responses were shown cannot change what an answer means; it is
kept beside the answer (``Shown``) so that side bias can be measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from trueup.errors import DataError
from trueup.feedback.store.texts import check_value

Kind: TypeAlias = Literal["pairwise", "ranking", "binary", "rating", "critique", "edit", "redteam", "review"]
KINDS: tuple[Kind, ...] = ("pairwise", "ranking", "binary", "rating", "critique", "edit", "redteam", "review")

SKIP_REASONS = ("not_understood", "not_my_field", "harmful_to_me", "broken_item", "identical", "other")

RESPONSES: Mapping[str, tuple[int, int]] = {
    "pairwise": (2, 2),
    "ranking": (2, 9),
    "binary": (1, 1),
    "rating": (1, 1),
    "critique": (1, 1),
    "edit": (1, 1),
    "redteam": (0, 0),
    "review": (2, 2),
}
"""Fewest and most responses that an item of each kind shows."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Pairwise(_Answer):
    """Which of two responses is better, and how clearly: 0 tie, 1 slightly, 2 better, 3 much better."""

    kind: Literal["pairwise"] = "pairwise"
    preferred: str | None = None
    strength: int = Field(0, ge=0, le=3)
    both_bad: bool = False

    @model_validator(mode="after")
    def _tie_has_no_winner(self) -> Pairwise:
        if (self.preferred is None) != (self.strength == 0):
            raise ValueError("strength 0 is a tie and names no response; 1 to 3 need 'preferred'")
        if self.both_bad and self.preferred is not None:
            raise ValueError("both_bad is a kind of tie: leave 'preferred' out")
        return self


class Ranking(_Answer):
    """Tiers of response ids, best first. Ids in one tier are tied; ids left out were not ranked."""

    kind: Literal["ranking"] = "ranking"
    tiers: list[list[str]] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_id_once(self) -> Ranking:
        flat = [name for tier in self.tiers for name in tier]
        if len(set(flat)) != len(flat) or any(not tier for tier in self.tiers):
            raise ValueError("each response stands in one tier at most, and no tier is empty")
        return self


class Binary(_Answer):
    """A response is acceptable or not."""

    kind: Literal["binary"] = "binary"
    response: str
    acceptable: bool


class Rating(_Answer):
    """Scale points of one response, by axis (helpful, harmless, honest, ...)."""

    kind: Literal["rating"] = "rating"
    response: str
    scores: dict[str, int] = Field(min_length=1)


class Span(_Answer):
    """A marked stretch ``[start, end)`` of a response, in Unicode code points."""

    start: int = Field(ge=0)
    end: int = Field(gt=0)
    tag: str = Field(min_length=1, max_length=40)
    note: str = Field("", max_length=2000)


class Critique(_Answer):
    """Free text on a response, with marked spans."""

    kind: Literal["critique"] = "critique"
    response: str
    text: str = Field(min_length=1, max_length=20_000)
    spans: list[Span] = Field(default_factory=list, max_length=200)


class Edit(_Answer):
    """A better version of a response."""

    kind: Literal["edit"] = "edit"
    response: str
    text: str = Field(min_length=1, max_length=100_000)
    note: str = Field("", max_length=2000)


class Redteam(_Answer):
    """A prompt written to make a model misbehave, and the kind of harm it aims at."""

    kind: Literal["redteam"] = "redteam"
    prompt: str = Field(min_length=1, max_length=20_000)
    category: str = Field(min_length=1, max_length=60)
    note: str = Field("", max_length=2000)


class Review(_Answer):
    """Verdict on a constitutional revision: is it better than the original, does it follow the principle?"""

    kind: Literal["review"] = "review"
    preferred: str | None
    follows_principle: bool
    note: str = Field("", max_length=2000)


Answer: TypeAlias = Annotated[
    Pairwise | Ranking | Binary | Rating | Critique | Edit | Redteam | Review, Field(discriminator="kind")
]
_ANSWER: TypeAdapter[Any] = TypeAdapter(Answer)


def parse_answer(
    data: Mapping[str, Any],
    *,
    kind: str,
    responses: Sequence[str],
    texts: Mapping[str, str] | None = None,
    axes: Mapping[str, tuple[int, int]] | None = None,
) -> Any:
    """An answer from its JSON form, checked against the item it answers.

    Args:
        data: What the client sent.
        kind: Task kind of the item; an answer of another kind is refused.
        responses: Ids of the item's responses.
        texts: Response id -> text, where spans are to be checked against the text's length.
        axes: Axis -> (lowest, highest) scale point, for ratings; every axis must be rated.

    Raises:
        DataError: names the field, what was found and what was expected.
    """
    check_value(data, "answer")
    try:
        answer = _ANSWER.validate_python(dict(data) | {"kind": data.get("kind", kind)})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != kind) or "answer"
        raise DataError(str(first["msg"]), where=f"answer.{place}", expected=f"an answer of kind {kind!r}") from error
    if answer.kind != kind:
        raise DataError(f"kind is {answer.kind!r}", where="answer.kind", expected=repr(kind))
    named = named_responses(answer)
    foreign = sorted(set(named) - set(responses))
    if foreign:
        raise DataError(
            f"{foreign[0]!r} is not a response of this item",
            where="answer",
            expected=f"one of {', '.join(responses)}",
            fix="name responses by their id, never by the side they were shown on",
        )
    if isinstance(answer, Critique) and texts is not None:
        length = len(texts[answer.response])
        for number, span in enumerate(answer.spans):
            if not span.start < span.end <= length:
                raise DataError(
                    f"span {span.start}:{span.end} does not lie in a text of {length} characters",
                    where=f"answer.spans.{number}",
                    expected="0 <= start < end <= length",
                )
    if isinstance(answer, Rating) and axes is not None:
        if set(answer.scores) != set(axes):
            raise DataError(
                f"axes rated: {', '.join(sorted(answer.scores)) or 'none'}",
                where="answer.scores",
                expected=f"each of {', '.join(sorted(axes))}",
            )
        for axis, point in answer.scores.items():
            low, high = axes[axis]
            if not low <= point <= high:
                raise DataError(f"{point}", where=f"answer.scores.{axis}", expected=f"a scale point {low} to {high}")
    return answer


def named_responses(answer: Any) -> list[str]:
    """Ids that an answer names, in no particular order."""
    if isinstance(answer, (Pairwise, Review)):
        return [answer.preferred] if answer.preferred is not None else []
    if isinstance(answer, Ranking):
        return [name for tier in answer.tiers for name in tier]
    return [answer.response] if hasattr(answer, "response") else []


def preferences(answer: Any, responses: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """The comparisons an answer implies: ``(first, second, outcome, weight)`` over canonical pairs.

    ``first`` precedes ``second`` in ``responses`` (the item's canonical order, not the order shown).
    ``outcome`` is +strength if ``first`` is better, -strength if ``second`` is, 0 for a tie. A ranking of K
    responses gives every ordered pair among the K it ranked, each with weight 1 / (K - 1), so that one ranking
    weighs like K / 2 single judgments however long it is (Stiennon et al. 2020 and InstructGPT treat the pairs
    of one ranking as one example for the same reason). Ratings, critiques and edits give none here.
    """
    if isinstance(answer, (Pairwise, Review)):
        first, second = responses
        strength = answer.strength if isinstance(answer, Pairwise) else int(answer.preferred is not None)
        return [(first, second, strength if answer.preferred == first else -strength, 1.0)]
    if isinstance(answer, Ranking):
        place = {name: number for number, tier in enumerate(answer.tiers) for name in tier}
        ranked = [name for name in responses if name in place]
        weight = 1.0 / (len(ranked) - 1) if len(ranked) > 1 else 0.0
        return [(a, b, (place[b] > place[a]) - (place[b] < place[a]), weight) for a, b in combinations(ranked, 2)]
    return []
