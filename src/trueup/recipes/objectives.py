"""Objectives on pairs as a tagged union: ``objective: {kind: dpo, beta: 0.1}``.

Each variant owns exactly the knobs that apply to it, so a knob that does not apply cannot be written.
Calling one maps pair log-probs and label strengths to one loss per pair; the mathematics lives in
``losses.preference``. Every objective uses ``strength``: its loss is the expectation over whether the label is right.

Shapes: B pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias

import torch
from pydantic import Field

from trueup.config import Settings
from trueup.config.code import Code, function_of
from trueup.errors import ConfigError, Interrupted, RunError, ShapeError
from trueup.losses import preference as losses


@dataclass(frozen=True, eq=False)
class PairLogps:
    """Sequence log-probs (sums over tokens, nats) and token counts of the two sides of B pairs."""

    chosen_B: torch.Tensor
    rejected_B: torch.Tensor
    chosen_tokens_B: torch.Tensor
    rejected_tokens_B: torch.Tensor


Rewards: TypeAlias = tuple[torch.Tensor, torch.Tensor]


def _required(reference: PairLogps | None) -> PairLogps:
    if reference is None:
        raise ValueError("this objective needs reference log-probs")
    return reference


def _sums(
    policy: PairLogps, reference: PairLogps | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """What losses against a reference take first: log-probs of chosen and rejected, of both models."""
    reference = _required(reference)
    return policy.chosen_B, policy.rejected_B, reference.chosen_B, reference.rejected_B


def _log_ratios(policy: PairLogps, reference: PairLogps | None, beta: float) -> Rewards:
    reference = _required(reference)
    return (
        losses.implicit_reward(policy.chosen_B, reference.chosen_B, beta),
        losses.implicit_reward(policy.rejected_B, reference.rejected_B, beta),
    )


def _mean_log_ratios(policy: PairLogps, reference: PairLogps | None, beta: float) -> Rewards:
    chosen_B, rejected_B = _log_ratios(policy, reference, beta)
    return chosen_B / policy.chosen_tokens_B, rejected_B / policy.rejected_tokens_B


class DpoObjective(Settings):
    """DPO (Rafailov et al. 2023, eq. 7); label smoothing makes it conservative DPO (Mitchell 2023)."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["dpo"] = "dpo"
    """Name of the objective."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference: the implicit reward is beta times the log-ratio."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of flipped labels; the loss is stationary at a margin of logit(1 - it)."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        return losses.dpo(
            *_sums(policy, reference),
            self.beta,
            label_smoothing=self.label_smoothing,
            strength_B=strength_B,
        )

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _log_ratios(policy, reference, self.beta)


class RobustDpo(Settings):
    """Robust DPO (Chowdhury et al. 2024): unbiased for the clean loss when labels flip at a known rate."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["robust-dpo"] = "robust-dpo"
    """Name of the objective."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference."""
    flip_rate: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of pairs whose label is wrong; measure it by double annotation. 0 where ``strength`` says it already."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        return losses.robust_dpo(
            *_sums(policy, reference),
            self.beta,
            self.flip_rate,
            strength_B=strength_B,
        )

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _log_ratios(policy, reference, self.beta)


class Ipo(Settings):
    """IPO (Azar et al. 2023, eq. 17): regress the log-ratio gap to 1/(2 tau), so it cannot grow without bound."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["ipo"] = "ipo"
    """Name of the objective."""
    tau: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference; the target gap is 1/(2 tau)."""
    reduce: Literal["mean", "sum"] = "mean"
    """Log-ratios per token (the authors' practice) or summed over the sequence (the theory)."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        reference = _required(reference)
        chosen_B = policy.chosen_tokens_B if self.reduce == "mean" else torch.ones_like(policy.chosen_B)
        rejected_B = policy.rejected_tokens_B if self.reduce == "mean" else torch.ones_like(policy.rejected_B)
        return losses.ipo(
            policy.chosen_B / chosen_B,
            policy.rejected_B / rejected_B,
            reference.chosen_B / chosen_B,
            reference.rejected_B / rejected_B,
            self.tau,
            strength_B=strength_B,
        )

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        ratios = _mean_log_ratios if self.reduce == "mean" else _log_ratios
        return ratios(policy, reference, self.tau)


class Hinge(Settings):
    """Hinge loss on the DPO margin (SLiC-HF, Zhao et al. 2023, in the form of Liu et al. 2024)."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["hinge"] = "hinge"
    """Name of the objective."""
    beta: float = Field(default=0.1, gt=0)
    """Scale of the margin; the loss is zero beyond a log-ratio gap of 1/beta."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        return losses.hinge(
            *_sums(policy, reference),
            self.beta,
            strength_B=strength_B,
        )

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _log_ratios(policy, reference, self.beta)


class LengthNormalisedDpo(Settings):
    """DPO on log-ratios per token (Tulu 3, Lambert et al. 2024); beta is larger by about the length."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["length-normalised-dpo"] = "length-normalised-dpo"
    """Name of the objective."""
    beta: float = Field(default=5.0, gt=0)
    """Strength of the pull to the reference, on the per-token scale."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of flipped labels."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        return losses.length_normalised_dpo(
            *_sums(policy, reference),
            policy.chosen_tokens_B,
            policy.rejected_tokens_B,
            self.beta,
            label_smoothing=self.label_smoothing,
            strength_B=strength_B,
        )

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _mean_log_ratios(policy, reference, self.beta)


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

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        return losses.dpo_nll(
            *_sums(policy, reference),
            policy.chosen_tokens_B,
            self.beta,
            self.nll_weight,
            label_smoothing=self.label_smoothing,
            strength_B=strength_B,
        )

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _log_ratios(policy, reference, self.beta)


class SimPo(Settings):
    """SimPO (Meng et al. 2024, eq. 6): mean log-probs as rewards, a target margin, no reference."""

    uses_reference: ClassVar[bool] = False
    kind: Literal["simpo"] = "simpo"
    """Name of the objective."""
    beta: float = Field(default=2.5, gt=0)
    """Scale of the mean log-probs."""
    gamma: float = Field(default=1.25, ge=0)
    """Target margin between the rewards; the paper starts from half of beta."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        return losses.simpo(
            policy.chosen_B,
            policy.rejected_B,
            policy.chosen_tokens_B,
            policy.rejected_tokens_B,
            self.beta,
            self.gamma,
            strength_B=strength_B,
        )

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _means(policy, self.beta)


class Orpo(Settings):
    """ORPO (Hong et al. 2024, eq. 6): likelihood of chosen plus an odds-ratio penalty, no reference."""

    uses_reference: ClassVar[bool] = False
    kind: Literal["orpo"] = "orpo"
    """Name of the objective."""
    weight: float = Field(default=0.1, ge=0)
    """Weight of the odds-ratio term (lambda in the paper)."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        return losses.orpo(
            policy.chosen_B,
            policy.rejected_B,
            policy.chosen_tokens_B,
            policy.rejected_tokens_B,
            self.weight,
            strength_B=strength_B,
        )

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies: mean log-probs, which order pairs as the odds do."""
        return _means(policy, 1.0)


def _means(policy: PairLogps, scale: float) -> Rewards:
    return scale * policy.chosen_B / policy.chosen_tokens_B, scale * policy.rejected_B / policy.rejected_tokens_B


class Cpo(Settings):
    """CPO (Xu et al. 2024): DPO whose reference is uniform and cancels, plus the likelihood of chosen."""

    uses_reference: ClassVar[bool] = False
    kind: Literal["cpo"] = "cpo"
    """Name of the objective."""
    beta: float = Field(default=0.1, gt=0)
    """Scale of the log-probs: the implicit reward is beta times their sum over the response."""
    nll_weight: float = Field(default=1.0, ge=0)
    """Weight of the negative log-likelihood of chosen per token; 1 in the paper."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        sides = policy.chosen_B, policy.rejected_B, policy.chosen_tokens_B
        return losses.cpo(*sides, self.beta, self.nll_weight, strength_B=strength_B)

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return self.beta * policy.chosen_B, self.beta * policy.rejected_B


class ApoZero(Settings):
    """APO-zero (D'Oosterlinck et al. 2024, eq. 7): chosen up and rejected down, each against its own reference."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["apo-zero"] = "apo-zero"
    """Name of the objective."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        return losses.apo_zero(*_sums(policy, reference), self.beta, strength_B=strength_B)

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _log_ratios(policy, reference, self.beta)


class ApoDown(Settings):
    """APO-down (D'Oosterlinck et al. 2024, eq. 8): both sides down, rejected more, where the model beats chosen."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["apo-down"] = "apo-down"
    """Name of the objective."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better."""
        return losses.apo_down(*_sums(policy, reference), self.beta, strength_B=strength_B)

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies."""
        return _log_ratios(policy, reference, self.beta)


class PythonObjective(Settings):
    """An objective of your own: a Python function of the pairs' log-probs; its source is part of the run's identity."""

    kind: Literal["python"] = "python"
    """Name of the objective."""
    call: Code
    """``package.module:name`` of a function (or of a class whose objects are called like it) of (policy, reference,
    strength_B) that gives one loss for each pair."""
    uses_reference: bool = True
    """Whether it is given the reference's log-probs; without them ``reference`` is None."""
    beta: float = Field(default=0.1, gt=0)
    """Scale of the implicit rewards that are logged; the function has its own."""

    def __call__(self, policy: PairLogps, reference: PairLogps | None, strength_B: torch.Tensor) -> torch.Tensor:
        """Losses [B]; ``strength_B`` [B] is the probability that chosen is better.

        Raises:
            ConfigError: The function cannot be imported.
            RunError: It raised an exception.
            ShapeError: It gave something else than a tensor [B].
        """
        try:
            losses_B = self._function(policy, reference, strength_B)
        except (ConfigError, Interrupted):
            raise
        except Exception as error:
            raise RunError(
                f"the objective raised {type(error).__name__}: {error}",
                where=self.call,
                fix="mend the function; a run starts anew then (--fresh), since its objective is another one",
            ) from error
        if not isinstance(losses_B, torch.Tensor) or losses_B.shape != strength_B.shape:
            shape = list(losses_B.shape) if isinstance(losses_B, torch.Tensor) else type(losses_B).__name__
            expected = f"a tensor {list(strength_B.shape)}, one loss for each pair"
            raise ShapeError(f"the objective gave {shape}", where=self.call, expected=expected)
        return losses_B

    @cached_property
    def _function(self) -> Callable[..., torch.Tensor]:
        """What the setting names; looked up once, not for each micro-batch."""
        return function_of(self.call, "objective", "policy, reference, strength_B")

    def implicit_rewards(self, policy: PairLogps, reference: PairLogps | None) -> Rewards:
        """Rewards [B], [B] that the policy implies: log-ratios, or mean log-probs without a reference."""
        return _means(policy, 1.0) if reference is None else _log_ratios(policy, reference, self.beta)


Objective: TypeAlias = (
    DpoObjective
    | RobustDpo
    | Ipo
    | Hinge
    | LengthNormalisedDpo
    | DpoNll
    | SimPo
    | Orpo
    | Cpo
    | ApoZero
    | ApoDown
    | PythonObjective
)
"""Every objective on pairs; ``kind`` tells them apart."""
