"""Rollouts that servers drew: how far their log-probs are from the trainer's, how old they are, and what they weigh.

The trainer never learns from a server's log-probs: those of the policy before the update are its own. What the server
says is compared with them, token by token, and may weigh tokens by truncated importance sampling.

Shapes: B rollouts, C completion positions, N completion tokens (flat).
"""

from __future__ import annotations

import math

import torch

from trueup.engine.score import sequence_logps
from trueup.errors import RunError
from trueup.losses import kl
from trueup.losses import policy as losses
from trueup.models.policy import Policy
from trueup.recipes.rollouts.draw import Rollout
from trueup.recipes.rollouts.update import WIDE


def importance_weights(rollout: Rollout, cap: float) -> torch.Tensor:
    """Truncated importance weights [B, C] of what a server drew, 1 in the padding."""
    assert rollout.server_logps_BC is not None
    weights_BC = losses.truncated_importance(rollout.logps_BC, rollout.server_logps_BC, cap)
    return torch.where(rollout.mask_BC, weights_BC, 1.0)


def mismatch_metrics(rollout: Rollout, version: int) -> dict[str, float]:
    """How the log-probs of server and trainer differ, and how old the rollouts are; none of what was drawn here.

    Args:
        rollout: The rollouts of a step.
        version: Of the policy that is trained.
    """
    if rollout.server_logps_BC is None:
        return {}
    server_N = rollout.server_logps_BC[rollout.mask_BC].double()
    trainer_N = rollout.logps_BC[rollout.mask_BC].double()
    gap_N = trainer_N - server_N
    ratio_N = gap_N.clamp(-losses.LOG_RATIO_LIMIT, losses.LOG_RATIO_LIMIT).exp()
    age_B = torch.tensor([version - drawn for drawn in rollout.policy_versions], dtype=torch.float64)
    return {
        "mismatch": float(gap_N.abs().mean()),
        "mismatch_p95": float(gap_N.abs().kthvalue(math.ceil(0.95 * len(gap_N))).values),
        "mismatch_kl": float(kl.k3(server_N, trainer_N).mean()),
        "mismatch_outside": float(((ratio_N < 1 - WIDE) | (ratio_N > 1 + WIDE)).double().mean()),
        "importance_ess": float(ratio_N.sum() ** 2 / (len(ratio_N) * ratio_N.square().sum())),
        "staleness": float(age_B.mean()),
        "staleness_max": float(age_B.max()),
    }


def check_mismatch(rollout: Rollout, policy: Policy, *, limit: float, temperature: float, budget: int) -> None:
    """Refuse rollouts that another model drew, or whose log-probs are of another temperature.

    Args:
        rollout: What a server drew.
        policy: The policy that it should have.
        limit: Mean absolute difference of log-probs, in nats a token, that is still rounding or age.
        temperature: At which it was drawn.
        budget: Padded tokens of one forward pass.

    Raises:
        RunError: Says which of both it is.
    """
    assert rollout.server_logps_BC is not None
    gap = _distance(rollout.logps_BC, rollout)
    if temperature != 1.0:
        plain = sequence_logps(policy, rollout.sequences, budget=budget)
        plain_BC = torch.nn.utils.rnn.pad_sequence(plain, batch_first=True).to(rollout.logps_BC)
        untempered = _distance(plain_BC, rollout)
        if untempered < gap:
            raise RunError(
                f"the servers' log-probs are those of temperature 1 ({untempered:.2g} nats a token from the policy's),"
                f" and rollouts are drawn at {temperature:g}",
                where="rollout.servers",
                expected="log-probs of the distribution that is sampled from",
                fix="start vLLM with --logprobs-mode processed_logprobs, or set sampling.temperature=1",
            )
    if gap > limit:
        raise RunError(
            f"the servers' log-probs are {gap:.2g} nats a token from the policy's own",
            where="rollout.servers",
            expected=f"at most {limit:g} (rollout.max_mismatch)",
            fix="start them with the model that is trained, in a similar precision, with no sampling filters",
        )


def _distance(logps_BC: torch.Tensor, rollout: Rollout) -> float:
    assert rollout.server_logps_BC is not None
    return float((logps_BC - rollout.server_logps_BC)[rollout.mask_BC].abs().mean())
