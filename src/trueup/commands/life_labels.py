"""What the three ways to make a label say of one pair, and one sentence why they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from trueup.feedback.quality.comparisons import votes
from trueup.feedback.quality.consensus import estimates, reliabilities
from trueup.feedback.store.database import Store
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.schema import item, judgment, template

SHOWN = ("majority", "dawid_skene", "ability")


@dataclass(frozen=True, slots=True)
class Labels:
    """Probability that chosen is better, by the method that made it."""

    strengths: dict[str, float]
    votes: int
    share: float
    """Of the votes, those for chosen, a tie as half."""
    reliability: dict[str, float]
    """Of each who voted: how often Dawid-Skene believes that they name the better response."""

    @property
    def why(self) -> str:
        """One sentence."""
        said = {name: f"{value:.3f}" for name, value in self.strengths.items()}
        people = ", ".join(f"{name} {share:.0%}" for name, share in self.reliability.items())
        return (
            f"majority says {said['majority']} because it counts {self.votes} votes alike, {self.share:.0%} for chosen;"
            f" dawid_skene says {said['dawid_skene']} because it weighs each voice by how often it names the better"
            f" response elsewhere ({people}), whatever the pair; ability says {said['ability']} because it also allows"
            " that this pair is a close one, on which the able too are often wrong, and for a taste for one side"
        )


def labels_of(store: Store, origin: Sequence[str], chosen: str, rejected: str) -> Labels | None:
    """The labels that the project of these judgments gives the pair; None where they are of no pair that was voted on.

    Args:
        store: The feedback store.
        origin: Ids of the pair's judgments.
        chosen: Text of the better side.
        rejected: Text of the other.
    """
    with store.read() as connection:
        query = select(item.c.id, template.c.project).join(template, template.c.id == item.c.template)
        query = query.join(judgment, judgment.c.item == item.c.id).where(judgment.c.id.in_(origin))
        row = connection.execute(query).first()
    if row is None:
        return None
    judged = read_project(store, row.project)
    texts = {response.text: response.id for response in judged.items[row.id].responses}
    sides = texts.get(chosen), texts.get(rejected)
    cast = votes(judged)
    own = [vote for vote in cast if vote.item == row.id and {vote.first, vote.second} == set(sides)]
    if not own:
        return None
    flipped = own[0].first != sides[0]
    strengths = {}
    for method in SHOWN:
        estimate = next(e for e in estimates(cast, method) if e.pair == own[0].pair)
        strengths[method] = 1.0 - estimate.p_first if flipped else estimate.p_first
    known = reliabilities(cast)
    share = sum(0.5 + 0.5 * vote.sign * (-1 if flipped else 1) for vote in own) / len(own)
    names = dict.fromkeys(vote.annotator for vote in own)
    return Labels(strengths, len(own), share, {name: known[name] for name in names if name in known})
