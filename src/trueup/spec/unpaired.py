"""Losses on single responses marked good or bad, each with its hand-derived gradient. Legend: B responses.

The point that rewards are measured from (``z0``, ``shift``) is a constant in every gradient. ``strength_B`` is the
probability that a label is right; every loss is its expectation over that.
"""

from __future__ import annotations

import numpy as np

from trueup.errors import ConfigError
from trueup.spec.shapes import Array, Mask, require_same, sigmoid, softplus


def kto(
    policy_B: Array,
    reference_B: Array,
    desirable_B: Mask,
    z0: float,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    strength_B: Array | None = None,
) -> Array:
    """g w_g s(-x) + (1-g) w_b s(x) [B], x = beta (r - z0), r the log-ratio (Ethayarajh et al. 2024, eq. 8).

    g is the probability that the response is good: the strength of a good label, 1 minus that of a bad one.
    """
    require_same(policy_B=policy_B, reference_B=reference_B, desirable_B=desirable_B)
    if z0 < 0:
        raise ConfigError(f"z0 is {z0}", where="z0", expected="an estimate of a KL, clamped at 0")
    gain_B = beta * (policy_B - reference_B - z0)
    good_B = _good(desirable_B, strength_B)
    out_B: Array = good_B * desirable_weight * sigmoid(-gain_B) + (1 - good_B) * undesirable_weight * sigmoid(gain_B)
    return out_B


def kto_grad(
    policy_B: Array,
    reference_B: Array,
    desirable_B: Mask,
    z0: float,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    strength_B: Array | None = None,
) -> tuple[Array]:
    """((1-g) w_b - g w_g) beta s(1 - s) with respect to the policy [B]; z0 is a constant."""
    gain_B = beta * (policy_B - reference_B - z0)
    good_B = _good(desirable_B, strength_B)
    slope_B = beta * sigmoid(gain_B) * sigmoid(-gain_B)
    return (((1 - good_B) * undesirable_weight - good_B * desirable_weight) * slope_B,)


def bco(
    policy_B: Array,
    reference_B: Array,
    desirable_B: Mask,
    shift: float,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    strength_B: Array | None = None,
) -> Array:
    """g w_g softplus(-x) + (1-g) w_b softplus(x) [B], x = beta r - shift (Jung et al. 2024, arXiv 2404.04656).

    r is the log-ratio, g the probability that the response is good, as for ``kto``. The shift is half the mean reward
    of good responses plus half that of bad ones.
    """
    require_same(policy_B=policy_B, reference_B=reference_B, desirable_B=desirable_B)
    x_B = beta * (policy_B - reference_B) - shift
    good_B = _good(desirable_B, strength_B)
    return good_B * desirable_weight * softplus(-x_B) + (1 - good_B) * undesirable_weight * softplus(x_B)


def bco_grad(
    policy_B: Array,
    reference_B: Array,
    desirable_B: Mask,
    shift: float,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    strength_B: Array | None = None,
) -> tuple[Array]:
    """beta ((1-g) w_b s(x) - g w_g s(-x)) with respect to the policy [B]; the shift is a constant."""
    x_B = beta * (policy_B - reference_B) - shift
    good_B = _good(desirable_B, strength_B)
    return (beta * ((1 - good_B) * undesirable_weight * sigmoid(x_B) - good_B * desirable_weight * sigmoid(-x_B)),)


def _good(desirable_B: Mask, strength_B: Array | None) -> Array:
    """Probability that a response is good [B]: the strength of a good label, 1 minus that of a bad one."""
    if strength_B is None:
        return np.where(desirable_B, 1.0, 0.0)
    require_same(desirable_B=desirable_B, strength_B=strength_B)
    return np.where(desirable_B, strength_B, 1.0 - strength_B)
