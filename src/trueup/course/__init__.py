"""The course's names, exactly as its documents spell them, as thin views of ``spec/``.

``python -m trueup.course`` prints the demo. Where a document's sketch is mathematically wrong the signature stays and
the maths is right; ``docs/course.md`` shows each difference. Nothing here loads torch, unless a trainer is given a
torch model.
"""

from __future__ import annotations

from trueup.course.analysis import (
    ConstitutionalCritic,
    analyze_reward_hacking,
    compare_alignment_methods,
)
from trueup.course.demonstration import demo
from trueup.course.direct import BigramModel, DPOTrainer, compute_log_probs, compute_sequence_logprob, dpo_loss
from trueup.course.preferences import PreferencePair, create_preference_batch, create_preference_dataset
from trueup.course.reinforcement import (
    AdaptiveKLController,
    PPOBuffer,
    kl_divergence,
    kl_penalty_reward,
    ppo_loss,
    value_loss,
)
from trueup.course.reward import RewardModel, reward_loss, reward_model_loss

__all__ = [
    "AdaptiveKLController",
    "BigramModel",
    "ConstitutionalCritic",
    "DPOTrainer",
    "PPOBuffer",
    "PreferencePair",
    "RewardModel",
    "analyze_reward_hacking",
    "compare_alignment_methods",
    "compute_log_probs",
    "compute_sequence_logprob",
    "create_preference_batch",
    "create_preference_dataset",
    "demo",
    "dpo_loss",
    "kl_divergence",
    "kl_penalty_reward",
    "ppo_loss",
    "reward_loss",
    "reward_model_loss",
    "value_loss",
]
