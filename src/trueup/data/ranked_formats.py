"""Rankings and ratings of several responses, and the C(K,2) pairs that they give.

Ouyang et al. 2022 (arXiv:2203.02155, section 3.5) train on all K(K-1)/2 pairs of a ranking; a tie says nothing about
which is better and gives no pair. OpenAssistant (arXiv:2304.07327) ranks the replies to one message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, TypeAlias

from trueup.data.conversations import asking
from trueup.data.fields import Fault, Row, checked_number, checked_text, identifier, items, present, short
from trueup.data.formats import (
    NO_WEIGHT,
    PROMPT,
    PROMPT_USES,
    RESPONSE_COLUMNS,
    Format,
    LeftOut,
    Made,
    prompt_of,
    texts,
    tuple_of_names,
    weight_of,
)
from trueup.types import Message, PreferencePair, Prompt, Ranked

TIE = "a tie"
SAME = "the same text twice in one ranking"
ALONE = "a prompt with one rated response"
NO_PAIRS = (
    "a pair needs two rated responses to one prompt: rate more responses, or turn the ratings into yes and no"
    " (a column label) and train with `trueup kto`"
)
_SCORES = ("rating", "score", "overall_score", "fine-grained_score")


def pairs_of(ranked: Ranked) -> Iterator[PreferencePair | LeftOut]:
    """All pairs of a ranking in which one response is better; ties and equal texts are left out, and said so."""
    for (first, rank_1), (second, rank_2) in combinations(zip(ranked.responses, ranked.ranks, strict=True), 2):
        if first == second:
            yield LeftOut(SAME)
        elif rank_1 == rank_2:
            yield LeftOut(TIE)
        else:
            better, worse = (first, second) if rank_1 < rank_2 else (second, first)
            yield PreferencePair(ranked.prompt, better, worse, origin=ranked.origin, weight=ranked.weight)


def _dense(values: Sequence[float]) -> tuple[int, ...]:
    """Ranks 0, 1, ... of ``values``, smallest first; equal values share a rank."""
    order = {value: rank for rank, value in enumerate(sorted(set(values)))}
    return tuple(order[value] for value in values)


def _weighted(convert: Callable[[Row], Made[Ranked]]) -> Callable[[Row], Made[Ranked]]:
    """``convert``, with the row's weight for each pair of its ranking."""

    def ranked(row: Row) -> Made[Ranked]:
        weight = weight_of(row)
        for item in convert(row):
            if not isinstance(item, Ranked):
                yield item
            elif weight == 0:
                yield LeftOut(NO_WEIGHT)
            else:
                yield replace(item, weight=weight)

    return ranked


def _ranks(row: Row) -> Made[Ranked]:
    responses = texts(row, "responses", at_least=2)
    cells = items(row, "ranks")
    _same_length(responses, cells, "ranks")
    ranks = {n: checked_number(v, f"ranks[{n}]") for n, v in enumerate(cells) if v is not None}
    if len(ranks) < len(cells):
        yield LeftOut("a response without a rank", len(cells) - len(ranks))
    if len(ranks) < 2:
        yield LeftOut("fewer than two ranked responses")
        return
    ranked = tuple(responses[n] for n in ranks)
    yield Ranked(prompt_of(row), ranked, _dense(list(ranks.values())), tuple_of_names(row, "origin"))


def _ratings(row: Row) -> Made[Ranked]:
    name = "ratings" if "ratings" in row else "scores"
    responses = texts(row, "responses", at_least=2)
    ratings = [rating_of(v, f"{name}[{n}]") for n, v in enumerate(items(row, name))]
    _same_length(responses, ratings, name)
    rated = list(zip(responses, ratings, strict=True))
    yield from _by_rating(prompt_of(row), rated, tuple_of_names(row, "origin"))


def _same_length(responses: Sequence[str], values: Sequence[Any], name: str) -> None:
    if len(responses) != len(values):
        raise Fault(
            f"{name} and responses differ in length",
            f"has {len(values)} entries for {len(responses)} responses",
            field=name,
            expected="one entry for each response",
        )


# Ratings --------------------------------------------------------------------------------------------------------------

Rating: TypeAlias = Mapping[str, float]
"""Axis -> rating; a rating without axes has the axis ``""``."""
_ABSENT = ("N/A", "n/a", "", None)
"""How a rating that was not given is spelled."""


def rating_of(value: Any, name: str) -> Rating:
    """A number, or numbers by axis: plain, or as UltraFeedback has them, ``{"Rating": "4", ...}``; those not given
    are left out."""
    if not isinstance(value, Mapping):
        return {} if isinstance(value, str) and value in _ABSENT else {"": checked_number(value, name)}
    axes = {}
    for axis, cell in value.items():
        where = f"{name}.{axis}"
        if isinstance(cell, Mapping):
            cell, where = next(
                ((cell[k], f"{where}.{k}") for k in ("Rating", "rating", "score") if k in cell), (None, where)
            )
        if not (cell is None or (isinstance(cell, str) and cell in _ABSENT)):
            axes[str(axis)] = checked_number(cell, where)
    return axes


def _levels(ratings: Sequence[Rating]) -> list[float] | None:
    """One number for each rating, the higher the better: its mean over the axes that all have; None without such."""
    shared = set(ratings[0]).intersection(*ratings[1:])
    return [sum(r[axis] for axis in shared) / len(shared) for r in ratings] if shared else None


def _by_rating(
    prompt: Prompt, rated: Sequence[tuple[str, Rating]], origin: tuple[str, ...] = ()
) -> Iterator[Ranked | LeftOut]:
    """One ranking of the responses that have a rating."""
    usable = [(response, rating) for response, rating in rated if rating]
    if len(usable) < len(rated):
        yield LeftOut("a response without a rating", len(rated) - len(usable))
    if len(usable) < 2:
        yield LeftOut(ALONE)
        return
    levels = _levels([rating for _, rating in usable])
    if levels is None:
        yield LeftOut("responses that were rated on different axes")
        return
    yield Ranked(prompt, tuple(response for response, _ in usable), _dense([-level for level in levels]), origin)


def _completion_objects(row: Row) -> Made[Ranked]:
    prompt = prompt_of(row)
    entries = items(row, "completions")
    ratings = [_completion_rating(entry, f"completions[{n}]") for n, entry in enumerate(entries)]
    texts_ = [
        checked_text(next(entry[k] for k in _SAID if k in entry), f"completions[{n}]")
        for n, entry in enumerate(entries)
    ]
    yield from _by_rating(prompt, list(zip(texts_, ratings, strict=True)))


_SAID = ("response", "completion", "text")


def _completion_rating(entry: Any, field: str) -> Rating:
    has_text = isinstance(entry, Mapping) and any(k in entry for k in _SAID)
    score = next((k for k in (*_SCORES, "annotations") if has_text and entry.get(k) is not None), None)
    if score is None:
        raise Fault(
            "a completion has no text or no rating",
            f"is {short(entry)}",
            field=field,
            expected='an object with "response" and one of ' + ", ".join((*_SCORES, "annotations")),
        )
    return rating_of(entry[score], f"{field}.{score}")


@dataclass(frozen=True, slots=True)
class _Rated:
    prompt: Prompt
    response: str
    rating: Rating


def _rated(row: Row) -> Made[Any]:
    name = next((n for n in RESPONSE_COLUMNS if n in row), RESPONSE_COLUMNS[0])
    score = next((n for n in (*_SCORES, "scores", "ratings") if n in row), _SCORES[0])
    yield _Rated(prompt_of(row), checked_text(present(row, name), name), rating_of(present(row, score), score))


def _gathered(rated: Sequence[tuple[int, Any]]) -> Iterable[tuple[int, Ranked | LeftOut]]:
    """One ranking for each prompt, at the line where the prompt first came; a text rated twice gets its mean."""
    prompts: dict[Prompt, dict[str, list[Rating]]] = {}
    lines: dict[Prompt, int] = {}
    for line, entry in rated:
        lines.setdefault(entry.prompt, line)
        prompts.setdefault(entry.prompt, {}).setdefault(entry.response, []).append(entry.rating)
    for prompt, ratings in prompts.items():
        means = [(text, _mean(several)) for text, several in ratings.items()]
        yield from ((lines[prompt], ranked) for ranked in _by_rating(prompt, means))


def _mean(ratings: Sequence[Rating]) -> Rating:
    """Axis by axis over those that have it."""
    axes = dict.fromkeys(axis for rating in ratings for axis in rating)
    by_axis = {axis: [rating[axis] for rating in ratings if axis in rating] for axis in axes}
    return {axis: sum(values) / len(values) for axis, values in by_axis.items()}


# Message trees --------------------------------------------------------------------------------------------------------


def _tree(row: Row) -> Made[Ranked]:
    none = True
    for ranked in tree_rankings(row):
        none = False
        yield ranked
    if none:
        yield LeftOut("a tree without two ranked replies")


def tree_rankings(row: Row) -> Iterator[Ranked]:
    """Every message of an OpenAssistant tree whose replies by the assistant are ranked, two or more of them."""
    root = _root(row)
    waiting: deque[tuple[Mapping[str, Any], tuple[Message, ...]]] = deque([(root, ())])
    while waiting:
        node, before = waiting.popleft()
        turns = (*before, _turn(node))
        replies = _replies(node)
        waiting += [(reply, turns) for reply in replies]
        ranked = [r for r in replies if r.get("role") == "assistant" and r.get("rank") is not None]
        ranked = [r for r in ranked if not r.get("deleted")]
        if len(ranked) >= 2:
            name = identifier(node.get("message_id"), "message_id")
            yield Ranked(
                asking(turns, "prompt"),
                tuple(checked_text(r.get("text"), "text") for r in ranked),
                _dense([checked_number(r["rank"], "rank") for r in ranked]),
                (f"oasst:{name}",),
            )


def _replies(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    replies = node.get("replies")
    if replies is None:
        return []
    if not isinstance(replies, (list, tuple)) or not all(isinstance(reply, Mapping) for reply in replies):
        raise Fault(
            "the replies to a message are no list of messages",
            f"is {short(replies)}",
            field="replies",
            expected='a list of messages, [{"role": ..., "text": ...}, ...]',
        )
    return list(replies)


def _turn(node: Mapping[str, Any]) -> Message:
    role = node.get("role")
    if role not in ("prompter", "assistant"):
        raise Fault(
            "a message has an unknown role", f"is {short(role)}", field="role", expected="prompter or assistant"
        )
    return Message("user" if role == "prompter" else "assistant", checked_text(node.get("text"), "text"))


def is_tree(row: Row) -> bool:
    """Whether ``prompt`` is the root message of an OpenAssistant tree."""
    prompt = row.get("prompt")
    return isinstance(prompt, Mapping) and "text" in prompt and "role" in prompt


def root_of(row: Row) -> Prompt:
    """The first message of an OpenAssistant tree, as a prompt."""
    return asking((_turn(_root(row)),), "prompt")


def _root(row: Row) -> Mapping[str, Any]:
    root = present(row, "prompt")
    if not isinstance(root, Mapping):
        raise Fault(
            "prompt is no message tree",
            f"is {short(root)}",
            field="prompt",
            expected='the first message, {"role": "prompter", "text": ..., "replies": [...]}, as in the other rows',
        )
    return root


def _objects(row: Row) -> bool:
    value = row.get("completions")
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)


_BY_SCORE = "the higher rating is the better response"

RANKED: tuple[Format[Ranked], ...] = (
    Format(
        "ranked responses",
        (PROMPT, "responses", "ranks"),
        _weighted(_ranks),
        (*PROMPT_USES, "origin", "weight"),
        note="rank 0 (or the lowest) is the best",
    ),
    Format(
        "OpenAssistant trees",
        ("prompt",),
        _tree,
        when=is_tree,
        note="each message with two or more ranked replies is one ranking",
    ),
    Format(
        "rated responses",
        (PROMPT, "responses", "ratings|scores"),
        _weighted(_ratings),
        (*PROMPT_USES, "origin", "weight"),
        note=_BY_SCORE,
    ),
    Format(
        "rated completion objects",
        (PROMPT, "completions"),
        _weighted(_completion_objects),
        (*PROMPT_USES, "weight"),
        _objects,
        note=f"{_BY_SCORE}; ratings on several axes count by their mean over the axes that all responses share",
    ),
    Format(
        "one rated response a row",
        (PROMPT, "|".join(RESPONSE_COLUMNS), "|".join((*_SCORES, "scores", "ratings"))),
        _rated,
        PROMPT_USES,
        gather=_gathered,
        note=f"rows with the same prompt are one ranking; {_BY_SCORE}",
    ),
)
