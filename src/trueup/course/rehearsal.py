"""RLHF small enough to watch: a bigram policy, a reward that can be gamed, and PPO from the course's own parts.

Legend: N transitions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trueup.config.seeds import derive
from trueup.course.direct import BigramModel
from trueup.course.reinforcement import AdaptiveKLController, PPOBuffer, kl_penalty_reward, ppo_loss, value_loss
from trueup.spec import logprob
from trueup.spec.shapes import Array

LENGTH = 5
"""Words in an answer."""

_VOCABULARY = 6
_START = 0
_FAVOURED = 1
_RUDE = 5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over the rollouts of one update: ``reward`` as optimised (without the KL penalty), ``quality`` as meant,
    ``kl`` from the reference in nats a rollout."""

    reward: float
    quality: float
    kl: float


class Rehearsal:
    """PPO on answers of five words.

    What is meant: polite answers that do not repeat themselves, the number of different words minus 1 for each rude
    one. What is rewarded: how often one favoured word appears. Both like the favoured word at first; an answer that is
    nothing else has the best reward and one word's worth of quality.

    Args:
        seed: Names every draw.
        kl_coef: Fixed, or a controller that is updated with the KL of each batch.
    """

    def __init__(self, seed: int = 0, kl_coef: float | AdaptiveKLController = 0.0) -> None:
        self.policy = BigramModel(_VOCABULARY, seed=seed)
        # A model that has not been aligned yet: the rude word is its likeliest.
        self.policy.weights_VV[:, _RUDE] += 1.0
        self.policy.weights_VV[:, _START] = -np.inf  # the start symbol is never said
        self.reference_VV = logprob.log_softmax(self.policy.weights_VV[None])[0]
        self.value_T = np.zeros(LENGTH)
        self.kl_coef = kl_coef
        self._seed = seed
        self._round = 0

    def collect(self, rollouts: int) -> PPOBuffer:
        """Sample answers and store each word as a transition; the state is (position, previous word)."""
        rng = np.random.default_rng(derive(self._seed, "rehearsal", self._round))
        self._round += 1
        logp_VV = logprob.log_softmax(self.policy.weights_VV[None])[0]
        coefficient = self.kl_coef if isinstance(self.kl_coef, float) else self.kl_coef.value
        buffer = PPOBuffer(gamma=1.0, lam=0.95)
        for _ in range(rollouts):
            before = _START
            for t in range(LENGTH):
                word = int(rng.choice(_VOCABULARY, p=np.exp(logp_VV[before])))
                ours, theirs = logp_VV[before, word : word + 1], self.reference_VV[before, word : word + 1]
                reward = float(word == _FAVOURED) - float(kl_penalty_reward(ours, theirs, coefficient)[0])
                buffer.add((t, before), word, reward, self.value_T[t], float(ours[0]), done=t == LENGTH - 1)
                before = word
        return buffer

    def logps(self, batch: dict[str, Any]) -> Array:
        """Log-probs [N] of the batch's words under the policy as it is now."""
        logp_VV = logprob.log_softmax(self.policy.weights_VV[None])[0]
        found_N: Array = logp_VV[batch["states"][:, 1], batch["actions"]]
        return found_N

    def update(self, rollouts: int = 64, epochs: int = 4, learning_rate: float = 0.25) -> Evaluation:
        """Collect a batch and take ``epochs`` clipped steps on it."""
        batch = self.collect(rollouts).get_batch(normalize=True)
        position_N, before_N = batch["states"].T
        word_N = batch["actions"]
        for _ in range(epochs):
            _, slope_N = ppo_loss(self.logps(batch), batch["old_log_probs"], batch["advantages"])
            logits_1NV = self.policy.logits(before_N[None])
            (grad_1NV,) = logprob.token_logps_grad(logits_1NV, word_N[None])
            self.policy.update(before_N[None], grad_1NV * slope_N[None, :, None], learning_rate)
            _, error_N = value_loss(self.value_T[position_N], batch["returns"])
            np.add.at(self.value_T, position_N, -learning_rate * error_N)
        words = word_N.reshape(rollouts, LENGTH)
        drift_N = batch["old_log_probs"] - self.reference_VV[before_N, word_N]
        drift = float(drift_N.reshape(rollouts, LENGTH).sum(-1).mean())
        if isinstance(self.kl_coef, AdaptiveKLController):
            self.kl_coef.update(drift, rollouts)
        quality = [len(set(row)) - float((row == _RUDE).sum()) for row in words]
        return Evaluation(float((words == _FAVOURED).sum(-1).mean()), float(np.mean(quality)), drift)
