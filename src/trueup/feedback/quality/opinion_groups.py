"""Do annotators fall into two groups that agree inside and less with each other? Then their values differ.

One scale of quality, however noisy, cannot make such groups: poor judges agree with nobody, not with one another. So a
split is reported only where *both* groups agree more inside than with the other group. Which annotators belong together
is found on one part of the items and measured on another (five-fold cross-fitting), so a split that was picked from
noise measures as nothing.

Shapes: A annotators, I compared pairs, K blocks of them, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from trueup.config.seeds import derive
from trueup.feedback.quality.comparisons import PairVote, votes
from trueup.feedback.store.records import Judged

Floats: TypeAlias = npt.NDArray[np.float64]

FOLDS = 5
RESAMPLES = 1000
BLOCKS = 400
"""Compared pairs are resampled in so many blocks at most."""
LEVEL = 0.01
"""Share of resamples in which a group may agree less inside than outside, for each of the two groups."""
LEAST_SHARED = 100
"""Pairs of verdicts on the same comparison, over the crowd, below which nothing is said."""


@dataclass(frozen=True, slots=True)
class OpinionGroup:
    """Annotators who agree inside more than with the rest: their names, how far, and by how much more (95 %)."""

    annotators: tuple[str, ...]
    inside: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"annotators": list(self.annotators)}


@dataclass(frozen=True, slots=True)
class OpinionGroups:
    """The best split of the crowd, and how far each group agrees inside and with the other, out of sample."""

    groups: tuple[tuple[str, ...], tuple[str, ...]]
    """The larger group first; both empty where nothing can be said."""
    inside: tuple[float | None, float | None]
    between: float | None
    excess: tuple[tuple[float, float] | None, tuple[float, float] | None]
    """95 % bootstrap interval, over items, of each group's inside minus between."""
    found: bool
    """Whether both groups agree more inside than with each other."""
    reason: str

    @property
    def shown(self) -> tuple[OpinionGroup, ...]:
        """The two groups, the larger first, where there are two."""
        if not self.found:
            return ()
        return tuple(
            OpinionGroup(names, inside, *span)
            for names, inside, span in zip(self.groups, self.inside, self.excess, strict=True)
            if span is not None and inside is not None
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: ``found, between, groups, reason``."""
        unsplit = "" if self.found else "no two groups that both agree more inside than with each other"
        return {
            "found": self.found,
            "between": self.between,
            "groups": [group.to_dict() for group in self.shown],
            "reason": unsplit if self.groups[0] else self.reason,
        }

    def verdicts(self) -> list[str]:
        """What the split says of the crowd, in a sentence; nothing where there is none."""
        if not self.found or self.between is None:
            return []
        large, small = self.shown
        return [
            f"Two groups of {len(large.annotators)} and {len(small.annotators)} annotators agree in "
            f"{large.inside:.0%} and {small.inside:.0%} inside and in {self.between:.0%} with each "
            "other: their values differ. One label cannot serve both; look at the guideline before at the people."
        ]


def opinion_groups(judged: Judged) -> OpinionGroups:
    """``find_opinion_groups`` of a project's votes, computed once."""
    return judged.once("opinion groups", lambda: find_opinion_groups(votes(judged)))


def find_opinion_groups(rows: Sequence[PairVote], *, seed: int = 0) -> OpinionGroups:
    """Look for two groups of annotators whose values differ.

    Args:
        rows: Votes; ties are left out.
        seed: Of folds and resamples.
    """
    names = sorted({v.annotator for v in rows})
    if len(names) < 4:
        return _none(f"{len(names)} annotators; two groups take four")
    same_IAA, shared_IAA = _agreements(rows, names)
    if shared_IAA.sum() / 2 < LEAST_SHARED:
        return _none(f"{int(shared_IAA.sum() / 2)} pairs of verdicts on the same comparison; it takes {LEAST_SHARED}")
    draw = np.random.default_rng(derive(seed, "camps"))
    fold_I = draw.permutation(len(same_IAA)) % FOLDS
    whole_A = _split(same_IAA.sum(0), shared_IAA.sum(0))
    counts_I6 = np.zeros((len(same_IAA), 6))
    for fold in range(FOLDS):
        rest = fold_I != fold
        side_A = _split(same_IAA[rest].sum(0), shared_IAA[rest].sum(0))
        if (side_A == whole_A).mean() < 0.5:  # the names of the sides are arbitrary
            side_A = ~side_A
        counts_I6[~rest] = _counts(same_IAA[~rest], shared_IAA[~rest], side_A)
    return _measured(counts_I6, whole_A, names, draw)


def _agreements(rows: Sequence[PairVote], names: Sequence[str]) -> tuple[Floats, Floats]:
    """For each compared pair: who agreed with whom, and who could have."""
    place = {name: at for at, name in enumerate(names)}
    signs: dict[tuple[str, str, str], dict[int, int]] = {}
    for vote in rows:
        if vote.sign:
            signs.setdefault(vote.pair, {})[place[vote.annotator]] = vote.sign
    shared = [verdicts for verdicts in signs.values() if len(verdicts) > 1]
    sign_IA = np.zeros((len(shared), len(names)))
    for at, verdicts in enumerate(shared):
        for who, sign in verdicts.items():
            sign_IA[at, who] = sign
    product_IAA = sign_IA[:, :, None] * sign_IA[:, None, :]
    off_AA = 1.0 - np.eye(len(names))
    return (product_IAA > 0) * off_AA, (product_IAA != 0) * off_AA


def _split(same_AA: Floats, shared_AA: Floats) -> npt.NDArray[np.bool_]:
    """The two groups with most agreement inside and least between, against the crowd's mean agreement.

    Starts from the signs of the leading eigenvectors and moves one annotator at a time.
    """
    mean = float(same_AA.sum() / shared_AA.sum())
    left_AA = same_AA - mean * shared_AA
    _, vectors = np.linalg.eigh(left_AA)
    best_split, most = np.ones(len(left_AA), dtype=bool), -np.inf
    for start_A in vectors.T[::-1][:3]:
        side_A = np.where(start_A >= 0, 1.0, -1.0)
        for _ in range(10 * len(side_A)):
            gain_A = -4 * side_A * (left_AA @ side_A)
            best = int(gain_A.argmax())
            if gain_A[best] <= 1e-9:
                break
            side_A[best] = -side_A[best]
        score = float(side_A @ left_AA @ side_A)
        if score > most:
            best_split, most = side_A > 0, score
    return best_split


def _counts(same_IAA: Floats, shared_IAA: Floats, side_A: npt.NDArray[np.bool_]) -> Floats:
    """For each item: agreements and chances inside the first group, inside the second, and between."""
    first, second = side_A, ~side_A
    columns = []
    for rows, cols in ((first, first), (second, second), (first, second)):
        for table in (same_IAA, shared_IAA):
            columns.append(table[:, rows][:, :, cols].sum((1, 2)))
    return np.stack(columns, 1)


def _measured(
    counts_I6: Floats, whole_A: npt.NDArray[np.bool_], names: Sequence[str], draw: np.random.Generator
) -> OpinionGroups:
    order = (0, 1) if whole_A.sum() * 2 >= len(names) else (1, 0)
    groups = [tuple(n for n, first in zip(names, whole_A, strict=True) if first == wanted) for wanted in (True, False)]
    total_6 = counts_I6.sum(0)
    if min(len(g) for g in groups) < 2 or (total_6[1::2] == 0).any():
        return _none("no split into two groups of two or more that share comparisons")
    blocks = min(BLOCKS, len(counts_I6))
    counts_K6 = np.zeros((blocks, 6))
    np.add.at(counts_K6, draw.permutation(len(counts_I6)) % blocks, counts_I6)
    sums_R6 = draw.multinomial(blocks, np.full(blocks, 1 / blocks), size=RESAMPLES) @ counts_K6
    with np.errstate(invalid="ignore", divide="ignore"):
        shares_R3 = sums_R6[:, ::2] / sums_R6[:, 1::2]
    excess_R2 = shares_R3[:, :2] - shares_R3[:, 2:]
    kept_R2 = excess_R2[np.isfinite(excess_R2).all(1)]
    inside = [float(total_6[2 * g] / total_6[2 * g + 1]) for g in order]
    spans = [tuple(float(x) for x in np.quantile(kept_R2[:, g], (0.025, 0.975))) for g in order]
    differs = bool(((kept_R2 <= 0).mean(0) < LEVEL).all()) and len(kept_R2) > RESAMPLES // 2
    return OpinionGroups(
        (groups[order[0]], groups[order[1]]),
        (inside[0], inside[1]),
        float(total_6[4] / total_6[5]),
        ((spans[0][0], spans[0][1]), (spans[1][0], spans[1][1])),
        differs,
        "",
    )


def _none(reason: str) -> OpinionGroups:
    return OpinionGroups(((), ()), (None, None), None, (None, None), False, reason)
