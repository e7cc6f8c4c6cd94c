"""Rankings and ratings of several responses, and the C(K,2) pairs that they give.

Ouyang et al. 2022 (arXiv:2203.02155, section 3.5) train on all K(K-1)/2 pairs of a ranking; a tie says nothing about
which is better and gives no pair. OpenAssistant (arXiv:2304.07327) ranks the replies to one message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from trueup.data.conversations import asking
from trueup.data.fields import Fault, Row, checked_number, checked_text, items, number, present, short
from trueup.data.formats import PROMPT, PROMPT_USES, Format, LeftOut, Made, prompt_of, texts, tuple_of_names
from trueup.types import Message, PreferencePair, Prompt, Ranked, Role

TIE = "a tie"
SAME = "the same text twice in one ranking"
_SCORES = ("rating", "score", "overall_score")


def pairs_of(ranked: Ranked) -> Iterator[PreferencePair | LeftOut]:
    """All pairs of a ranking in which one response is better; ties and equal texts are left out, and said so."""
    for (first, rank_1), (second, rank_2) in combinations(zip(ranked.responses, ranked.ranks, strict=True), 2):
        if first == second:
            yield LeftOut(SAME)
        elif rank_1 == rank_2:
            yield LeftOut(TIE)
        else:
            better, worse = (first, second) if rank_1 < rank_2 else (second, first)
            yield PreferencePair(ranked.prompt, better, worse, origin=ranked.origin)


def _dense(values: Sequence[float]) -> tuple[int, ...]:
    """Ranks 0, 1, ... of ``values``, smallest first; equal values share a rank."""
    order = {value: rank for rank, value in enumerate(sorted(set(values)))}
    return tuple(order[value] for value in values)


def _ranks(row: Row) -> Made[Ranked]:
    responses = texts(row, "responses", at_least=2)
    ranks = [checked_number(v, f"ranks[{n}]") for n, v in enumerate(items(row, "ranks"))]
    _same_length(responses, ranks, "ranks")
    yield Ranked(prompt_of(row), responses, _dense(ranks), tuple_of_names(row, "origin"))


def _ratings(row: Row) -> Made[Ranked]:
    name = "ratings" if "ratings" in row else "scores"
    responses = texts(row, "responses", at_least=2)
    ratings = [checked_number(v, f"{name}[{n}]") for n, v in enumerate(items(row, name))]
    _same_length(responses, ratings, name)
    yield Ranked(prompt_of(row), responses, _dense([-r for r in ratings]), tuple_of_names(row, "origin"))


def _same_length(responses: Sequence[str], values: Sequence[float], name: str) -> None:
    if len(responses) != len(values):
        raise Fault(
            f"{name} and responses differ in length",
            f"has {len(values)} entries for {len(responses)} responses",
            field=name,
            expected="one entry for each response",
        )


def _completion_objects(row: Row) -> Made[Ranked]:
    responses, scores = [], []
    for n, entry in enumerate(items(row, "completions", at_least=2)):
        field = f"completions[{n}]"
        said = next((k for k in ("response", "completion", "text") if isinstance(entry, Mapping) and k in entry), None)
        score = next((k for k in _SCORES if isinstance(entry, Mapping) and k in entry), None)
        if said is None or score is None:
            raise Fault(
                "a completion has no text or no rating",
                f"is {short(entry)}",
                field=field,
                expected='an object with "response" and one of ' + ", ".join(_SCORES),
            )
        responses.append(checked_text(entry[said], f"{field}.{said}"))
        scores.append(-checked_number(entry[score], f"{field}.{score}"))
    yield Ranked(prompt_of(row), tuple(responses), _dense(scores))


@dataclass(frozen=True, slots=True)
class _Rated:
    prompt: Prompt
    response: str
    rating: float


def _rated(row: Row) -> Made[_Rated]:
    name = "completion" if "completion" in row else "response"
    score = next((n for n in _SCORES if n in row), _SCORES[0])
    yield _Rated(prompt_of(row), checked_text(present(row, name), name), number(row, score))


def _gathered(rated: Sequence[tuple[int, _Rated]]) -> Iterable[tuple[int, Ranked | LeftOut]]:
    """One ranking for each prompt, at the line where the prompt first came; a text rated twice gets its mean."""
    prompts: dict[Prompt, dict[str, list[float]]] = {}
    lines: dict[Prompt, int] = {}
    for line, one in rated:
        lines.setdefault(one.prompt, line)
        prompts.setdefault(one.prompt, {}).setdefault(one.response, []).append(one.rating)
    for prompt, ratings in prompts.items():
        if len(ratings) < 2:
            yield lines[prompt], LeftOut("a prompt with one rated response")
            continue
        means = [-sum(values) / len(values) for values in ratings.values()]
        yield lines[prompt], Ranked(prompt, tuple(ratings), _dense(means))


def _tree(row: Row) -> Made[Ranked]:
    """Every message of an OpenAssistant tree whose replies by the assistant are ranked, two or more of them."""
    root = present(row, "prompt")
    waiting: list[tuple[Mapping[str, Any], tuple[Message, ...]]] = [(root, ())]
    found = False
    while waiting:
        node, before = waiting.pop(0)
        turns = (*before, _turn(node))
        replies = [reply for reply in node.get("replies") or () if isinstance(reply, Mapping)]
        waiting += [(reply, turns) for reply in replies]
        ranked = [r for r in replies if r.get("role") == "assistant" and r.get("rank") is not None]
        ranked = [r for r in ranked if not r.get("deleted")]
        if len(ranked) >= 2:
            found = True
            yield Ranked(
                asking(turns, "prompt"),
                tuple(checked_text(r.get("text"), "text") for r in ranked),
                _dense([checked_number(r["rank"], "rank") for r in ranked]),
                (f"oasst:{node.get('message_id', '')}",),
            )
    if not found:
        yield LeftOut("a tree without two ranked replies")


def _turn(node: Mapping[str, Any]) -> Message:
    roles: dict[Any, Role] = {"prompter": "user", "assistant": "assistant"}
    if node.get("role") not in roles:
        raise Fault(
            "a message has an unknown role", f"is {node.get('role')!r}", field="role", expected="prompter, assistant"
        )
    return Message(roles[node["role"]], checked_text(node.get("text"), "text"))


def is_tree(row: Row) -> bool:
    """Whether ``prompt`` is the root message of an OpenAssistant tree."""
    prompt = row.get("prompt")
    return isinstance(prompt, Mapping) and "text" in prompt and "role" in prompt


def root_of(row: Row) -> Prompt:
    """The first message of an OpenAssistant tree, as a prompt."""
    return asking((_turn(present(row, "prompt")),), "prompt")


def _objects(row: Row) -> bool:
    value = row.get("completions")
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)


_BY_SCORE = "the higher rating is the better response"

RANKED: tuple[Format[Ranked], ...] = (
    Format(
        "ranked responses",
        (PROMPT, "responses", "ranks"),
        _ranks,
        (*PROMPT_USES, "origin"),
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
        "rated responses", (PROMPT, "responses", "ratings|scores"), _ratings, (*PROMPT_USES, "origin"), note=_BY_SCORE
    ),
    Format(
        "rated completion objects", (PROMPT, "completions"), _completion_objects, PROMPT_USES, _objects, note=_BY_SCORE
    ),
    Format(
        "one rated response a row",
        (PROMPT, "completion|response", "|".join(_SCORES)),
        _rated,
        PROMPT_USES,
        gather=_gathered,
        note=f"rows with the same prompt are one ranking; {_BY_SCORE}",
    ),
)
