"""Honest baselines to put beside a reward model: the longer answer wins, and a bag of words.

A reward model that does not beat these has learned nothing that a word count does not know.

Shapes: P pairs, W words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from trueup.errors import DataError
from trueup.evaluation.intervals import SHARE, Floats, Interval, mean_interval
from trueup.types import PreferencePair, prompt_text

_WORD = re.compile(r"[\w']+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Baseline:
    """Accuracy on held-out pairs, ties half, with a 95 % interval from resampling prompts."""

    name: str
    accuracy: Interval
    right_P: Floats
    """For each held-out pair 1 if it was ordered right, 1/2 on a tie, 0 if not."""

    @classmethod
    def of(cls, name: str, right_P: Floats, held_out: Sequence[PreferencePair]) -> Baseline:
        """From what was right on each pair."""
        prompts = [prompt_text(p.prompt) for p in held_out]
        return cls(name, mean_interval(right_P, prompts, bounds=SHARE), right_P)


def length_only(train: Sequence[PreferencePair], held_out: Sequence[PreferencePair]) -> Baseline:
    """Prefer the longer answer, or the shorter one if that is right more often on ``train``."""
    if not train or not held_out:
        raise DataError("no pairs", where="baselines", expected="training and held-out pairs")
    seen = outcomes([len(p.chosen) - len(p.rejected) for p in train])
    sign = 1.0 if seen.mean() >= 0.5 else -1.0
    results = outcomes([sign * (len(p.chosen) - len(p.rejected)) for p in held_out])
    return Baseline.of("longer wins" if sign > 0 else "shorter wins", results, held_out)


def bag_of_words(
    train: Sequence[PreferencePair], held_out: Sequence[PreferencePair], *, vocabulary: int = 5000, l2: float = 1.0
) -> Baseline:
    """Bradley-Terry on word counts: a logistic regression on the difference of the two answers' counts.

    Counts enter as log(1 + n). The strength of each pair is its label and its weight counts
    it; ``l2`` is the ridge in pairs.
    """
    if not train or not held_out:
        raise DataError("no pairs", where="baselines", expected="training and held-out pairs")
    counts = Counter(w for p in train for text in (p.chosen, p.rejected) for w in set(_words(text)))
    index = {word: i for i, (word, _) in enumerate(counts.most_common(vocabulary))}
    x_PW = _differences(train, index)
    strength_P, weight_P = np.array([p.strength for p in train]), np.array([p.weight for p in train])

    def objective(weights_W: Floats) -> tuple[float, Floats]:
        margin_P = x_PW @ weights_W
        loss = strength_P * np.logaddexp(0, -margin_P) + (1 - strength_P) * np.logaddexp(0, margin_P)
        slope_P = weight_P * (1 / (1 + np.exp(-np.clip(margin_P, -500, 500))) - strength_P)
        return float(weight_P @ loss + 0.5 * l2 * weights_W @ weights_W), x_PW.T @ slope_P + l2 * weights_W

    fitted = minimize(objective, np.zeros(len(index)), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    results = outcomes(_differences(held_out, index) @ fitted.x)
    return Baseline.of("bag of words", results, held_out)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def outcomes(margins: Sequence[float] | Floats) -> Floats:
    """1 where the margin of chosen over rejected is above 0, 0 where it is below, 1/2 on a tie [P]."""
    margin_P = np.asarray(margins, dtype=np.float64)
    right: Floats = np.where(margin_P > 0, 1.0, np.where(margin_P < 0, 0.0, 0.5))
    return right


def _differences(pairs: Sequence[PreferencePair], index: dict[str, int]) -> csr_matrix:
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for row, pair in enumerate(pairs):
        for text, sign in ((pair.chosen, 1.0), (pair.rejected, -1.0)):
            for word, n in Counter(_words(text)).items():
                if word in index:
                    rows.append(row)
                    columns.append(index[word])
                    values.append(sign * float(np.log1p(n)))
    return csr_matrix((values, (rows, columns)), shape=(len(pairs), len(index)))
