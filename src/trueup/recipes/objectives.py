"""Preference objectives as a tagged union: ``objective: {kind: dpo, beta: 0.1}``.

Each variant owns exactly the knobs that apply to it, so a knob that does not apply cannot be written.
Calling one maps pair log-probs to one loss per pair; the mathematics lives in ``losses.preference``.

Shapes: B pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from pydantic import Field

from trueup.config import Settings
from trueup.losses import preference as losses


@dataclass(frozen=True, eq=False)
class PairLogps:
    """Sequence log-probs (sums over tokens, nats) and token counts of the two sides of B pairs."""

    chosen_B: torch.Tensor
    rejected_B: torch.Tensor
    chosen_tokens_B: torch.Tensor
    rejected_tokens_B: torch.Tensor


Rewards: TypeAlias = tuple[torch.Tensor, torch.Tensor]


def _fixed(anchor: PairLogps | None) -> PairLogps:
    if anchor is None:
        raise ValueError("this objective needs reference log-probs")
    return anchor


def _log_ratios(now: PairLogps, anchor: PairLogps | None, beta: float) -> Rewards:
    fixed = _fixed(anchor)
    return beta * (now.chosen_B - fixed.chosen_B), beta * (now.rejected_B - fixed.rejected_B)


def _mean_log_ratios(now: PairLogps, anchor: PairLogps | None, beta: float) -> Rewards:
    chosen_B, rejected_B = _log_ratios(now, anchor, beta)
    return chosen_B / now.chosen_tokens_B, rejected_B / now.rejected_tokens_B


class Dpo(Settings):
    """DPO (Rafailov et al. 2023, eq. 7); label smoothing makes it conservative DPO (Mitchell 2023)."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["dpo"] = "dpo"
    """Name of the objective."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference: the implicit reward is beta times the log-ratio."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of flipped labels; the loss is stationary at a margin of logit(1 - it)."""

    def __call__(self, now: PairLogps, anchor: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` is the probability that chosen is better."""
        fixed = _fixed(anchor)
        return losses.dpo(
            now.chosen_B,
            now.rejected_B,
            fixed.chosen_B,
            fixed.rejected_B,
            self.beta,
            label_smoothing=self.label_smoothing,
            strength_B=strength_B,
        )

    def implicit_rewards(self, now: PairLogps, anchor: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _log_ratios(now, anchor, self.beta)


class RobustDpo(Settings):
    """Robust DPO (Chowdhury et al. 2024): unbiased for the clean loss when labels flip at a known rate."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["robust-dpo"] = "robust-dpo"
    """Name of the objective."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference."""
    flip_rate: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of pairs whose label is wrong; measure it by double annotation."""

    def __call__(self, now: PairLogps, anchor: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]."""
        fixed = _fixed(anchor)
        return losses.robust_dpo(
            now.chosen_B, now.rejected_B, fixed.chosen_B, fixed.rejected_B, self.beta, self.flip_rate
        )

    def implicit_rewards(self, now: PairLogps, anchor: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _log_ratios(now, anchor, self.beta)


class Ipo(Settings):
    """IPO (Azar et al. 2023, eq. 17): regress the log-ratio gap to 1/(2 tau), so it cannot grow without bound."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["ipo"] = "ipo"
    """Name of the objective."""
    tau: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference; the target gap is 1/(2 tau)."""
    reduce: Literal["mean", "sum"] = "mean"
    """Log-ratios per token (the authors' practice) or summed over the sequence (the theory)."""

    def __call__(self, now: PairLogps, anchor: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]."""
        fixed = _fixed(anchor)
        chosen_B = now.chosen_tokens_B if self.reduce == "mean" else torch.ones_like(now.chosen_B)
        rejected_B = now.rejected_tokens_B if self.reduce == "mean" else torch.ones_like(now.rejected_B)
        return losses.ipo(
            now.chosen_B / chosen_B,
            now.rejected_B / rejected_B,
            fixed.chosen_B / chosen_B,
            fixed.rejected_B / rejected_B,
            self.tau,
        )

    def implicit_rewards(self, now: PairLogps, anchor: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        ratios = _mean_log_ratios if self.reduce == "mean" else _log_ratios
        return ratios(now, anchor, self.tau)


class Hinge(Settings):
    """Hinge loss on the DPO margin (SLiC-HF, Zhao et al. 2023, in the form of Liu et al. 2024)."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["hinge"] = "hinge"
    """Name of the objective."""
    beta: float = Field(default=0.1, gt=0)
    """Scale of the margin; the loss is zero beyond a log-ratio gap of 1/beta."""

    def __call__(self, now: PairLogps, anchor: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]."""
        fixed = _fixed(anchor)
        return losses.hinge(now.chosen_B, now.rejected_B, fixed.chosen_B, fixed.rejected_B, self.beta)

    def implicit_rewards(self, now: PairLogps, anchor: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _log_ratios(now, anchor, self.beta)


class LengthNormalisedDpo(Settings):
    """DPO on log-ratios per token (Tulu 3, Lambert et al. 2024); beta is larger by about the length."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["length-normalised-dpo"] = "length-normalised-dpo"
    """Name of the objective."""
    beta: float = Field(default=5.0, gt=0)
    """Strength of the pull to the reference, on the per-token scale."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of flipped labels."""

    def __call__(self, now: PairLogps, anchor: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]."""
        fixed = _fixed(anchor)
        return losses.length_normalised_dpo(
            now.chosen_B,
            now.rejected_B,
            fixed.chosen_B,
            fixed.rejected_B,
            now.chosen_tokens_B,
            now.rejected_tokens_B,
            self.beta,
            label_smoothing=self.label_smoothing,
            strength_B=strength_B,
        )

    def implicit_rewards(self, now: PairLogps, anchor: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _mean_log_ratios(now, anchor, self.beta)


class DpoNll(Settings):
    """DPO plus the negative log-likelihood of the chosen response per token (Pang et al. 2024; Llama 3)."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["dpo-nll"] = "dpo-nll"
    """Name of the objective."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference."""
    nll_weight: float = Field(default=0.2, ge=0)
    """Weight of the likelihood term; 0.2 in Llama 3, 1 in iterative RPO."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of flipped labels."""

    def __call__(self, now: PairLogps, anchor: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]."""
        fixed = _fixed(anchor)
        return losses.dpo_nll(
            now.chosen_B,
            now.rejected_B,
            fixed.chosen_B,
            fixed.rejected_B,
            now.chosen_tokens_B,
            self.beta,
            self.nll_weight,
            label_smoothing=self.label_smoothing,
            strength_B=strength_B,
        )

    def implicit_rewards(self, now: PairLogps, anchor: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _log_ratios(now, anchor, self.beta)


class SimPo(Settings):
    """SimPO (Meng et al. 2024, eq. 6): mean log-probs as rewards, a target margin, no reference."""

    uses_reference: ClassVar[bool] = False
    kind: Literal["simpo"] = "simpo"
    """Name of the objective."""
    beta: float = Field(default=2.5, gt=0)
    """Scale of the mean log-probs."""
    gamma: float = Field(default=1.25, ge=0)
    """Target margin between the rewards; the paper starts from half of beta."""

    def __call__(self, now: PairLogps, anchor: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]."""
        return losses.simpo(
            now.chosen_B, now.rejected_B, now.chosen_tokens_B, now.rejected_tokens_B, self.beta, self.gamma
        )

    def implicit_rewards(self, now: PairLogps, anchor: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _means(now, self.beta)


class Orpo(Settings):
    """ORPO (Hong et al. 2024, eq. 6): likelihood of chosen plus an odds-ratio penalty, no reference."""

    uses_reference: ClassVar[bool] = False
    kind: Literal["orpo"] = "orpo"
    """Name of the objective."""
    weight: float = Field(default=0.1, ge=0)
    """Weight of the odds-ratio term (lambda in the paper)."""

    def __call__(self, now: PairLogps, anchor: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]."""
        return losses.orpo(now.chosen_B, now.rejected_B, now.chosen_tokens_B, now.rejected_tokens_B, self.weight)

    def implicit_rewards(self, now: PairLogps, anchor: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies: mean log-probs, which order pairs as the odds do."""
        return _means(now, 1.0)


def _means(now: PairLogps, scale: float) -> Rewards:
    return scale * now.chosen_B / now.chosen_tokens_B, scale * now.rejected_B / now.rejected_tokens_B


Objective: TypeAlias = Dpo | RobustDpo | Ipo | Hinge | LengthNormalisedDpo | DpoNll | SimPo | Orpo
"""Every objective on pairs; ``kind`` tells them apart."""

OBJECTIVES: tuple[type[Settings], ...] = (Dpo, RobustDpo, Ipo, Hinge, LengthNormalisedDpo, DpoNll, SimPo, Orpo)
