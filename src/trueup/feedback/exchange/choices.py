"""Verdicts in words, and which fields of a record are the responses that they are about."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from trueup.data.verdict_words import CLEAR, ending, spoken_verdict
from trueup.errors import DataError

_ANSWER = re.compile(
    r"(?:(?:model|assistant|bot|ai|candidate|generated|human|policy)[ _-]?)?"
    r"(?:response|completion|answer|output|reply|generation|candidate|text|summary|option|continuation|translation)"
    r"(?:[ _-]?(?:[a-j]|\d{1,2}|left|right))?",
    re.IGNORECASE,
)
"""Names of fields that hold a response."""

_NO_ANSWER = re.compile(
    r"(?:.*[ _-])?(?:id|ids|idx|index|key|uuid|hash|source|origin|model|models|generator|generators|url|urls|uri|link|"
    r"href|path|file|filename|category|categories|topic|topics|domain|tag|tags|type|kind|status|state|score|scores|"
    r"rating|ratings|rank|ranks|label|labels|metadata|meta|info|language|lang|locale|split|subset|dataset|task|batch|"
    r"date|time|timestamp|created|updated|at|by|license|licence|author|user|annotator|worker|title|name|version|seed|"
    r"temperature|length|tokens|count|number|num|context|document|passage|reference|system|history|principle|persona|"
    r"guideline|guidelines|instructions|note|notes|comment|comments|rationale|reason|reasoning|explanation|html|image|"
    r"audio|video|difficulty|style|strength|confidence|agreement|reviewed|flag|flags)",
    re.IGNORECASE,
)
"""Names of fields that say something about an item and are no response to judge."""


def verdict(choice: Any, names: Sequence[str], where: str) -> dict[str, Any]:
    """What a choice says of responses that go by these names: ``answer2``, ``Answer 2``, ``B``, ``right``, ``tie``,
    ``B is slightly better``.

    Raises:
        DataError: It says nothing of them, or could mean two of them.
    """
    spoken = spoken_verdict(choice, names)
    if spoken is None:
        raise DataError(
            f"is {choice!r}"[:80],
            where=where,
            expected=f"{', '.join(names)}, tie or both_bad",
            fix="rename the choices after the fields of the responses",
        )
    if spoken.unclear:
        raise DataError(
            f"is {choice!r}, which may mean a tie or that both are bad"[:120],
            where=where,
            expected=f"{', '.join(names)}, tie or both_bad",
            fix="write tie or both_bad instead",
        )
    if spoken.place is None:
        return {"preferred": None, "strength": 0, "both_bad": spoken.both_bad}
    return preferred(spoken.place, spoken.strength)


def is_response_name(name: str) -> bool:
    """Whether a field is called as responses are: ``response``, ``answer2``, ``model_output_a``."""
    return _ANSWER.fullmatch(name.strip()) is not None


def response_fields(texts: Mapping[str, Any], named: Collection[str]) -> list[str]:
    """The fields that are responses, in their order.

    Those that answers name, and those that are called as responses are, counted ones before others; where there are
    none, all but those that are called as something else (``id``, ``source``, ``model``, ``url``, ``score``, ...).

    Args:
        texts: Fields that hold text, without the prompt's.
        named: Fields that answers of the file are about.
    """
    text_fields = [name for name, value in texts.items() if isinstance(value, str)]
    counted = [name for name in text_fields if is_response_name(name) and ending(name)]
    called = counted if len(counted) > 1 else [name for name in text_fields if is_response_name(name)]
    sure = [name for name in text_fields if name in named or name in called]
    if len(sure) > 1 or (sure and not any(name in named and not is_response_name(name) for name in sure)):
        return sure
    return [name for name in text_fields if name in sure or _NO_ANSWER.fullmatch(name.strip()) is None]


def preferred(place: int, strength: int = CLEAR) -> dict[str, Any]:
    """The answer that the response at this place is better."""
    return {"preferred": place, "strength": strength}


def tie() -> dict[str, Any]:
    """The answer that both are as good."""
    return {"preferred": None, "strength": 0, "both_bad": False}


def best_of_several(names: Sequence[str]) -> DataError:
    """The refusal of a verdict on more than two responses."""
    return DataError(
        f"{len(names)} responses with one verdict",
        where=", ".join(names)[:200],
        expected="two responses: which of several is best says nothing of the others",
        fix="write a row with chosen and rejected for each of the others, or one row with responses and ranks "
        "(1 for the best)",
    )
