"""Rankings of several responses: lists of ranks, answers with a rank each, trees of messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trueup.data.conversations import is_transcript, transcript
from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import Answered, Gathering, Incoming, json_rows
from trueup.feedback.exchange.trees import is_tree, tree_row
from trueup.feedback.store.items import NewItem


def read_ranking(data: bytes) -> Incoming:
    """``prompt``, ``responses`` and ``ranks``: smaller is better, equal is tied, null is not ranked."""
    gathering = Gathering()
    gathering.each(json_rows(data), lambda line, row: ranking_row(gathering, line, fields.mapping(row)))
    return gathering.done()


def ranking_row(gathering: Gathering, line: int, row: Row) -> None:
    """Collect one ranking, or those of a tree of messages.

    Raises:
        DataError: It cannot be one.
    """
    if is_tree(row):
        tree_row(gathering, line, row)
        return
    if are_ranked_answers(row):
        answers = row["answers"]
        texts = tuple(fields.text(answer.get("answer"), f"answers.{n}.answer") for n, answer in enumerate(answers))
        ranks = [answer.get("rank") for answer in answers]
        models = [fields.optional_name(answer, "model") or "" for answer in answers]
    else:
        fields.need(row, "responses", "ranks")
        texts, ranks, models = fields.texts(row["responses"], "responses"), row["ranks"], []
    if not isinstance(ranks, list) or len(ranks) != len(texts):
        raise DataError(f"is {ranks!r}"[:80], where="ranks", expected=f"{len(texts)} ranks, one for each response")
    whole_ranks = _whole_ranks(ranks)
    order = sorted(range(len(texts)), key=lambda place: texts[place])
    tiers = tiers_of({new: whole_ranks[old] for new, old in enumerate(order)})
    asked = fields.prompt_of(row)
    if isinstance(asked, str) and is_transcript(asked) and asked.rstrip().endswith("\n\nAssistant:"):
        asked = transcript(f"{asked.rstrip()} ?", "prompt")[:-1]  # Nectar's prompts wait for the answer
    generators = tuple(models[old] for old in order) if any(models) else ()
    item = NewItem(asked, tuple(texts[old] for old in order), generators, split=fields.optional(row, "split"))
    gathering.add(line, "ranking", item, Answered(0, fields.annotator(row), {"tiers": tiers}))


def are_ranked_answers(row: Row) -> bool:
    """Whether a row has several answers with a rank each, as Nectar's have."""
    answers = row.get("answers")
    return isinstance(answers, list) and bool(answers) and all(isinstance(a, dict) and "rank" in a for a in answers)


def _whole_ranks(ranks: list[Any]) -> list[int | None]:
    """Ranks as whole numbers, twice as large where ties share the mean of their places (1.5 for the first two)."""
    numbers = [None if rank is None else fields.number(rank, "ranks") for rank in ranks]
    ascending = sorted(rank for rank in numbers if rank is not None)
    half = next((rank for rank in numbers if rank is not None and not rank.is_integer()), None)
    if half is None:
        return [None if rank is None else fields.whole(rank, "ranks") for rank in ranks]
    for rank in set(ascending):
        places = [place for place, other in enumerate(ascending, start=1) if other == rank]
        if rank != sum(places) / len(places):
            raise DataError(
                f"is {half!r}", where="ranks", expected="whole numbers, or for ties the mean of their places"
            )
    return [None if rank is None else int(2 * rank) for rank in numbers]


def tiers_of(ranks: Mapping[int, int | None]) -> list[list[int]]:
    """Places by rank, best first.

    Raises:
        DataError: Nothing was ranked.
    """
    tiers = [
        [place for place, rank in ranks.items() if rank == level]
        for level in sorted({r for r in ranks.values() if r is not None})
    ]
    if not tiers:
        raise DataError("nothing was ranked", where="ranks", expected="at least one rank")
    return tiers
