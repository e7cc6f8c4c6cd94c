"""The course's reward model and its Bradley-Terry loss.

Legend: B examples, D features, H hidden units.
"""

from __future__ import annotations

import numpy as np

from trueup.course.arrays import array, floats
from trueup.errors import ShapeError, UsageError
from trueup.spec import mlp, preference
from trueup.spec.shapes import Array

_NAMES = ("W1", "b1", "W2", "b2")
"""Parameters in the documents' order."""

_MOST_OPEN = 8
"""Forward passes kept for their backward; evaluation in a loop must not fill memory."""


class _Global:
    """NumPy's global random state."""

    def standard_normal(self, size: tuple[int, int], /) -> Array:
        return np.random.standard_normal(size)  # noqa: NPY002  (the documents draw from it, so a seed gives their weights)


class RewardModel:
    """An MLP from a representation [B, D] to a reward [B, 1].

    Several forward passes may be open at once (chosen and rejected). ``backward`` takes the one that fits its gradient
    and asks when more than one does, because taking the last one, as a single cache does, gives wrong gradients
    without a word. A pass is closed by its ``backward`` and by any change of the weights.
    """

    def __init__(self, input_dim: int, hidden_dim: int = 256, *, seed: int | None = None) -> None:
        """Random weights: of NumPy's global state, which ``np.random.seed`` sets, or of ``seed`` alone."""
        self.input_dim, self.hidden_dim = input_dim, hidden_dim
        self._weights = mlp.init(input_dim, hidden_dim, _Global() if seed is None else np.random.default_rng(seed))
        self.grads: dict[str, Array] = {}
        self._open: list[mlp.Cache] = []
        self._seen: dict[str, Array] = {}
        self._dropped = 0

    @property
    def cache(self) -> dict[str, Array]:
        """The last open forward pass: its input, its hidden layer before the ReLU, and after."""
        if not self._open or self._moved():
            return {}
        x_BD = self._open[-1].x_BD
        return {"x": x_BD, "h": x_BD @ self._weights["W1"] + self._weights["b1"], "h_relu": self._open[-1].hidden_BH}

    def forward(self, x: Array, *, record: bool = True) -> Array:
        """Rewards [B, 1] of inputs [B, D]. ``record=False`` only evaluates: there will be no ``backward``."""
        (x_BD,) = floats(x=x)
        reward_B1, cache = mlp.forward(self._weights, x_BD.copy())
        if record:
            if self._moved():
                self._open, self._dropped = [], 0
                self._seen = {name: value.copy() for name, value in self._weights.items()}
            # The same input under the same weights is the same pass, however often it is made.
            others = [c for c in self._open if not np.array_equal(c.x_BD, cache.x_BD)]
            self._dropped += max(0, len(others) + 1 - _MOST_OPEN)
            self._open = [*others, cache][-_MOST_OPEN:]
        return reward_B1

    def backward(self, grad_reward: Array, x: Array | None = None, *, accumulate: bool = False) -> Array:
        """Fill ``grads`` with parameter gradients and return those of the input [B, D].

        Args:
            grad_reward: Derivative of the loss with respect to the rewards [B, 1].
            x: The input of the forward pass that is meant; needed when several with as many rows are open.
            accumulate: Add to ``grads`` (for the second side of a pair) instead of replacing them.

        Raises:
            UsageError: No such forward pass is open, several are and ``x`` does not say which, or the weights changed.
        """
        (grad_B1,) = floats(grad_reward=grad_reward)
        cache = self._meant(x, grad_B1)
        gradients, grad_x_BD = mlp.backward(self._weights, cache, grad_B1)
        for name, value in gradients.items():
            self.grads[name] = self.grads[name] + value if accumulate and name in self.grads else value
        self._open = [c for c in self._open if c is not cache]
        return grad_x_BD

    def parameters(self) -> list[Array]:
        """W1, b1, W2, b2; the arrays themselves, so that in-place updates train the model."""
        return [self._weights[name] for name in _NAMES]

    def gradients(self) -> list[Array]:
        """The gradients of the last ``backward``, in the order of ``parameters``; by name they are in ``grads``.

        Raises:
            UsageError: There was no ``backward``.
        """
        if not self.grads:
            raise UsageError("there are no gradients", where="RewardModel.gradients", fix="backward(grad) comes first")
        return [self.grads[name] for name in _NAMES]

    def _moved(self) -> bool:
        """Whether the weights are no longer those that the open passes were made with."""
        return not self._seen or any(not np.array_equal(self._seen[k], v) for k, v in self._weights.items())

    def _meant(self, x: Array | None, grad_B1: Array) -> mlp.Cache:
        if not self._open:
            raise UsageError("no forward pass is open", where="RewardModel.backward", fix="forward(x) comes first")
        if self._moved():
            raise UsageError(
                "the weights changed after the forward pass",
                where="RewardModel.backward",
                fix="take both gradients before the update, the second with accumulate=True",
            )
        if x is not None:
            same = [c for c in self._open if np.array_equal(c.x_BD, x)]
            if not same:
                raise UsageError("no forward pass with this x is open", where="RewardModel.backward")
            return same[0]
        fitting = [c for c in self._open if len(c.x_BD) == len(grad_B1)] if len(self._open) > 1 else self._open
        if len(fitting) != 1 or self._dropped:
            raise UsageError(
                f"{len(self._open) + self._dropped} forward passes are open, {len(fitting)} with as many rows",
                where="RewardModel.backward",
                expected="one, or x= to say which is meant",
                fix="backward(grad, x=chosen); backward(grad, x=rejected, accumulate=True); or stack both sides; "
                "forward(x, record=False) where no backward follows",
            )
        return fitting[0]


def _weight(name: str) -> property:
    def read(self: RewardModel) -> Array:
        return self._weights[name]

    def write(self: RewardModel, value: Array) -> None:
        shape = self._weights[name].shape
        if np.shape(value) != shape:
            raise ShapeError(f"{name} has shape {np.shape(value)}", where=f"RewardModel.{name}", expected=f"{shape}")
        self._weights[name] = array(name, value)

    return property(read, write, doc=f"Parameter {name}.")


for _name in _NAMES:
    setattr(RewardModel, _name, _weight(_name))


def reward_loss(reward_chosen: Array, reward_rejected: Array) -> tuple[float, Array, Array]:
    """Bradley-Terry loss, averaged over all elements, and its gradients.

    Returns:
        ``(loss, grad_chosen, grad_rejected)``; gradients have the inputs' shape and are those of the mean.
    """
    chosen, rejected = floats(reward_chosen=reward_chosen, reward_rejected=reward_rejected)
    grad_chosen, grad_rejected = preference.bradley_terry_grad(chosen, rejected)
    loss = float(preference.bradley_terry(chosen, rejected).mean())
    return loss, grad_chosen / chosen.size, grad_rejected / chosen.size


def reward_model_loss(reward_chosen: Array, reward_rejected: Array) -> tuple[float, Array, Array]:
    """The same as ``reward_loss``; the course uses both names."""
    return reward_loss(reward_chosen, reward_rejected)
