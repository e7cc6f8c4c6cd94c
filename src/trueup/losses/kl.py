"""Kullback-Leibler divergence, exact and from samples. Twin of ``spec.kl``.

Legend: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import torch

from trueup.losses.shapes import require_same


def exact(logp_BTV: torch.Tensor, logq_BTV: torch.Tensor) -> torch.Tensor:
    """KL(p || q) of each position in nats [B, T]; tokens with p = 0 add nothing."""
    require_same(logp_BTV=logp_BTV, logq_BTV=logq_BTV)
    p_BTV = logp_BTV.exp()
    gap_BTV = torch.where(p_BTV > 0, logp_BTV - logq_BTV, torch.zeros_like(p_BTV))
    return (p_BTV * gap_BTV).sum(-1)


def k1(logps_BT: torch.Tensor, reference_logps_BT: torch.Tensor) -> torch.Tensor:
    """log p - log q of sampled tokens [B, T] (Schulman 2020): unbiased, may be negative."""
    require_same(logps_BT=logps_BT, reference_logps_BT=reference_logps_BT)
    return logps_BT - reference_logps_BT


def k2(logps_BT: torch.Tensor, reference_logps_BT: torch.Tensor) -> torch.Tensor:
    """Half the squared log-ratio [B, T]: biased, never negative."""
    return 0.5 * k1(logps_BT, reference_logps_BT) ** 2


def k3(logps_BT: torch.Tensor, reference_logps_BT: torch.Tensor) -> torch.Tensor:
    """q/p - 1 - log(q/p) [B, T]: unbiased, never negative; wide tails when p and q are far apart."""
    gap_BT = -k1(logps_BT, reference_logps_BT)
    return torch.expm1(gap_BT) - gap_BT
