"""Candidates for rows of rankings: one order of a prompt's responses from everybody's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from trueup.feedback.quality.ability import Duel, fit_abilities
from trueup.feedback.quality.comparisons import PairVote
from trueup.feedback.snapshot.adjudicated import Settled
from trueup.feedback.snapshot.candidates import FEW, TIE, Candidate, SnapshotSettings
from trueup.feedback.store.answers import Ranking
from trueup.feedback.store.records import Judged
from trueup.types import content_id, prompt_json


def ranked(
    judged: Judged, settings: SnapshotSettings, used: set[str], cast: Sequence[PairVote], settled: Mapping[str, Settled]
) -> Iterator[Candidate]:
    """Rankings from votes; ``settled`` maps items to final answers, which override the votes."""
    by_item: dict[str, list[PairVote]] = {}
    for vote in cast:
        by_item.setdefault(vote.item, []).append(vote)
    for name in sorted(used):
        item, group = judged.items[name], by_item.get(name, [])
        voters = {v.judgment for v in group}
        if name in settled:
            origin, answer = settled[name]
            place = {r: n for n, tier in enumerate(answer.tiers) for r in tier} if isinstance(answer, Ranking) else {}
        else:
            origin, place = tuple(sorted(voters)), consensus_places(group)
        responses = [r for r in item.responses if r.id in place]
        row = {
            "prompt": prompt_json(item.prompt),
            "responses": [r.text for r in responses],
            "ranks": [place[r.id] for r in responses],
            "n_votes": len(voters),
            "weight": 1.0,
            "ranking_id": content_id(prompt_json(item.prompt), [r.text for r in responses]),
            "origin": list(origin),
            "item": name,
            "adjudicated": name in settled,
        }
        few = name not in settled and len(voters) < settings.min_votes
        tie = len(set(place.values())) < 2
        yield Candidate((item,), row, frozenset(r.text for r in responses), FEW if few else TIE if tie else "")


def consensus_places(group: Sequence[PairVote]) -> dict[str, int]:
    """Response -> rank by Bradley-Terry strength over all votes of one item; equal strengths share a rank.

    Ranks between which nobody stated an order are one rank: the model's own idea of an order is not a judgment.
    """
    if not group:
        return {}
    table = [Duel(v.first, v.second, "all", 0.5 + 0.5 * v.sign, v.weight) for v in group]
    fit = fit_abilities(table, ridge=0.1, spread=0.02)
    strength = {str(name): round(float(q), 4) for name, q in zip(fit.things, fit.quality_M, strict=True)}
    order = sorted(set(strength.values()), reverse=True)
    place = {name: order.index(value) for name, value in strength.items()}
    stated = _stated(group)
    cuts = set(range(1, len(order)))
    for left, right in combinations(place, 2):
        upper, lower = (left, right) if place[left] < place[right] else (right, left)
        if place[upper] < place[lower] and (upper, lower) not in stated:
            cuts -= set(range(place[upper] + 1, place[lower] + 1))
    return {name: sum(cut <= rank for cut in cuts) for name, rank in place.items()}


def _stated(group: Sequence[PairVote]) -> set[tuple[str, str]]:
    """(upper, lower): somebody put one above the other, by a verdict on the two or, where there is none, by a chain.

    A chain goes over verdicts and ties, with at least one verdict in it.
    """
    above: dict[str, set[str]] = {}
    level: dict[str, set[str]] = {}
    compared = set()
    for vote in group:
        compared |= {(vote.first, vote.second), (vote.second, vote.first)}
        upper, lower = (vote.first, vote.second) if vote.sign >= 0 else (vote.second, vote.first)
        (above if vote.sign else level).setdefault(upper, set()).add(lower)
        if not vote.sign:
            level.setdefault(lower, set()).add(upper)
    stated = set()
    for start in {name for pair in compared for name in pair}:
        reached: set[tuple[str, bool]] = set()
        waiting = [(start, False)]
        while waiting:
            name, strict = waiting.pop()
            steps = {(lower, True) for lower in above.get(name, ())} | {
                (other, strict) for other in level.get(name, ())
            }
            waiting += steps - reached
            reached |= steps
        for name, strict in reached:
            direct = name in above.get(start, ())
            if strict and (direct or (start, name) not in compared):
                stated.add((start, name))
    return stated
