"""The course's reward model and its Bradley-Terry loss.

Legend: B examples, D features, H hidden units.
"""

from __future__ import annotations

import numpy as np

from trueup.errors import UsageError
from trueup.spec import mlp, preference
from trueup.spec.shapes import Array, require_same


class RewardModel:
    """An MLP from a representation [B, D] to a reward [B, 1].

    Two forward passes may be open at once (chosen and rejected); ``backward`` then asks which one is meant, because
    taking the last one, as a single cache does, gives wrong gradients without a word.
    """

    def __init__(self, input_dim: int, hidden_dim: int = 256, *, seed: int | None = None) -> None:
        rng = np.random.default_rng(seed)
        self._weights = mlp.init(input_dim, hidden_dim, rng)
        self.grads: dict[str, Array] = {}
        self._open: list[mlp.Cache] = []

    @property
    def cache(self) -> dict[str, Array]:
        """The last forward pass: its input and its hidden layer after the ReLU."""
        if not self._open:
            return {}
        return {"x": self._open[-1].x_BD, "h_relu": self._open[-1].hidden_BH}

    def forward(self, x: Array) -> Array:
        """Rewards [B, 1] of inputs [B, D]."""
        reward_B1, cache = mlp.forward(self._weights, np.asarray(x, dtype=np.float64))
        self._open = [*self._open[-7:], cache]
        return reward_B1

    def backward(self, grad_reward: Array, x: Array | None = None, *, accumulate: bool = False) -> Array:
        """Fill ``grads`` with parameter gradients and return those of the input [B, D].

        Args:
            grad_reward: Derivative of the loss with respect to the rewards [B, 1].
            x: The input of the forward pass that is meant; needed when several are open.
            accumulate: Add to ``grads`` (for the second side of a pair) instead of replacing them.

        Raises:
            UsageError: No forward pass is open, or several are and ``x`` does not say which.
        """
        cache = self._chosen(x)
        gradients, grad_x_BD = mlp.backward(self._weights, cache, np.asarray(grad_reward, dtype=np.float64))
        for name, value in gradients.items():
            self.grads[name] = self.grads[name] + value if accumulate and name in self.grads else value
        self._open = [c for c in self._open if c is not cache]
        return grad_x_BD

    def parameters(self) -> dict[str, Array]:
        """W1, b1, W2, b2; the arrays themselves, so that in-place updates train the model."""
        return self._weights

    def gradients(self) -> dict[str, Array]:
        """The gradients of the last ``backward``."""
        return self.grads

    def _chosen(self, x: Array | None) -> mlp.Cache:
        if x is not None:
            same = [c for c in self._open if c.x_BD.shape == np.shape(x) and np.array_equal(c.x_BD, x)]
            if not same:
                raise UsageError("no forward pass with this x is open", where="RewardModel.backward")
            return same[-1]
        if len(self._open) != 1:
            raise UsageError(
                f"{len(self._open)} forward passes are open",
                where="RewardModel.backward",
                expected="one, or x= to say which is meant",
                fix="backward(grad, x=chosen); backward(grad, x=rejected, accumulate=True); or stack both sides",
            )
        return self._open[0]


def _weight(name: str) -> property:
    def read(self: RewardModel) -> Array:
        return self.parameters()[name]

    def write(self: RewardModel, value: Array) -> None:
        self.parameters()[name] = value

    return property(read, write, doc=f"Parameter {name}.")


for _name in ("W1", "b1", "W2", "b2"):
    setattr(RewardModel, _name, _weight(_name))


def reward_loss(reward_chosen: Array, reward_rejected: Array) -> tuple[float, Array, Array]:
    """Bradley-Terry loss, averaged over all elements, and its gradients.

    Returns:
        ``(loss, grad_chosen, grad_rejected)``; gradients have the inputs' shape and are those of the mean.
    """
    chosen, rejected = np.asarray(reward_chosen, dtype=np.float64), np.asarray(reward_rejected, dtype=np.float64)
    require_same(reward_chosen=chosen, reward_rejected=rejected)
    grad_chosen, grad_rejected = preference.bradley_terry_grad(chosen, rejected)
    loss = float(preference.bradley_terry(chosen, rejected).mean())
    return loss, grad_chosen / chosen.size, grad_rejected / chosen.size


def reward_model_loss(reward_chosen: Array, reward_rejected: Array) -> tuple[float, Array, Array]:
    """The same as ``reward_loss``; the course uses both names."""
    return reward_loss(reward_chosen, reward_rejected)
