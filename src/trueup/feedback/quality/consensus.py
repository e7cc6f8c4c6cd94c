"""From votes to a soft label: how probable is it that the first response of a pair is the better one?

Four ways, from plain to careful:

- ``majority``: the share of votes, a tie counting half. Simple, and blind to who votes.
- ``dawid_skene``: the posterior of Dawid and Skene's model. Every pair enters twice, once mirrored, because which
  response is canonically first means nothing: the estimate for a swapped pair is then exactly one minus this one.
- ``bradley_terry``: responses have a quality; pairs of one prompt that share a response inform each other.
- ``ability``: each pair has a gap, each annotator an ability and a side bias; the probability that the gap speaks for
  the first (see ``judges``). The default: on real votes whose truth is known it was the least sure of what was wrong
  (``benchmarks/aggregation.py``).

Intervals are 95 %. They speak of what the votes leave open, not of whether people agree in principle.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from trueup.errors import UsageError, nearest
from trueup.feedback.quality.ability import fit_abilities
from trueup.feedback.quality.comparisons import COMPARED, REFUSED, PairVote, by_annotator, by_pair, duels, votes
from trueup.feedback.quality.dawid_skene import CodedVotes, Consensus, dawid_skene
from trueup.feedback.quality.gold import wilson_interval
from trueup.feedback.quality.judges import fit_judges
from trueup.feedback.store.records import DEFAULT_METHOD, Judged

AGGREGATION_VERSION = "4"
"""Raised when the same votes would give other numbers; written into every snapshot."""

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """The soft label of one pair."""

    item: str
    first: str
    second: str
    p_first: float
    """Probability that ``first`` is better, in [0, 1]."""
    low: float
    high: float
    n_votes: int
    n_eff: float
    """Votes by perfect annotators that would say as much."""
    weight: float
    """Mean weight of its votes: 1, or 1 / (K - 1) for pairs of a ranking of K."""

    @property
    def pair(self) -> tuple[str, str, str]:
        """Item, first and second."""
        return self.item, self.first, self.second

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def swap(self) -> Estimate:
        """The same estimate seen from the other side."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            p_first=1 - self.p_first,
            low=1 - self.high,
            high=1 - self.low,
        )


Method = Callable[[Sequence[PairVote]], list[Estimate]]


def estimates(rows: Sequence[PairVote], method: str = DEFAULT_METHOD) -> list[Estimate]:
    """The soft label of every pair that has a vote, in order of the first vote.

    Raises:
        UsageError: The method is unknown.
    """
    if method not in METHODS:
        raise UsageError(f"{method!r}", where="method", expected=nearest(method, METHODS))
    return METHODS[method](rows) if rows else []


def usable_method(rows: Sequence[PairVote], method: str) -> tuple[str, tuple[str, ...]]:
    """The method that these votes can carry, and what to know of its labels.

    ``ability`` and ``dawid_skene`` learn how far each annotator can be trusted from verdicts of several people on one
    pair. Without any such pair all their labels would say what the prior says, about as sure of everything, and the
    labels are the votes themselves. ``bradley_terry`` learns from responses that several pairs share, and is kept.
    """
    people = {name: {v.pair for v in group} for name, group in by_annotator(rows).items()}
    if not people:
        return method, ()
    who = "Only one annotator judged" if len(people) == 1 else "No pair was judged by two people"
    seats = Counter(pair for pairs in people.values() for pair in pairs)
    if max(seats.values()) < 2:
        if method in ("ability", "dawid_skene"):
            return "majority", (
                f"{who}: how far to trust a verdict cannot be estimated, so labels are the verdicts as they are "
                f"(strength 1), not by {method}. Let a second person judge some of the pairs to know more.",
            )
        say = "1" if method == "majority" else "what the method takes for granted, not a measurement"
        return method, (f"{who}: nothing here says how sure a label is; its strength is {say}.",)
    alone = sorted(name for name, pairs in people.items() if all(seats[pair] < 2 for pair in pairs))
    if alone and method in ("ability", "dawid_skene"):
        return method, (
            f"{len(alone)} of {len(people)} annotators share no pair with others, so the strength of their labels is "
            f"what the method takes for granted: {', '.join(alone[:5])}{' ...' if len(alone) > 5 else ''}.",
        )
    return method, ()


def aggregate(
    judged: Judged,
    method: str = DEFAULT_METHOD,
    *,
    kinds: Sequence[str] = COMPARED,
    without: Sequence[str] = (),
) -> dict[str, Estimate]:
    """Item -> soft label with interval.

    An item of two responses stands under its id; pairs of a ranking under ``item/first/second``.

    Args:
        judged: The project.
        method: One of ``METHODS``.
        kinds: Task kinds to aggregate; ``binary`` gives the probability that the response is acceptable.
        without: Annotators to leave out.

    Raises:
        UsageError: The method is unknown.
    """
    labels = {}
    for label in estimates(votes(judged, kinds=kinds, without=without), method):
        ranked = judged.items[label.item].kind == "ranking"
        labels["/".join(label.pair) if ranked else label.item] = label
    return labels


def _majority(rows: Sequence[PairVote]) -> list[Estimate]:
    labels = []
    for pair, group in by_pair(rows).items():
        share = sum(0.5 + 0.5 * v.sign for v in group) / len(group)
        # Wilson's interval holds for any real number of successes; ties bring halves.
        low, high = _interval_of_share(share, len(group))
        labels.append(Estimate(*pair, share, low, high, len(group), float(len(group)), _weight(group)))
    return labels


def _interval_of_share(share: float, total: int) -> tuple[float, float]:
    count = share * total
    if count == int(count):
        return wilson_interval(int(count), total)
    (low_1, high_1), (low_2, high_2) = wilson_interval(int(count), total), wilson_interval(int(count) + 1, total)
    return (low_1 + low_2) / 2, (high_1 + high_2) / 2


def fit_reliability(rows: Sequence[PairVote]) -> tuple[Consensus, CodedVotes]:
    """Dawid-Skene on pairs and their mirror images; classes are first, second and, where there are any, tie."""
    label = {1: 0, -1: 1, 0: 2}
    table = [((v.pair, False), v.annotator, label[v.sign]) for v in rows]
    table += [((v.pair, True), v.annotator, label[-v.sign]) for v in rows]
    encoded = CodedVotes.of(table, classes=3 if any(v.sign == 0 for v in rows) else 2)
    # All is counted twice. Somebody who shares no item with others is believed 4 times in 5: without that trust the
    # model cannot tell skill from chance there, and every single verdict would come out as a tie.
    return dawid_skene(encoded, smoothing=1.0, trust=3.0), encoded


def reliabilities(rows: Sequence[PairVote]) -> dict[str, float]:
    """Annotator -> probability of naming the better response where there is one and no tie is called."""
    if not rows:
        return {}
    fit, encoded = fit_reliability(rows)
    return {
        str(name): float(fit.confusion_JKK[j, 0, 0] / (fit.confusion_JKK[j, 0, 0] + fit.confusion_JKK[j, 0, 1]))
        for j, name in enumerate(encoded.annotators)
    }


def _dawid_skene(rows: Sequence[PairVote]) -> list[Estimate]:
    fit, encoded = fit_reliability(rows)
    place = {name: i for i, name in enumerate(encoded.items)}
    counts = {name: sum(v.sign != 0 for v in group) for name, group in by_annotator(rows).items()}
    skill = {
        str(name): min(0.99, max(0.01, float(c[0, 0] / (c[0, 0] + c[0, 1]))))
        for name, c in zip(encoded.annotators, fit.confusion_JKK, strict=True)
    }
    labels = []
    for pair, group in by_pair(rows).items():
        posterior_K = fit.posterior_IK[place[pair, False]]
        p = float(posterior_K[0] + (0.5 * posterior_K[2] if encoded.classes == 3 else 0.0))
        # The log-odds are a sum over votes; each annotator's log-odds of being right is known to 1 / (n a (1 - a)).
        spread = [1 / (counts[v.annotator] * skill[v.annotator] * (1 - skill[v.annotator])) for v in group if v.sign]
        low, high = _around(p, math.sqrt(sum(spread)))
        n_eff = sum((2 * skill[v.annotator] - 1) ** 2 for v in group)
        labels.append(Estimate(*pair, p, low, high, len(group), n_eff, _weight(group)))
    return labels


def _around(p: float, error: float) -> tuple[float, float]:
    """The 95 % interval of a probability whose log-odds have a standard error."""
    if not 0.0 < p < 1.0:
        return p, p
    centre = math.log(p / (1 - p))
    low, high = (float(1 / (1 + np.exp(-np.clip(centre + s * Z95 * error, -500, 500)))) for s in (-1, 1))
    return low, high


def _bradley_terry(rows: Sequence[PairVote]) -> list[Estimate]:
    """One fit for each group of responses that are linked by pairs: others cannot inform each other."""
    labels: dict[tuple[str, str, str], Estimate] = {}
    for linked in _connected(rows):
        # A spread of next to nothing holds every annotator at ability 1 and side 0: plain Bradley-Terry with a prior.
        fit = fit_abilities(duels(linked), ridge=0.1, spread=0.02)
        for pair, group in by_pair(linked).items():
            item, first, second = pair
            label = fit.probability(first, second or f"{item}/bar")
            labels[pair] = Estimate(*pair, *label, len(group), float(len(group)), _weight(group))
    return [labels[pair] for pair in by_pair(rows)]


def _ability(rows: Sequence[PairVote]) -> list[Estimate]:
    fit = fit_judges(rows)
    unit = fit.typical if fit.typical > 0 else 1.0
    information = {n: min(1.0, (float(a) / unit) ** 2) for n, a in zip(fit.names, fit.ability_J, strict=True)}
    groups = by_pair(rows)
    labels = []
    for place, pair in enumerate(fit.pairs):
        group = groups[pair]
        n_eff = sum(information[v.annotator] for v in group)
        labels.append(Estimate(*pair, *fit.probability(place), len(group), n_eff, _weight(group)))
    return labels


def _connected(rows: Sequence[PairVote]) -> list[list[PairVote]]:
    """Votes in groups whose responses are linked by pairs."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        leader.setdefault(name, name)
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for vote in rows:
        if vote.second != REFUSED:
            leader[find(vote.first)] = find(vote.second)
    groups: dict[str, list[PairVote]] = {}
    for vote in rows:
        groups.setdefault(find(vote.first), []).append(vote)
    return list(groups.values())


def _weight(group: Sequence[PairVote]) -> float:
    return sum(v.weight for v in group) / len(group)


METHODS: Mapping[str, Method] = {
    "dawid_skene": _dawid_skene,
    "majority": _majority,
    "bradley_terry": _bradley_terry,
    "ability": _ability,
}
"""Name -> how it aggregates."""
