"""What best-of-n by a reward picks: with growing n its reward rises; length, markup and gold show at what price.

Shapes: K prompts, N samples of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trueup.errors import ShapeError
from trueup.evaluation.bestofn import best_of_n
from trueup.evaluation.edits import marks


@dataclass(frozen=True, slots=True)
class Picked:
    """Means over prompts of the answer that the reward picks of n."""

    n: int
    reward: float
    words: float
    marks: float
    gold: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def picked_by(
    rewards_KN: npt.ArrayLike, texts_KN: Sequence[Sequence[str]], gold_KN: npt.ArrayLike | None = None
) -> list[Picked]:
    """The curve for n = 1, 2, 4, ... up to N, unbiased from all N samples.

    Raises:
        ShapeError: Rewards, texts and gold are not of one shape.
    """
    rewards = np.asarray(rewards_KN, dtype=np.float64)
    if rewards.ndim != 2 or [len(row) for row in texts_KN] != [rewards.shape[1]] * rewards.shape[0]:
        raise ShapeError(f"rewards {rewards.shape}", expected="one text for each")
    features = {
        "reward": rewards,
        "words": np.array([[float(len(text.split())) for text in row] for row in texts_KN]),
        "marks": np.array([[float(marks(text)) for text in row] for row in texts_KN]),
    }
    if gold_KN is not None:
        features["gold"] = np.asarray(gold_KN, dtype=np.float64)
    sizes = [2**k for k in range(rewards.shape[1].bit_length()) if 2**k <= rewards.shape[1]]
    curve = []
    for n in sizes:
        means = {name: best_of_n(rewards, values_KN, n).estimate for name, values_KN in features.items()}
        curve.append(Picked(n, means["reward"], means["words"], means["marks"], means.get("gold")))
    return curve
