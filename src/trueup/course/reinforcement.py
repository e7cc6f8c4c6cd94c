"""The course's PPO parts: buffer, losses, KL penalty and its controller. Legend: N transitions."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from trueup.course.arrays import floats
from trueup.errors import ConfigError, NonFiniteError, ShapeError
from trueup.spec import advantage, kl, policy
from trueup.spec.shapes import Array, require_same


class PPOBuffer:
    """Transitions in time order, and their generalised advantage estimates."""

    def __init__(self, gamma: float = 0.99, lam: float = 0.95) -> None:
        if not (0 <= gamma <= 1 and 0 <= lam <= 1):
            raise ConfigError(f"gamma {gamma}, lam {lam}", where="PPOBuffer", expected="both in [0, 1]")
        self.gamma = gamma
        self.lam = lam
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.states: list[Any] = []
        self.actions: list[Any] = []
        self.rewards: list[float] = []
        self.values: list[float] = []
        self.log_probs: list[float] = []
        self.dones: list[bool] = []
        self.bootstraps: list[float | None] = []
        self._last_value = 0.0

    def __len__(self) -> int:
        return len(self.rewards)

    def add(
        self,
        state: Any,
        action: Any,
        reward: float,
        value: float,
        log_prob: float,
        done: bool = False,
        *,
        truncated_value: float | None = None,
    ) -> None:
        """Add a transition.

        ``done`` says that it ended the episode. ``truncated_value`` says that it was cut off by a limit instead, and
        gives V of the state that would have come next: the return goes on with that value, the trace stops.
        """
        if done and truncated_value is not None:
            raise ConfigError("done and truncated at once", where="PPOBuffer.add", expected="one of them")
        for name, number in (("reward", reward), ("value", value), ("log_prob", log_prob), ("V", truncated_value)):
            if number is not None and not np.isfinite(number):
                raise NonFiniteError(f"{name} is {number}", where=f"PPOBuffer.add, transition {len(self)}")
        self._last_value = 0.0
        self.states.append(state)
        self.actions.append(action)
        self.rewards.append(float(reward))
        self.values.append(float(value))
        self.log_probs.append(float(log_prob))
        self.dones.append(bool(done))
        self.bootstraps.append(truncated_value)

    def compute_advantages(self, last_value: float = 0.0, *, normalize: bool = False) -> tuple[Array, Array]:
        """``(advantages, returns)`` [N].

        Args:
            last_value: V of the state after the last transition, if the episode goes on there.
            normalize: Scale advantages to mean 0 and variance 1; returns are made before that.
        """
        if not np.isfinite(last_value):
            raise NonFiniteError(f"last_value is {last_value}", where="PPOBuffer.compute_advantages")
        self._last_value = float(last_value)
        pieces: list[Array] = []
        start = 0
        for index in range(len(self)):
            cut = self.dones[index] or self.bootstraps[index] is not None
            if not cut and index + 1 < len(self):
                continue
            bootstrap = self.bootstraps[index]
            after = 0.0 if self.dones[index] else bootstrap if bootstrap is not None else last_value
            rewards, values = (np.array([x[start : index + 1]]) for x in (self.rewards, self.values))
            mask = np.ones(rewards.shape, dtype=bool)
            pieces.append(advantage.gae(rewards, values, mask, self.gamma, self.lam, np.array([after]))[0])
            start = index + 1
        advantages = np.concatenate(pieces) if pieces else np.zeros(0)
        returns: Array = advantages + np.array(self.values)
        if normalize and len(self):
            advantages = advantage.whiten(advantages[None], np.ones((1, len(self)), dtype=bool))[0]
        return advantages, returns

    def get_batch(self, last_value: float | None = None, *, normalize: bool = False) -> dict[str, Any]:
        """Everything as arrays: states, actions, old_log_probs, advantages, returns, values.

        Without ``last_value`` it is the one given to ``compute_advantages`` for these transitions, else 0.
        """
        after = self._last_value if last_value is None else last_value
        advantages, returns = self.compute_advantages(after, normalize=normalize)
        return {
            "states": np.array(self.states),
            "actions": np.array(self.actions),
            "old_log_probs": np.array(self.log_probs),
            "advantages": advantages,
            "returns": returns,
            "values": np.array(self.values),
        }


def ppo_loss(
    new_log_probs: Array, old_log_probs: Array, advantages: Array, clip_ratio: float = 0.2
) -> tuple[float, Array]:
    """Clipped surrogate as a loss, averaged over all elements, and its true gradient with the inputs' shape."""
    new, old, gain = floats(new_log_probs=new_log_probs, old_log_probs=old_log_probs, advantages=advantages)
    loss = policy.ppo_clip(new, old, gain, clip_ratio)
    (grad,) = policy.ppo_clip_grad(new, old, gain, clip_ratio)
    return float(loss.mean()), grad / loss.size


def value_loss(
    predicted: Array, returns: Array, old_values: Array | None = None, clip_value: float | None = None
) -> tuple[float, Array]:
    """Half the squared error, averaged, and its gradient; clipped where ``old_values`` and ``clip_value`` are given."""
    if (old_values is None) != (clip_value is None):
        raise ConfigError("one of old_values and clip_value is missing", where="value_loss", expected="both or neither")
    value, target, old = floats(
        predicted=predicted, returns=returns, old_values=predicted if old_values is None else old_values
    )
    loss = policy.clipped_value(value, old, target, clip_value)
    (grad,) = policy.clipped_value_grad(value, old, target, clip_value)
    return float(loss.mean()), grad / loss.size


def kl_divergence(log_probs_p: Array, log_probs_q: Array, *, axis: int | None = None) -> Any:
    """KL(P || Q) in nats from the log-probs of whole distributions.

    Without ``axis`` everything is summed to one float: right for one distribution. For a table of distributions give
    the vocabulary's ``axis`` and get one number each.
    """
    p, q = np.asarray(log_probs_p, dtype=np.float64), np.asarray(log_probs_q, dtype=np.float64)
    require_same(log_probs_p=p, log_probs_q=q)
    if axis is None:
        return float(kl.exact(p.reshape(1, 1, -1), q.reshape(1, 1, -1))[0, 0])
    return kl.exact(np.moveaxis(p, axis, -1), np.moveaxis(q, axis, -1))


def kl_penalty_reward(
    policy_log_probs: Array,
    ref_log_probs: Array,
    kl_coef: float = 0.1,
    *,
    estimator: Literal["k1", "k2", "k3", "weighted"] = "k1",
) -> Array:
    """What to subtract from each token's reward, from log-probs of the sampled tokens.

    ``k1`` is log p - log q, whose mean over samples is the KL. ``weighted`` is the document's printed line,
    p (log p - log q): the summand of an exact KL over a whole vocabulary, wrong on sampled tokens.
    """
    p, q = floats(policy_log_probs=policy_log_probs, ref_log_probs=ref_log_probs)
    if estimator == "weighted":
        weighted: Array = kl_coef * np.exp(p) * (p - q)
        return weighted
    if estimator not in ("k1", "k2", "k3"):
        raise ConfigError(f"estimator {estimator!r}", where="kl_penalty_reward", expected="k1, k2, k3 or weighted")
    penalty: Array = kl_coef * getattr(kl, estimator)(p, q)
    return penalty


class AdaptiveKLController:
    """Moves the KL coefficient so that the KL settles at a target (Ziegler et al. 2019)."""

    def __init__(self, init_kl_coef: float = 0.2, target: float = 6.0, horizon: float = 10000.0) -> None:
        self.value = init_kl_coef
        self._control = kl.AdaptiveController(init_kl_coef, target, horizon)

    def update(self, current: float, n_steps: int = 1) -> float:
        """The new coefficient, after ``n_steps`` episodes at a KL of ``current``."""
        if not np.isfinite(current):  # clipping would turn NaN into "far too near" and lower the coefficient
            raise NonFiniteError(f"the KL is {current}", where="AdaptiveKLController.update", expected="nats")
        if n_steps < 1:
            raise ShapeError(f"n_steps is {n_steps}", where="AdaptiveKLController.update", expected="at least 1")
        self.value = self._control.update(self.value, current, n_steps)
        return self.value
