"""What a reward leans on, measured on pairs that it was not trained on.

Two kinds of signs. Correlations say what goes along with a high reward: each answer less the mean of its pair, so that
neither the prompt nor the order of the pair matters. Removals say what the reward itself answers to: the same answer is
scored once more without its markup, an opening, a sentence, a word. Words are chosen on one half of the prompts and
removed on the other, since the largest of many chance findings is always large.

Shapes: P pairs, K prompts, R resamples.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from trueup.config.seeds import derive
from trueup.errors import DataError
from trueup.evaluation.baselines import bag_of_words, length_only, outcomes
from trueup.evaluation.edits import EDITS, marks, opening, without_word
from trueup.evaluation.hacking import Canary, canary
from trueup.evaluation.intervals import Floats, Interval, bootstrap, cluster_sums, mean_interval
from trueup.evaluation.skill import Skill, reward_skill
from trueup.types import PreferencePair, Prompt, content_id, prompt_json

Score: TypeAlias = Callable[[Sequence[Prompt], Sequence[str]], npt.ArrayLike]
"""Rewards of answers, one for each prompt and text."""

FEATURES: Mapping[str, Callable[[str], float]] = {
    "words": lambda text: float(len(text.split())),
    "characters": lambda text: float(len(text)),
    "marks of markup": lambda text: float(marks(text)),
    "exclamation and question marks": lambda text: float(sum(map(text.count, "!?"))),
}
"""What is measured of an answer without reading it."""
_WORD = re.compile(r"[^\W\d_][\w']*")
RARE = 5
"""Pairs in which a word must tell the answers apart to be looked at."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What the reward of an answer does when a part is taken off it."""

    part: str
    answers: int
    """Answers that have the part."""
    change: Interval
    """Mean of reward after minus before, prompts resampled."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How answers are rewarded that begin alike."""

    words: str
    answers: int
    lead: float
    """Mean reward above the mean of the pair."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of about the same probability."""

    pairs: int
    confidence: float
    right: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often the answer with the higher reward is the chosen one, against how sure the reward is of it."""

    scale: float
    """Log-odds of one unit of reward."""
    known: bool
    """Whether the scale is the reward's own; else it is the one that fits these pairs best."""
    error: float
    """Expected calibration error, over ``bins``."""
    bins: tuple[Bin, ...]
    best_scale: float | None
    """The scale under which these pairs are most probable; None where every finite one is beaten by a larger one."""


@dataclass(frozen=True, slots=True)
class Leaning:
    """A reward on pairs."""

    pairs: int
    ties: float
    """Share of pairs with equal rewards."""
    skill: Skill
    canary: Canary
    correlations: Mapping[str, Interval]
    """Feature -> correlation with the reward within pairs; a feature that never differs is not here."""
    removals: tuple[Removal, ...]
    words: tuple[Removal, ...]
    openings: tuple[Opening, ...]
    calibration: Calibration | None
    """None where all rewards of a pair are equal."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form; a bound that is not known is null."""
        return {
            "pairs": self.pairs,
            "ties": self.ties,
            "skill": self.skill.to_dict(),
            "canary": asdict(self.canary),
            "correlations": {name: interval.to_dict() for name, interval in self.correlations.items()},
            "removals": [asdict(r) | {"change": r.change.to_dict()} for r in self.removals],
            "words": [asdict(r) | {"change": r.change.to_dict()} for r in self.words],
            "openings": [asdict(o) for o in self.openings],
            "calibration": None if self.calibration is None else asdict(self.calibration),
        }

    def format_text(self) -> str:
        """For people."""
        return "\n".join(_lines(self))


def leaning(
    pairs: Sequence[PreferencePair],
    score: Score,
    *,
    scale: float | None = None,
    edited: int = 200,
    words: int = 12,
    seed: int = 0,
) -> Leaning:
    """Score pairs, and their answers with parts removed.

    Args:
        pairs: Pairs that the reward was not trained on.
        score: The reward.
        scale: Log-odds of one unit of reward where that is known.
        edited: Pairs, from the first on, whose answers are scored again without parts.
        words: Words that are looked at.
        seed: Names the draws.

    Raises:
        DataError: No pairs.
    """
    if not pairs:
        raise DataError("no pairs", where="pairs", expected="at least one pair with two different answers")
    asked = [pair.prompt for pair in pairs]
    chosen_P = _floats(score(asked, [pair.chosen for pair in pairs]))
    rejected_P = _floats(score(asked, [pair.rejected for pair in pairs]))
    keys, margin_P = [content_id(prompt_json(prompt)) for prompt in asked], chosen_P - rejected_P
    lead = {(i, "chosen"): m / 2 for i, m in enumerate(margin_P.tolist())}
    lead |= {(i, "rejected"): -m / 2 for i, m in enumerate(margin_P.tolist())}
    rewards = {(i, "chosen"): v for i, v in enumerate(chosen_P.tolist())}
    rewards |= {(i, "rejected"): v for i, v in enumerate(rejected_P.tolist())}
    texts = {(i, side): getattr(pair, side) for i, pair in enumerate(pairs) for side in ("chosen", "rejected")}
    bench = _Bench(asked, keys, texts, rewards, score, seed)
    return Leaning(
        pairs=len(pairs),
        ties=float((margin_P == 0).mean()),
        skill=reward_skill(outcomes(margin_P), keys, baselines=cross_fitted(pairs, keys), seed=seed),
        canary=canary(chosen_P.tolist(), rejected_P.tolist()),
        correlations=dict(_correlations(pairs, margin_P, keys, seed)),
        removals=tuple(
            removal
            for name, edit in EDITS.items()
            if (removal := bench.without(name, [k for k in texts if k[0] < edited], edit)) is not None
        ),
        words=tuple(bench.words(margin_P, words)),
        openings=_openings(texts, lead),
        calibration=calibrate(margin_P, scale),
    )


# Accuracy beside baselines -------------------------------------------------------------------------------------------


def cross_fitted(pairs: Sequence[PreferencePair], keys: Sequence[str]) -> dict[str, Floats]:
    """What length alone and a bag of words get right on each pair [P], fitted on the half of the prompts that does not
    have the pair; nothing with fewer than two prompts on either side."""
    halves = halves_of(keys)
    if min(len({keys[i] for i in half}) for half in halves) < 2:
        return {}
    right: dict[str, Floats] = {name: np.zeros(len(pairs)) for name in ("length alone", "bag of words")}
    for held, train in (halves, halves[::-1]):
        known, unknown = [pairs[i] for i in train], [pairs[i] for i in held]
        right["length alone"][held] = length_only(known, unknown).right_P
        right["bag of words"][held] = bag_of_words(known, unknown).right_P
    return right


def halves_of(keys: Sequence[str]) -> tuple[list[int], list[int]]:
    """Pairs in two halves that share no prompt: prompts in order of their hash, each second one."""
    first = set(sorted(set(keys))[::2])
    return [i for i, key in enumerate(keys) if key in first], [i for i, key in enumerate(keys) if key not in first]


# Correlations --------------------------------------------------------------------------------------------------------


def _correlations(
    pairs: Sequence[PreferencePair], margin_P: Floats, keys: Sequence[str], seed: int
) -> Iterator[tuple[str, Interval]]:
    for name, feature in FEATURES.items():
        difference_P = np.array([feature(pair.chosen) - feature(pair.rejected) for pair in pairs])
        interval = within_pairs(difference_P, margin_P, keys, seed=seed)
        if interval is not None:
            yield name, interval


def within_pairs(x_P: Floats, y_P: Floats, keys: Sequence[str], *, seed: int = 0) -> Interval | None:
    """Correlation of two quantities over answers, each less the mean of its pair, from their differences [P].

    The sum over both sides of (x/2)(y/2) is xy/2, so this is sum(xy) / sqrt(sum(x^2) sum(y^2)): which side is called
    chosen does not matter. None where either never differs within a pair.
    """
    products = [cluster_sums(values_P, keys)[0] for values_P in (x_P * y_P, x_P * x_P, y_P * y_P)]
    if not (products[1].sum() and products[2].sum()):
        return None

    def correlation(weights_RK: Floats) -> Floats:
        xy_R, xx_R, yy_R = (weights_RK @ sums_K for sums_K in products)
        norm_R = np.sqrt(xx_R * yy_R)
        values_R: Floats = np.where(norm_R > 0, xy_R / np.where(norm_R > 0, norm_R, 1.0), 0.0)
        return values_R

    return bootstrap(correlation, len(products[0]), seed=seed, method="percentile")


# Removals ------------------------------------------------------------------------------------------------------------

Place: TypeAlias = tuple[int, str]
"""Number of a pair, and which of its sides."""


@dataclass(frozen=True)
class _Bench:
    """Answers with their rewards, and the reward to score them again."""

    asked: Sequence[Prompt]
    keys: Sequence[str]
    texts: Mapping[Place, str]
    rewards: Mapping[Place, float]
    score: Score
    seed: int

    def without(self, part: str, places: Sequence[Place], edit: Callable[[str, random.Random], str]) -> Removal | None:
        """What a removal does to the answers at ``places`` that have the part and more; None where none has it."""
        draw = random.Random(derive(self.seed, "removal", part))
        after = {place: edit(self.texts[place], draw) for place in places}
        after = {k: text for k, text in after.items() if text.split() != self.texts[k].split() and text.strip()}
        if not after:
            return None
        scores = _floats(self.score([self.asked[i] for i, _ in after], list(after.values())))
        change_N = scores - np.array([self.rewards[place] for place in after])
        prompts = [self.keys[i] for i, _ in after]
        return Removal(part, len(after), mean_interval(change_N, prompts, seed=self.seed))

    def words(self, margin_P: Floats, count: int, each: int = 24) -> list[Removal]:
        """The ``count`` words that go along most with the reward on one half of the prompts, removed on the other.

        The largest changes come first; at most ``each`` answers are scored again for a word.
        """
        first, second = halves_of(self.keys)
        removals = []
        for word in _telling(self.texts, margin_P, first)[:count]:
            places = [place for place, text in self.texts.items() if place[0] in set(second) and word in _words(text)]
            removal = self.without(word, places[:each], _taking_out(word))
            removals += [removal] if removal is not None else []
        return sorted(removals, key=lambda removal: -abs(removal.change.estimate))


def _taking_out(word: str) -> Callable[[str, random.Random], str]:
    return lambda text, draw: without_word(text, word)


def _telling(texts: Mapping[Place, str], margin_P: Floats, which: Sequence[int]) -> list[str]:
    """Words by how much the reward of an answer that has them lies above that of the other answer, which has not."""
    leads: dict[str, list[float]] = {}
    for i in which:
        chosen, rejected = _words(texts[i, "chosen"]), _words(texts[i, "rejected"])
        for word in sorted(chosen ^ rejected):
            leads.setdefault(word, []).append(float(margin_P[i]) if word in chosen else -float(margin_P[i]))
    strength = {
        word: abs(np.mean(values)) * np.sqrt(len(values)) / (np.std(values) + 1e-9 + abs(np.mean(values)))
        for word, values in leads.items()
        if len(values) >= RARE
    }
    return sorted(strength, key=lambda word: (-strength[word], word))


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}


def _openings(texts: Mapping[Place, str], lead: Mapping[Place, float], count: int = 8) -> tuple[Opening, ...]:
    """The most frequent openings that stand in several answers, best rewarded first."""
    by_place = {place: opening(text) for place, text in texts.items()}
    frequent = [words for words, n in Counter(by_place.values()).most_common(count) if n >= RARE and words]
    openings = []
    for words in frequent:
        leads = [lead[place] for place, own in by_place.items() if own == words]
        openings.append(Opening(words, len(leads), float(np.mean(leads))))
    return tuple(sorted(openings, key=lambda one: -one.lead))


# Calibration ---------------------------------------------------------------------------------------------------------


def calibrate(margin_P: Floats, scale: float | None = None, bins: int = 5) -> Calibration | None:
    """Probability sigmoid(scale * |margin|) of the better-rewarded answer against how often it is the chosen one.

    Args:
        margin_P: Reward of chosen minus rejected.
        scale: Log-odds of one unit of reward; None: the scale under which these pairs are most probable.
        bins: Bins of equal width over [1/2, 1].

    Returns:
        None where no pair has a margin, or where no scale is known and none fits best.
    """
    if not np.any(margin_P):
        return None
    best = _best_scale(margin_P)
    used = scale if scale is not None else best
    if used is None:
        return None
    confidence_P = 1 / (1 + np.exp(-np.abs(used * margin_P)))
    right_P = outcomes(margin_P)
    index_P = np.minimum(((confidence_P - 0.5) * 2 * bins).astype(int), bins - 1)
    inside = [index_P == b for b in range(bins) if (index_P == b).any()]
    cells = tuple(Bin(int(at.sum()), float(confidence_P[at].mean()), float(right_P[at].mean())) for at in inside)
    error = sum(cell.pairs * abs(cell.right - cell.confidence) for cell in cells) / len(margin_P)
    return Calibration(float(used), scale is not None, float(error), cells, best)


def _best_scale(margin_P: Floats) -> float | None:
    """argmin over s of the mean of log(1 + exp(-s * margin)); None where it is no finite s above 0."""
    if margin_P.min() >= 0 or margin_P.mean() <= 0:  # the loss falls without end, or rises from 0 on
        return None
    unit = float(np.abs(margin_P).mean())

    def loss(log_scale: float) -> float:
        return float(np.logaddexp(0.0, -np.exp(log_scale) * margin_P / unit).mean())

    fitted = minimize_scalar(loss, bounds=(-12.0, 12.0), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(fitted.x)) / unit


# Words ---------------------------------------------------------------------------------------------------------------


def _lines(found: Leaning) -> Iterator[str]:
    skill, order = found.skill, found.canary
    yield f"{found.pairs} pairs: {_span(skill.accuracy)} ordered right, ties half ({found.ties:.1%} ties)"
    if order.flipped:
        yield "THE SIGN IS WRONG: the worse answer has the higher reward significantly more often than not"
    for name, lead in skill.leads.items():
        verdict = "ahead of" if lead.above(0) else "behind" if lead.below(0) else "not told apart from"
        other = skill.baselines[name]
        yield f"  {verdict} {name}, which gets {_span(other)} right; difference {_span(lead)}"
    yield "goes along with the reward, within pairs (correlation, 95 %):"
    for name in FEATURES:
        yield f"  {name}: {_span(found.correlations[name]) if name in found.correlations else 'alike in every pair'}"
    for title, removals in (("without", found.removals), ("without the word", found.words)):
        if removals:
            yield f"reward of the same answer {title} (mean change, 95 %, answers):"
        for removal in removals:
            yield f"  {removal.part}: {_span(removal.change)}, {removal.answers}"
    if found.openings:
        yield "answers that begin alike (reward above the mean of the pair, answers):"
    yield from (f"  {one.words} ...: {one.lead:+.3f}, {one.answers}" for one in found.openings)
    if found.calibration is None:
        yield "calibration: not known; no scale of the reward fits these pairs"
        return
    sure = found.calibration
    kind = "its own scale" if sure.known else "the scale that fits these pairs best"
    best = "" if sure.best_scale is None else f"; these pairs fit {sure.best_scale:.3g} best"
    yield f"calibration, at {sure.scale:.3g} log-odds a unit of reward, {kind}{best}: error {sure.error:.3f}"
    yield from (f"  says {cell.confidence:.0%}: right in {cell.right:.0%} of {cell.pairs} pairs" for cell in sure.bins)


def _span(interval: Interval) -> str:
    bounds = f"{interval.low:.3f} to {interval.high:.3f}" if interval.known else "no interval"
    return f"{interval.estimate:.3f} ({bounds})"


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
