"""Trees of messages, as OpenAssistant publishes them: the ranked replies to one message are a ranking."""

from __future__ import annotations

from trueup.data.ranked_formats import tree_rankings
from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import UNNAMED, Answered, Gathering
from trueup.feedback.exchange.watching import plain
from trueup.feedback.store.items import NewItem, check_item


def is_tree(row: Row) -> bool:
    """Whether a row is a tree: its prompt is a message with replies."""
    return isinstance(row.get("prompt"), dict) and "replies" in row["prompt"]


def tree_row(gathering: Gathering, line: int, row: Row) -> None:
    """Collect every ranking of a tree; the people who ranked are not named in it.

    Raises:
        DataError: It holds none, or a message is none.
    """
    with fields.refusing():
        rankings = list(tree_rankings(row))
    plain(row["prompt"])
    if not rankings:
        raise DataError("no message has two ranked replies", where="prompt.replies", expected="replies with a 'rank'")
    ready = []
    for number, ranked in enumerate(rankings, start=1):
        levels = sorted(set(ranked.ranks))
        tiers = [[place for place, rank in enumerate(ranked.ranks) if rank == level] for level in levels]
        item = NewItem(ranked.prompt, tuple(map(str, ranked.responses)), split=fields.optional(row, "split"))
        try:
            check_item("ranking", item)
        except DataError as error:
            where = f"ranking {number} of the tree, {error.where}"
            raise DataError(error.what, where=where, expected=error.expected, fix=error.fix) from None
        ready.append((item, Answered(0, UNNAMED, {"tiers": tiers})))
    for item, answered in ready:
        gathering.add(line, "ranking", item, answered)
