"""Whether it pays a policy not to end its answers.

A reward model that was trained on whole answers says little of one that broke off, and what it says may be high. A
policy that notices stops ending its answers; ``missing_eos_penalty`` has to outweigh that.

Shapes: B rollouts.
"""

from __future__ import annotations

import torch

from trueup.recipes.rollouts.draw import Rollout

FEWEST = 8
"""Answers with an end, and without one, from which on they are compared."""
BEYOND_CHANCE = 3.0
"""Standard errors by which answers without an end must lead before anything is said."""


def end_metrics(rollout: Rollout) -> dict[str, float]:
    """Mean score of the answers without an end, where there are any."""
    open_B = _open(rollout)
    return {"score_no_eos": float(rollout.score_B[open_B].mean())} if bool(open_B.any()) else {}


def no_end_pays(rollout: Rollout) -> str | None:
    """What to say where answers without an end lead those with one even after their penalty; None elsewhere."""
    open_B, net_B = _open(rollout), rollout.net_B.double()
    without, ended = net_B[open_B], net_B[~open_B]
    if min(len(without), len(ended)) < FEWEST:
        return None
    gap = float(without.mean() - ended.mean())
    error = float((without.var() / len(without) + ended.var() / len(ended)).sqrt())
    if gap <= BEYOND_CHANCE * error:
        return None
    return (
        f"answers that reach no end score {gap:.2f} more than those that end, after missing_eos_penalty: the policy"
        f" will learn not to end; a missing_eos_penalty larger by {gap:.1f} or more outweighs it"
    )


def _open(rollout: Rollout) -> torch.Tensor:
    return torch.tensor([not completion.ended for completion in rollout.completions], dtype=torch.bool)
