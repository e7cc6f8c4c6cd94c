"""The reward MLP of the course: one hidden layer, with its backward pass.

Legend: B examples, D features, H hidden units, 1 the reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from trueup.errors import ShapeError
from trueup.spec.shapes import Array

Parameters: TypeAlias = dict[str, Array]
"""W1 [D, H], b1 [H], W2 [H, 1], b2 [1]."""


@dataclass(frozen=True, slots=True)
class Cache:
    """What the backward pass of one forward pass needs; each pass has its own."""

    x_BD: Array
    hidden_BH: Array


class Normal(Protocol):
    """Where random numbers come from: a ``numpy.random.Generator``, or ``numpy.random`` itself with its one state."""

    def standard_normal(self, size: tuple[int, int], /) -> Array:
        """Draws of this shape, each with mean 0 and variance 1."""
        ...


def init(input_dim: int, hidden_dim: int, rng: Normal) -> Parameters:
    """Random weights: Glorot scale below, He scale above; zero biases."""
    if input_dim < 1 or hidden_dim < 1:
        raise ShapeError(f"input_dim {input_dim}, hidden_dim {hidden_dim}", expected="both at least 1")
    return {
        "W1": rng.standard_normal((input_dim, hidden_dim)) * np.sqrt(2.0 / (input_dim + hidden_dim)),
        "b1": np.zeros(hidden_dim),
        "W2": rng.standard_normal((hidden_dim, 1)) * np.sqrt(2.0 / hidden_dim),
        "b2": np.zeros(1),
    }


def forward(parameters: Parameters, x_BD: Array) -> tuple[Array, Cache]:
    """relu(x W1 + b1) W2 + b2 [B, 1], and what its backward pass needs."""
    if x_BD.ndim != 2 or x_BD.shape[1] != parameters["W1"].shape[0]:
        raise ShapeError(f"x has shape {x_BD.shape}", where="x", expected=f"[batch, {parameters['W1'].shape[0]}]")
    hidden_BH = np.maximum(0.0, x_BD @ parameters["W1"] + parameters["b1"])
    return hidden_BH @ parameters["W2"] + parameters["b2"], Cache(x_BD, hidden_BH)


def backward(parameters: Parameters, cache: Cache, grad_B1: Array) -> tuple[Parameters, Array]:
    """Gradients of sum(grad * reward) with respect to the parameters, and to x [B, D]."""
    if grad_B1.shape != (cache.x_BD.shape[0], 1):
        raise ShapeError(
            f"the gradient has shape {grad_B1.shape}", where="grad_reward", expected=f"({cache.x_BD.shape[0]}, 1)"
        )
    grad_BH = (grad_B1 @ parameters["W2"].T) * (cache.hidden_BH > 0)
    gradients = {
        "W1": cache.x_BD.T @ grad_BH,
        "b1": grad_BH.sum(0),
        "W2": cache.hidden_BH.T @ grad_B1,
        "b2": grad_B1.sum(0),
    }
    return gradients, grad_BH @ parameters["W1"].T
