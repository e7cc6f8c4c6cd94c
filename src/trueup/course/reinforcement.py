"""The course's PPO parts: buffer, losses, KL penalty and its controller. Legend: N transitions."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from trueup.course.arrays import array, floats, number
from trueup.errors import ConfigError, ShapeError
from trueup.spec import advantage, kl, policy
from trueup.spec.shapes import Array, require_same


class PPOBuffer:
    """Transitions in time order, and their generalised advantage estimates.

    ``states``, ``actions``, ``rewards``, ``values``, ``log_probs`` and ``dones`` are lists of one length, to be read,
    appended to or replaced; ``truncated_values`` maps the index of a cut-off transition to V of the state after it.
    """

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
        self.truncated_values: dict[int, float] = {}
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
        where = f"PPOBuffer.add, transition {len(self)}"
        row = [number(name, x, where) for name, x in (("reward", reward), ("value", value), ("log_prob", log_prob))]
        after = None if truncated_value is None else number("truncated_value", truncated_value, where)
        self._last_value = 0.0
        if after is not None:
            self.truncated_values[len(self)] = after
        self.states.append(state)
        self.actions.append(action)
        for column, entry in zip((self.rewards, self.values, self.log_probs), row, strict=True):
            column.append(entry)
        self.dones.append(bool(done))

    def compute_advantages(self, last_value: float = 0.0, *, normalize: bool = False) -> tuple[Array, Array]:
        """``(advantages, returns)`` [N].

        Args:
            last_value: V of the state after the last transition, if the episode goes on there.
            normalize: Scale advantages to mean 0 and variance 1; returns are made before that.
        """
        self._last_value = number("last_value", last_value, "PPOBuffer.compute_advantages")
        self._require_one_length("rewards", "values", "dones")
        rewards_N, values_N = floats(rewards=self.rewards, values=self.values) if len(self) else (np.zeros(0),) * 2
        pieces: list[Array] = []
        start = 0
        for index in range(len(self)):
            bootstrap = self.truncated_values.get(index)
            if not (self.dones[index] or bootstrap is not None) and index + 1 < len(self):
                continue
            after = 0.0 if self.dones[index] else self._last_value if bootstrap is None else bootstrap
            rewards, values = rewards_N[None, start : index + 1], values_N[None, start : index + 1]
            mask = np.ones(rewards.shape, dtype=bool)
            pieces.append(advantage.gae(rewards, values, mask, self.gamma, self.lam, np.array([after]))[0])
            start = index + 1
        advantages = np.concatenate(pieces) if pieces else np.zeros(0)
        returns: Array = advantages + values_N
        if normalize and len(self):
            advantages = advantage.whiten(advantages[None], np.ones((1, len(self)), dtype=bool))[0]
        return advantages, returns

    def _require_one_length(self, *names: str) -> None:
        """The lists are public, so they may have been changed apart from each other."""
        lengths = {name: len(getattr(self, name)) for name in names}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise ShapeError(f"the buffer holds {counts}", where="PPOBuffer", expected="lists of one length")

    def get_batch(self, last_value: float | None = None, *, normalize: bool = False) -> dict[str, Any]:
        """Everything as arrays: states, actions, old_log_probs, advantages, returns, values.

        Without ``last_value`` it is the one given to ``compute_advantages`` for these transitions, else 0.
        """
        self._require_one_length("states", "actions", "rewards", "values", "log_probs", "dones")
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
    p, q = array("log_probs_p", log_probs_p), array("log_probs_q", log_probs_q)
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
        # Clipping would turn NaN into "far too near" and lower the coefficient.
        current = number("the KL", current, "AdaptiveKLController.update")
        if n_steps < 1:
            raise ShapeError(f"n_steps is {n_steps}", where="AdaptiveKLController.update", expected="at least 1")
        self.value = self._control.update(self.value, current, n_steps)
        return self.value
