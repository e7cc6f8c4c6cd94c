"""What a reward model has learned of what can be learned: corrected for chance, beside baselines, with intervals.

A coin orders half of all pairs right, so accuracy over the ceiling flatters: where the judges' own noise allows 79 %, a
coin reaches 63 % "of the ceiling". The share that counts is

    (accuracy - 1/2) / (ceiling - 1/2)

which is 0 for a coin and 1 at the ceiling. Accuracy, ceiling and baselines are measured on the same pairs, so prompts
are resampled once for all of them, and a lead over a baseline is a paired difference.

Shapes: P pairs, K prompts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trueup.evaluation.intervals import (
    SHARE,
    Floats,
    Interval,
    bootstrap,
    cluster_sums,
    mean_interval,
    paired_difference,
)


@dataclass(frozen=True, slots=True)
class Skill:
    """A reward model on held-out pairs. Shares are in [0, 1], leads are differences of accuracy."""

    accuracy: Interval
    ceiling: Interval | None
    """What the judges' noise allows, if it is known."""
    learned: Interval | None
    """(accuracy - 1/2) / (ceiling - 1/2); None without a ceiling, or where the ceiling may be no better than a coin."""
    baselines: Mapping[str, Interval]
    """Name -> accuracy of the baseline."""
    leads: Mapping[str, Interval]
    """Name -> accuracy of the reward model minus the baseline's, pair by pair."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "accuracy": self.accuracy.to_dict(),
            "ceiling": self.ceiling.to_dict() if self.ceiling else None,
            "learned": self.learned.to_dict() if self.learned else None,
            "baselines": {name: part.to_dict() for name, part in self.baselines.items()},
            "leads": {name: part.to_dict() for name, part in self.leads.items()},
        }


def reward_skill(
    right_P: npt.ArrayLike,
    prompts: Sequence[Hashable],
    *,
    ceiling_P: npt.ArrayLike | None = None,
    baselines: Mapping[str, npt.ArrayLike] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Skill:
    """Skill from what was right on each of P pairs: 1, or 1/2 on a tie, or 0.

    Args:
        right_P: The reward model.
        prompts: Prompt of each pair; prompts are resampled.
        ceiling_P: Whoever knows the truth and not the noise.
        baselines: The same of baselines, by name.
        resamples: Bootstrap samples.
        seed: Names the draws.

    Raises:
        ShapeError: Not equally many, or none.
    """
    options: dict[str, Any] = {"resamples": resamples, "seed": seed, "bounds": SHARE}
    others = baselines or {}
    ceiling = None if ceiling_P is None else mean_interval(ceiling_P, prompts, **options)
    return Skill(
        mean_interval(right_P, prompts, **options),
        ceiling,
        None if ceiling_P is None else learned_share(right_P, ceiling_P, prompts, resamples=resamples, seed=seed),
        {name: mean_interval(right, prompts, **options) for name, right in others.items()},
        {name: paired_difference(right_P, prompts, right, prompts, **options) for name, right in others.items()},
    )


def learned_share(
    right_P: npt.ArrayLike,
    ceiling_P: npt.ArrayLike,
    prompts: Sequence[Hashable],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """(accuracy - 1/2) / (ceiling - 1/2) with an interval over prompts; None where the ceiling may be a coin's."""
    ceiling = mean_interval(ceiling_P, prompts, resamples=resamples, seed=seed, bounds=SHARE)
    if not ceiling.above(0.5):
        return None
    model_K, _ = cluster_sums(np.asarray(right_P, dtype=np.float64) - 0.5, prompts)
    best_K, _ = cluster_sums(np.asarray(ceiling_P, dtype=np.float64) - 0.5, prompts)

    def share(weights_RK: Floats) -> Floats:
        allowed_R = weights_RK @ best_K
        # A resample in which nothing could be learned has no share; it counts as the largest there is, not as an error.
        shares_R: Floats = np.where(
            allowed_R > 0, weights_RK @ model_K / np.where(allowed_R > 0, allowed_R, 1.0), np.inf
        )
        return shares_R

    interval = bootstrap(share, len(model_K), resamples=resamples, seed=seed, method="percentile")
    return interval if np.isfinite(interval.estimate) else None
