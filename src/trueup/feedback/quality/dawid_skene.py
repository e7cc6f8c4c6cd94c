"""True labels from noisy ones: majority vote, Dawid-Skene and its one-coin form, by expectation-maximisation.

Dawid and Skene 1979, "Maximum likelihood estimation of observer error-rates using the EM algorithm". On the real crowd
file of the benchmarks it hardly beats the majority: report both, promise nothing.

Shapes: I items, J annotators, K classes, V votes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from trueup.errors import ShapeError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CodedVotes:
    """Votes as three equally long arrays of codes, and the names behind the codes."""

    item_V: Ints
    annotator_V: Ints
    label_V: Ints
    items: tuple[Hashable, ...]
    annotators: tuple[Hashable, ...]
    classes: int

    @classmethod
    def of(cls, rows: Sequence[tuple[Hashable, Hashable, int]], classes: int | None = None) -> CodedVotes:
        """From ``(item, annotator, label)`` rows with labels 0..K-1.

        Raises:
            ShapeError: There are no rows, or a label lies outside 0..K-1.
        """
        if not rows:
            raise ShapeError("there are no votes", where="CodedVotes", expected="at least one")
        items = tuple(dict.fromkeys(row[0] for row in rows))
        annotators = tuple(dict.fromkeys(row[1] for row in rows))
        item_at, annotator_at = ({name: i for i, name in enumerate(names)} for names in (items, annotators))
        label_V = np.array([row[2] for row in rows], dtype=np.int64)
        count = classes if classes is not None else int(label_V.max()) + 1
        if label_V.min() < 0 or label_V.max() >= count:
            raise ShapeError(f"label {int(label_V.max())}", where="CodedVotes", expected=f"0 to {count - 1}")
        return cls(
            np.array([item_at[row[0]] for row in rows], dtype=np.int64),
            np.array([annotator_at[row[1]] for row in rows], dtype=np.int64),
            label_V,
            items,
            annotators,
            count,
        )

    def counts(self) -> Floats:
        """Votes for each class, [I, K]."""
        counts_IK = np.zeros((len(self.items), self.classes))
        np.add.at(counts_IK, (self.item_V, self.label_V), 1.0)
        return counts_IK


@dataclass(frozen=True, eq=False)
class Consensus:
    """Posterior class probabilities [I, K], each annotator's confusion [J, K, K] (true, said), class shares [K]."""

    posterior_IK: Floats
    confusion_JKK: Floats
    share_K: Floats
    iterations: int
    converged: bool

    def labels(self) -> Ints:
        """Most probable class of each item; equal probabilities give the lower class."""
        return np.asarray(self.posterior_IK.argmax(1))


def majority(votes: CodedVotes) -> Floats:
    """Vote shares [I, K]; a tie stays a tie and is for the reader to see."""
    counts_IK = votes.counts()
    share_IK: Floats = counts_IK / counts_IK.sum(1, keepdims=True)
    return share_IK


def dawid_skene(
    votes: CodedVotes,
    *,
    one_coin: bool = False,
    smoothing: float = 0.01,
    trust: float = 0.0,
    iterations: int = 500,
    tolerance: float = 1e-7,
) -> Consensus:
    """EM from the majority's shares.

    Args:
        votes: What was said.
        one_coin: Each annotator is right with one probability, whatever the class, and errs evenly.
        smoothing: Pseudo-votes in each cell of a confusion row, so that a short record proves nothing certain.
        trust: More pseudo-votes for each right answer: what is believed of somebody without a record.
        iterations: Most rounds.
        tolerance: Largest change of a posterior at which it stops.
    """
    counts = (len(votes.annotators), votes.classes, votes.classes)
    posterior_IK, moved, rounds = majority(votes), np.inf, 0
    confusion_JKK = np.zeros(counts)
    share_K = np.zeros(votes.classes)
    while rounds < iterations and moved > tolerance:
        confusion_JKK = _confusion(votes, posterior_IK, smoothing, one_coin, trust)
        share_K = (posterior_IK.sum(0) + smoothing) / (len(votes.items) + smoothing * votes.classes)
        log_IK = np.tile(np.log(share_K), (len(votes.items), 1))
        np.add.at(log_IK, votes.item_V, np.log(confusion_JKK[votes.annotator_V, :, votes.label_V]))
        log_IK -= log_IK.max(1, keepdims=True)
        fresh_IK = np.exp(log_IK)
        fresh_IK /= fresh_IK.sum(1, keepdims=True)
        moved = float(np.abs(fresh_IK - posterior_IK).max())
        posterior_IK = fresh_IK
        rounds += 1
    return Consensus(posterior_IK, confusion_JKK, share_K, rounds, moved <= tolerance)


def _confusion(votes: CodedVotes, posterior_IK: Floats, smoothing: float, one_coin: bool, trust: float) -> Floats:
    said_JKK: Any = np.zeros((len(votes.annotators), votes.classes, votes.classes))
    for k in range(votes.classes):
        np.add.at(said_JKK[:, k], (votes.annotator_V, votes.label_V), posterior_IK[votes.item_V, k])
    if one_coin:
        right_J = np.trace(said_JKK, axis1=1, axis2=2) + smoothing + trust
        all_J = said_JKK.sum((1, 2)) + smoothing * votes.classes + trust
        skill_J = right_J / all_J
        wrong_J = (1 - skill_J) / max(1, votes.classes - 1)
        said_JKK = np.broadcast_to(wrong_J[:, None, None], said_JKK.shape).copy()
        for k in range(votes.classes):
            said_JKK[:, k, k] = skill_J
        one_coin_JKK: Floats = said_JKK
        return one_coin_JKK
    smoothed_JKK: Floats = said_JKK + smoothing + trust * np.eye(votes.classes)
    shares_JKK: Floats = smoothed_JKK / smoothed_JKK.sum(2, keepdims=True)
    return shares_JKK
