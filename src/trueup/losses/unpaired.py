"""Losses on single responses marked good or bad. Twin of ``spec.unpaired``. Legend: B responses.

Both pull up what is good and push down what is bad, measured from a point that the caller estimates and that has no
gradient. ``strength_B`` is the probability that a label is right; the loss is its expectation over that.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trueup.errors import ConfigError
from trueup.losses.shapes import require_same


def kto(
    policy_B: torch.Tensor,
    reference_B: torch.Tensor,
    desirable_B: torch.Tensor,
    z0: float,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """KTO [B] (Ethayarajh et al. 2024, eq. 8): weight * (1 - s(beta (r - z0))) if desirable, s's sign turned if not.

    Args:
        policy_B: Sequence log-probs.
        reference_B: The same under the reference.
        desirable_B: The labels, bool.
        z0: The reference point, a detached estimate of KL(policy || reference), at least 0.
        beta: Strength of the pull to the reference.
        desirable_weight: Weight of good responses.
        undesirable_weight: Weight of bad responses.
        strength_B: Probability that a label is right.
    """
    require_same(policy_B=policy_B, reference_B=reference_B, desirable_B=desirable_B)
    if z0 < 0:
        raise ConfigError(f"z0 is {z0}", where="z0", expected="an estimate of a KL, clamped at 0")
    gain_B = beta * (policy_B - reference_B - z0)
    as_good_B, as_bad_B = desirable_weight * torch.sigmoid(-gain_B), undesirable_weight * torch.sigmoid(gain_B)
    return _over_labels(as_good_B, as_bad_B, desirable_B, strength_B)


def bco(
    policy_B: torch.Tensor,
    reference_B: torch.Tensor,
    desirable_B: torch.Tensor,
    shift: float,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """BCO [B] (Jung et al. 2024, arXiv 2404.04656): weight * cross-entropy of the label given beta r - shift.

    Args:
        policy_B: Sequence log-probs.
        reference_B: The same under the reference.
        desirable_B: The labels, bool.
        shift: The reward shift, a detached estimate of the mean of what good and what bad responses are rewarded.
        beta: Strength of the pull to the reference.
        desirable_weight: Weight of good responses.
        undesirable_weight: Weight of bad responses.
        strength_B: Probability that a label is right.
    """
    require_same(policy_B=policy_B, reference_B=reference_B, desirable_B=desirable_B)
    logit_B = beta * (policy_B - reference_B) - shift
    as_good_B, as_bad_B = -desirable_weight * F.logsigmoid(logit_B), -undesirable_weight * F.logsigmoid(-logit_B)
    return _over_labels(as_good_B, as_bad_B, desirable_B, strength_B)


def _over_labels(
    as_good_B: torch.Tensor, as_bad_B: torch.Tensor, desirable_B: torch.Tensor, strength_B: torch.Tensor | None
) -> torch.Tensor:
    """Expectation of the loss over whether a label is right [B]."""
    right_B = torch.where(desirable_B, as_good_B, as_bad_B)
    if strength_B is None:
        return right_B
    require_same(as_good_B=as_good_B, strength_B=strength_B)
    return strength_B * right_B + (1 - strength_B) * torch.where(desirable_B, as_bad_B, as_good_B)
