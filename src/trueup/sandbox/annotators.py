"""Simulated annotators of known ability and bias, and the labels they give."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from trueup.config.seeds import derive
from trueup.errors import ConfigError
from trueup.sandbox import phrases
from trueup.sandbox.gold import PARTS, gold_score
from trueup.sandbox.world import SandboxPrompt
from trueup.types import Outcome, PreferencePair, Prompt

Candidates: TypeAlias = tuple[SandboxPrompt, str, str]
Habit: TypeAlias = Literal["fast", "random", "left", "right"]
Worth: TypeAlias = Callable[["Annotator", str, str], float]
"""``worth(annotator, prompt, response)``: how good a response is to an annotator."""
SIDE_ODDS = 3.5
"""Log-odds for the side that somebody takes without reading."""

_COURTESY = (*phrases.OPENERS, *phrases.CLOSERS)


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """What one annotator said of one pair, of which ``a`` was shown first."""

    annotator: str
    prompt: Prompt
    a: str
    b: str
    outcome: Outcome

    def share_of(self, text: str) -> float:
        """Of this vote, what goes to ``text``: 1, 0, or half of it on a tie."""
        if self.outcome is Outcome.TIE:
            return 0.5
        return float(text == (self.a if self.outcome is Outcome.A else self.b))


@dataclass(frozen=True, slots=True)
class Impression:
    """What an annotator thinks of a pair, and how far apart the two seem, in log-odds; 0 for a tie and for a guess."""

    outcome: Outcome
    distance: float


@dataclass(frozen=True)
class Annotator:
    """One judge. The chance to prefer a over b is sigmoid(ability * (value(a) - value(b)) + biases).

    ``value`` is gold re-weighted by ``values``, plus ``length_bias`` for every ten words and ``politeness_bias``
    for every courteous sentence; a world whose texts have worths of their own puts those in its place.
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
    """Share of the ability that is lost for each hundred items of a session."""
    spam: float = 0.0
    """Share of items answered without reading."""
    habit: Habit = "fast"
    """What this judge does without reading: guess at once, guess in the time of a reader, or take a side."""
    log_length_bias: float = 0.0
    """Log-odds for each factor e of more words."""
    cluster: int = 0
    """Whose values, in a world that knows several."""
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
        parts = gold_score(prompt, response).parts
        worth = sum(PARTS[n][0] * self.values.get(n, 1.0) * v for n, v in parts.items())
        courtesy = sum(response.count(s) for s in _COURTESY)
        return worth + self.length_bias * len(response.split()) / 10 + self.politeness_bias * courtesy

    def log_odds(self, prompt: str, a: str, b: str, item: int = 0, worth: Worth | None = None) -> float:
        """Log-odds that ``a``, shown first, is preferred, when the judge reads."""
        value = worth or Annotator.value
        ability = self.ability * max(0.0, 1.0 - self.fatigue * item / 100)
        odds = ability * (value(self, prompt, a) - value(self, prompt, b)) + self.side_bias
        if self.log_length_bias:
            odds += self.log_length_bias * math.log(len(a.split()) / len(b.split()))
        return odds

    def judge(self, prompt: str, a: str, b: str, draw: random.Random, item: int = 0) -> Outcome:
        """One verdict. ``item`` counts how many this judge gave before."""
        return self.impression(prompt, a, b, draw, item).outcome

    def impression(
        self, prompt: str, a: str, b: str, draw: random.Random, item: int = 0, worth: Worth | None = None
    ) -> Impression:
        """One verdict with how clear it is.

        Args:
            prompt: What was asked.
            a: The response shown first.
            b: The other one.
            draw: Where chance comes from.
            item: How many verdicts this judge gave before.
            worth: How good a response is to a judge; None for ``value``.
        """
        if draw.random() < self.spam:
            if self.habit in ("fast", "random"):
                return Impression(draw.choice((Outcome.A, Outcome.B)), 0.0)
            odds = SIDE_ODDS if self.habit == "left" else -SIDE_ODDS
        else:
            odds = self.log_odds(prompt, a, b, item, worth)
            if abs(odds) < self.tie_threshold:
                return Impression(Outcome.TIE, 0.0)
        odds, noise = max(-500.0, min(500.0, odds)), draw.random()
        outcome = Outcome.A if noise < 1.0 / (1.0 + math.exp(-odds)) else Outcome.B
        return Impression(outcome, abs(odds + math.log((1.0 - noise) / max(noise, 1e-12))))

    def seconds(self, words: int, draw: random.Random) -> float:
        """How long an answer takes that has so many words to read before it."""
        reading = 1.0 + words / draw.uniform(2.5, 5.0)  # words a second of people who read
        return draw.uniform(0.4, 1.2) if self.spam > 0.5 and self.habit == "fast" else reading


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


def draw_verdicts(
    annotators: Sequence[Annotator], pairs: Sequence[Candidates], per_pair: int, seed: int
) -> list[list[PairVerdict]]:
    """Verdicts for each pair by ``per_pair`` different judges, sides shuffled for every verdict."""
    if not 1 <= per_pair <= len(annotators):
        raise ConfigError(
            f"per_pair is {per_pair}", where="per_pair", expected=f"1 to {len(annotators)}, the number of annotators"
        )
    draw = random.Random(derive(seed, "judgments"))
    position = dict.fromkeys((a.name for a in annotators), 0)
    verdicts = []
    for prompt, left, right in pairs:
        cast = []
        for annotator in draw.sample(list(annotators), per_pair):
            a, b = (left, right) if draw.random() < 0.5 else (right, left)
            outcome = annotator.judge(prompt.text, a, b, draw, position[annotator.name])
            position[annotator.name] += 1
            cast.append(PairVerdict(annotator.name, prompt.text, a, b, outcome))
        verdicts.append(cast)
    return verdicts


def label_pairs(
    annotators: Sequence[Annotator], pairs: Sequence[Candidates], per_pair: int, seed: int
) -> list[PreferencePair]:
    """Preference pairs from verdicts: the majority decides, ``strength`` is its share; even votes are dropped."""
    labelled = []
    verdicts = draw_verdicts(annotators, pairs, per_pair, seed)
    for (prompt, left, right), cast in zip(pairs, verdicts, strict=True):
        share = sum(verdict.share_of(left) for verdict in cast) / len(cast)
        if share == 0.5:
            continue
        chosen, rejected = (left, right) if share > 0.5 else (right, left)
        origin = tuple(verdict.annotator for verdict in cast)
        labelled.append(PreferencePair(prompt.text, chosen, rejected, max(share, 1.0 - share), origin))
    return labelled


def noise_ceiling(labelled: Sequence[PreferencePair]) -> float:
    """How often gold itself agrees with these labels, ties as half: what no model of quality can expect to beat."""
    if not labelled:
        raise ConfigError("no labelled pairs", where="noise_ceiling", expected="at least one")
    return sum(gold_agrees(labelled)) / len(labelled)


def gold_agrees(labelled: Sequence[PreferencePair]) -> list[float]:
    """Of each labelled pair, with a plain prompt: 1 if gold agrees with the label, 1/2 on a tie, 0 if not."""
    agrees = []
    for pair in labelled:
        assert isinstance(pair.prompt, str)
        gap = gold_score(pair.prompt, pair.chosen).total - gold_score(pair.prompt, pair.rejected).total
        agrees.append(0.5 if abs(gap) < 1e-9 else float(gap > 0))
    return agrees
