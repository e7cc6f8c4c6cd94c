"""Do annotators fall into two groups that agree inside and less with each other? Then their values differ.

One scale of quality, however noisy, cannot make such groups: poor judges agree with nobody, not with one another. So a
split is reported only where *both* groups agree more inside than with the other group. Which annotators belong together
is found on one part of the items and measured on another (five-fold cross-fitting), so a split that was picked from
noise measures as nothing.

Shapes: A annotators, I compared pairs, K blocks of them, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from trueup.feedback.quality.comparisons import Vote, votes
from trueup.feedback.records import Judged
from trueup.seeds import derive

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
class Camps:
    """The best split of the crowd, and how far each group agrees inside and with the other, out of sample."""

    groups: tuple[tuple[str, ...], tuple[str, ...]]
    """The larger group first; both empty where nothing can be said."""
    inside: tuple[float | None, float | None]
    between: float | None
    excess: tuple[tuple[float, float] | None, tuple[float, float] | None]
    """95 % bootstrap interval, over items, of each group's inside minus between."""
    found: bool
    reason: str


def camps(judged: Judged) -> Camps:
    """``find_camps`` of a project's votes, computed once."""
    return judged.once("camps", lambda: find_camps(votes(judged)))


def find_camps(rows: Sequence[Vote], *, seed: int = 0) -> Camps:
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


def _agreements(rows: Sequence[Vote], names: Sequence[str]) -> tuple[Floats, Floats]:
    """For each compared pair: who agreed with whom, and who could have."""
    place = {name: at for at, name in enumerate(names)}
    signs: dict[tuple[str, str, str], dict[int, int]] = {}
    for vote in rows:
        if vote.sign:
            signs.setdefault(vote.pair, {})[place[vote.annotator]] = vote.sign
    shared = [given for given in signs.values() if len(given) > 1]
    sign_IA = np.zeros((len(shared), len(names)))
    for at, given in enumerate(shared):
        for who, sign in given.items():
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
    found, most = np.ones(len(left_AA), dtype=bool), -np.inf
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
            found, most = side_A > 0, score
    return found


def _counts(same_IAA: Floats, shared_IAA: Floats, side_A: npt.NDArray[np.bool_]) -> Floats:
    """For each item: agreements and chances inside the first group, inside the second, and between."""
    one, other = side_A, ~side_A
    columns = []
    for rows, cols in ((one, one), (other, other), (one, other)):
        for table in (same_IAA, shared_IAA):
            columns.append(table[:, rows][:, :, cols].sum((1, 2)))
    return np.stack(columns, 1)


def _measured(
    counts_I6: Floats, whole_A: npt.NDArray[np.bool_], names: Sequence[str], draw: np.random.Generator
) -> Camps:
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
    found = bool(((kept_R2 <= 0).mean(0) < LEVEL).all()) and len(kept_R2) > RESAMPLES // 2
    return Camps(
        (groups[order[0]], groups[order[1]]),
        (inside[0], inside[1]),
        float(total_6[4] / total_6[5]),
        ((spans[0][0], spans[0][1]), (spans[1][0], spans[1][1])),
        found,
        "",
    )


def _none(reason: str) -> Camps:
    return Camps(((), ()), (None, None), None, (None, None), False, reason)
