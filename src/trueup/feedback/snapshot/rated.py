"""Candidates for training rows from ratings: pairs with margins, good and bad responses, the best answer of a prompt.

What a rating says is decided in ``quality.ratings``; here it becomes rows. A lead within the noise is a tie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from trueup.feedback.quality.comparisons import REFUSED
from trueup.feedback.quality.ratings import Lead, Rated, Ratings, rated, weights_of_axes
from trueup.feedback.snapshot.adjudicated import Settled
from trueup.feedback.snapshot.candidates import FEW, SAME_TEXT, Candidate, SnapshotSettings, demonstration, prompt_key
from trueup.feedback.store.answers import Rating
from trueup.feedback.store.records import Judged
from trueup.types import content_id, prompt_json

NOISE = "ratings differ by no more than their noise"
APART = "no annotator rated both, and their scales are not known well enough"
HABIT = "too few ratings of its annotators to know what they usually give"
USUAL = "rated no better than its annotators usually rate"
BEATEN = "not the best rated of its prompt"

ALONE = (
    "No response was rated by two people, so the noise of a rating cannot be estimated: what differs by more than "
    "rounding is written with strength 1."
)

Response = Mapping[str, Rated]
"""Annotator -> rating of one response."""


def rated_candidates(
    judged: Judged, settings: SnapshotSettings, used: set[str], settled: Mapping[str, Settled]
) -> tuple[list[Candidate], tuple[str, ...]]:
    """Pairs, labels or demonstrations from ratings, by the settings' ``format``, and what to know of their strength.

    Raises:
        UsageError: Nobody rated an axis that the settings name.
        ConfigError: An axis has the weight 0.
    """
    finals = {
        name: (origin, answer)
        for name, (origin, answer) in settled.items()
        if name in used and isinstance(answer, Rating)
    }
    rows = [row for row in rated(judged, finals) if row.item.id in used]
    axes = weights_of_axes(rows, dict(settings.axes))
    ratings = Ratings(rows, axes)
    prompts: dict[str, dict[str, dict[str, Rated]]] = {}
    for row in rows:
        prompts.setdefault(prompt_key(row.item.prompt), {}).setdefault(row.text, {})[row.annotator] = row
    build = {"preference": _pairs, "kto": _labels, "sft": _best}[settings.format]
    candidates = [candidate for of in prompts.values() for candidate in build(list(of.values()), ratings, settings)]
    return candidates, () if ratings.noise is not None else (ALONE,)


def _pairs(responses: Sequence[Response], ratings: Ratings, settings: SnapshotSettings) -> Iterator[Candidate]:
    """Every two responses of a prompt; as of a ranking, K of them weigh like K / 2 single judgments together."""
    for first, second in combinations(responses, 2):
        lead = ratings.lead(first, second)
        ahead, behind = (first, second) if lead is None or lead.value >= 0 else (second, first)
        chosen, rejected = _any(ahead), _any(behind)
        row = {
            "prompt": prompt_json(chosen.item.prompt),
            "chosen": chosen.text,
            "rejected": rejected.text,
            **_certainty(lead),
            "margin": round(abs(lead.value), 6) if lead else 0.0,
            "weight": round(1.0 / (len(responses) - 1), 6),
            "pair_id": content_id(prompt_json(chosen.item.prompt), chosen.text, rejected.text),
            "origin": sorted({r.judgment for side in (first, second) for r in side.values()}),
            "item": chosen.item.id,
            "adjudicated": False,
        }
        same = chosen.text.strip() == rejected.text.strip()
        reason = SAME_TEXT if same else APART if lead is None else _why_not(lead, settings)
        yield Candidate((chosen.item, rejected.item), row, frozenset((chosen.text, rejected.text)), reason)


def _labels(responses: Sequence[Response], ratings: Ratings, settings: SnapshotSettings) -> Iterator[Candidate]:
    """Good is what is rated above the usual of its annotators, bad what is below."""
    for response in responses:
        lead, rating = ratings.over_usual(response), _any(response)
        row = {
            "prompt": prompt_json(rating.item.prompt),
            "completion": rating.text,
            "label": lead is not None and lead.value > 0,
            **_certainty(lead),
            "weight": 1.0,
            "label_id": content_id(prompt_json(rating.item.prompt), rating.text),
            "origin": sorted(r.judgment for r in response.values()),
            "item": rating.item.id,
            "adjudicated": False,
        }
        reason = HABIT if lead is None else _why_not(lead, settings)
        yield Candidate((rating.item,), row, frozenset((rating.text, REFUSED)), reason)


def _best(responses: Sequence[Response], ratings: Ratings, settings: SnapshotSettings) -> Iterator[Candidate]:
    """The best rated response of a prompt, if it is above the usual of its annotators."""
    leads = [ratings.over_usual(response) for response in responses]
    top = max((lead.value for lead in leads if lead is not None), default=0.0)
    for response, lead in zip(responses, leads, strict=True):
        rating = _any(response)
        row = demonstration(rating.item, rating.text, sorted(r.judgment for r in response.values()), len(response))
        if lead is None:
            reason = HABIT
        elif lead.value < top:
            reason = BEATEN
        else:
            reason = USUAL if lead.value < 0 else _why_not(lead, settings)
        yield Candidate((rating.item,), row, frozenset((rating.text,)), reason)


def _certainty(lead: Lead | None) -> dict[str, Any]:
    if lead is None:
        return {"strength": 0.5, "n_votes": 0, "n_eff": 0.0}
    return {"strength": round(lead.strength, 12), "n_votes": lead.votes, "n_eff": float(lead.votes)}


def _why_not(lead: Lead, settings: SnapshotSettings) -> str:
    if lead.votes < settings.min_votes:
        return FEW
    return "" if lead.beyond_noise and lead.strength >= settings.min_strength else NOISE


def _any(response: Response) -> Rated:
    """One rating of a response: they share its item's prompt and its text."""
    return next(iter(response.values()))
