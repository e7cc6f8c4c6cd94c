"""Simulated annotators of known ability and bias, and the labels they give."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from trueup.data.sandbox import phrases
from trueup.data.sandbox.gold import PARTS, gold
from trueup.data.sandbox.world import SandboxPrompt
from trueup.errors import ConfigError
from trueup.seeds import derive
from trueup.types import Outcome, Pairwise, PreferencePair

Candidates: TypeAlias = tuple[SandboxPrompt, str, str]

_COURTESY = (*phrases.OPENERS, *phrases.CLOSERS)


@dataclass(frozen=True)
class Annotator:
    """One judge. The chance to prefer a over b is sigmoid(ability * (value(a) - value(b)) + biases).

    ``value`` is gold re-weighted by ``values``, plus ``length_bias`` for every ten words and ``politeness_bias``
    for every courteous sentence. ``fatigue`` is the share of ability lost by the last of a hundred items.
    """

    name: str
    ability: float = 7.0
    side_bias: float = 0.0
    """Added to the log-odds of the side shown first."""
    length_bias: float = 0.0
    """Gold points that ten more words seem worth."""
    politeness_bias: float = 0.0
    """Gold points that one more courteous sentence seems worth."""
    tie_threshold: float = 0.0
    """Log-odds below which the two seem equal."""
    fatigue: float = 0.0
    spam: float = 0.0
    """Share of items answered without reading."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Part of gold -> factor on its weight, where this judge cares more or less than gold does."""

    def __post_init__(self) -> None:
        unknown = set(self.values) - set(PARTS)
        if unknown:
            raise ConfigError(
                f"unknown part {sorted(unknown)[0]!r}", where="Annotator.values", expected=f"any of {', '.join(PARTS)}"
            )

    def value(self, prompt: str, response: str) -> float:
        """How good ``response`` seems to this judge."""
        parts = gold(prompt, response).parts
        worth = sum(PARTS[n][0] * self.values.get(n, 1.0) * v for n, v in parts.items())
        courtesy = sum(response.count(s) for s in _COURTESY)
        return worth + self.length_bias * len(response.split()) / 10 + self.politeness_bias * courtesy

    def log_odds(self, prompt: str, a: str, b: str, item: int = 0) -> float:
        """Log-odds that ``a``, shown first, is preferred, when the judge reads."""
        ability = self.ability * (1.0 - self.fatigue * min(item, 100) / 100)
        return ability * (self.value(prompt, a) - self.value(prompt, b)) + self.side_bias

    def judge(self, prompt: str, a: str, b: str, draw: random.Random, item: int = 0) -> Outcome:
        """One verdict. ``item`` counts how many this judge gave before."""
        if draw.random() < self.spam:
            return draw.choice((Outcome.A, Outcome.B))
        odds = self.log_odds(prompt, a, b, item)
        if abs(odds) < self.tie_threshold:
            return Outcome.TIE
        return Outcome.A if draw.random() < 1.0 / (1.0 + math.exp(-max(-500.0, min(500.0, odds)))) else Outcome.B


def panel(seed: int, count: int = 8, spammers: int = 0) -> list[Annotator]:
    """Ordinary judges of different ability and small biases; the last ``spammers`` of them do not read.

    Raises:
        ConfigError: More spammers than judges.
    """
    if not 0 <= spammers <= count or count < 1:
        raise ConfigError(f"{spammers} spammers among {count}", where="panel", expected="0 <= spammers <= count")
    draw = random.Random(derive(seed, "panel"))
    judges = []
    for number in range(count):
        judges.append(
            Annotator(
                f"annotator-{number:02d}",
                ability=draw.uniform(4.0, 9.0),
                side_bias=draw.gauss(0.0, 0.15),
                length_bias=draw.gauss(0.0, 0.01),
                politeness_bias=draw.gauss(0.0, 0.01),
                spam=1.0 if number >= count - spammers else 0.02,
            )
        )
    return judges


def biased_panel(seed: int, count: int = 8) -> list[Annotator]:
    """Judges that share a weakness for long, flattering answers: a reward model that learns from them can be hacked."""
    draw = random.Random(derive(seed, "biased panel"))
    return [
        Annotator(
            f"biased-{number:02d}",
            ability=draw.uniform(4.0, 9.0),
            length_bias=draw.uniform(0.04, 0.10),
            politeness_bias=draw.uniform(0.04, 0.10),
        )
        for number in range(count)
    ]


def collect(
    annotators: Sequence[Annotator], pairs: Sequence[Candidates], per_pair: int, seed: int
) -> list[list[Pairwise]]:
    """Verdicts for each pair by ``per_pair`` different judges, sides shuffled for every verdict.

    ``p_a`` of a verdict is 1, 0, or 0.5 for a tie, and refers to the sides as shown.
    """
    if not 1 <= per_pair <= len(annotators):
        raise ConfigError(
            f"per_pair is {per_pair}", where="per_pair", expected=f"1 to {len(annotators)}, the number of annotators"
        )
    draw = random.Random(derive(seed, "judgments"))
    done = dict.fromkeys((a.name for a in annotators), 0)
    worth = {Outcome.A: 1.0, Outcome.B: 0.0, Outcome.TIE: 0.5}
    verdicts = []
    for prompt, left, right in pairs:
        given = []
        for annotator in draw.sample(list(annotators), per_pair):
            a, b = (left, right) if draw.random() < 0.5 else (right, left)
            outcome = annotator.judge(prompt.text, a, b, draw, done[annotator.name])
            done[annotator.name] += 1
            given.append(Pairwise(annotator.name, prompt.text, a, b, worth[outcome]))
        verdicts.append(given)
    return verdicts


def label_pairs(
    annotators: Sequence[Annotator], pairs: Sequence[Candidates], per_pair: int, seed: int
) -> list[PreferencePair]:
    """Preference pairs from verdicts: the majority decides, ``strength`` is its share; even votes are dropped."""
    labelled = []
    verdicts = collect(annotators, pairs, per_pair, seed)
    for (prompt, left, right), given in zip(pairs, verdicts, strict=True):
        share = sum(v.p_a if v.a == left else 1.0 - v.p_a for v in given) / len(given)
        if share == 0.5:
            continue
        chosen, rejected = (left, right) if share > 0.5 else (right, left)
        origin = tuple(v.annotator for v in given)
        labelled.append(PreferencePair(prompt.text, chosen, rejected, max(share, 1.0 - share), origin))
    return labelled


def noise_ceiling(labelled: Sequence[PreferencePair]) -> float:
    """How often gold itself agrees with these labels, ties as half: what no model of quality can expect to beat."""
    if not labelled:
        raise ConfigError("no labelled pairs", where="noise_ceiling", expected="at least one")
    total = 0.0
    for pair in labelled:
        assert isinstance(pair.prompt, str)
        gap = gold(pair.prompt, pair.chosen).total - gold(pair.prompt, pair.rejected).total
        total += 0.5 if abs(gap) < 1e-9 else float(gap > 0)
    return total / len(labelled)
