"""Kullback-Leibler divergence, exact and from samples, and the controllers of its coefficient.

Legend: B rows, T positions, V vocabulary. Everything is in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trueup.errors import ConfigError, NonFiniteError
from trueup.spec.shapes import Array, require_same


def exact(logp_BTV: Array, logq_BTV: Array) -> Array:
    """sum_v p (log p - log q) [B, T]; a token with p = 0 adds nothing."""
    require_same(logp_BTV=logp_BTV, logq_BTV=logq_BTV)
    p_BTV = np.exp(logp_BTV)
    inside = p_BTV > 0
    gap_BTV = np.subtract(logp_BTV, logq_BTV, out=np.zeros_like(p_BTV), where=inside)
    out_BT: Array = (p_BTV * gap_BTV).sum(-1)
    return out_BT


def exact_grad(logp_BTV: Array, logq_BTV: Array) -> tuple[Array, Array]:
    """(p (log p - log q + 1), -p) with respect to the two arrays of log-probs, taken as free [B, T, V] each."""
    p_BTV = np.exp(logp_BTV)
    inside = p_BTV > 0
    gap_BTV = np.subtract(logp_BTV, logq_BTV, out=np.zeros_like(p_BTV), where=inside)
    return p_BTV * (gap_BTV + 1.0), -p_BTV


def k1(logps_BT: Array, reference_logps_BT: Array) -> Array:
    """log p - log q of sampled tokens [B, T] (Schulman 2020): unbiased, may be negative."""
    require_same(logps_BT=logps_BT, reference_logps_BT=reference_logps_BT)
    return logps_BT - reference_logps_BT


def k1_grad(logps_BT: Array, reference_logps_BT: Array) -> tuple[Array, Array]:
    """(1, -1). As a loss its expected gradient is 0: use it in the reward, never as a loss."""
    return np.ones_like(logps_BT), -np.ones_like(logps_BT)


def k2(logps_BT: Array, reference_logps_BT: Array) -> Array:
    """(log p - log q)^2 / 2 [B, T]: biased, never negative."""
    out_BT: Array = 0.5 * k1(logps_BT, reference_logps_BT) ** 2
    return out_BT


def k2_grad(logps_BT: Array, reference_logps_BT: Array) -> tuple[Array, Array]:
    """(x, -x) for x = log p - log q: on-policy its mean is the gradient of KL(p || q)."""
    gap_BT = k1(logps_BT, reference_logps_BT)
    return gap_BT, -gap_BT


def k3(logps_BT: Array, reference_logps_BT: Array) -> Array:
    """e^-x - 1 + x for x = log p - log q [B, T]: unbiased, never negative."""
    gap_BT = k1(logps_BT, reference_logps_BT)
    out_BT: Array = np.expm1(-gap_BT) + gap_BT
    return out_BT


def k3_grad(logps_BT: Array, reference_logps_BT: Array) -> tuple[Array, Array]:
    """(1 - e^-x, e^-x - 1): on-policy its mean is the gradient of KL(q || p), the other direction."""
    slope_BT = -np.expm1(-k1(logps_BT, reference_logps_BT))
    return slope_BT, -slope_BT


@dataclass(frozen=True, slots=True)
class AdaptiveController:
    """Moves beta so that the KL settles at ``target`` (Ziegler et al. 2019, section 2.2).

    ``horizon`` counts episodes: after that many at full error, beta has changed by a factor of about e^0.2.
    """

    beta: float
    target: float
    horizon: float

    def __post_init__(self) -> None:
        for name in ("beta", "target", "horizon"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", where=f"kl.{name}", expected="above 0")

    def update(self, beta: float, kl: float, n: int) -> float:
        """The next beta, after ``n`` episodes at a mean sequence KL of ``kl``: up if too far, down if too near.

        Raises:
            NonFiniteError: ``kl`` is NaN or infinite; that is no measurement to steer by.
        """
        if not np.isfinite(kl):
            raise NonFiniteError(f"the measured KL is {kl}", where="AdaptiveController.update")
        error = min(0.2, max(-0.2, kl / self.target - 1.0))
        # Beta must stay positive however large the batch is against the horizon.
        return beta * max(1e-3, 1.0 + error * n / self.horizon)


@dataclass(frozen=True, slots=True)
class FixedController:
    """Keeps beta."""

    beta: float

    def __post_init__(self) -> None:
        if self.beta < 0:
            raise ConfigError(f"beta is {self.beta}", where="kl.beta", expected="0 or above")

    def update(self, beta: float, kl: float, n: int) -> float:
        """``beta``, whatever the KL."""
        return beta
