"""How the score head of a new reward model starts: drawn, at zero, or fitted to what the backbone already knows.

A head that is drawn starts with rewards that say nothing, and the first steps of training bend the backbone to make up
for it. A head that is first fitted to the frozen backbone starts from what is known already ("linear probing, then
fine-tuning", Kumar et al. 2022, arXiv 2202.10054).

Shapes: N responses, P pairs, D width.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from trueup.config.seeds import derive
from trueup.engine.score import all_states
from trueup.ledger.progress import warn
from trueup.models.heads import RewardModel
from trueup.recipes.agreement import favourite_right
from trueup.spec.preference import bradley_terry, bradley_terry_grad
from trueup.spec.shapes import Array

HeadStart: TypeAlias = Literal["random", "zero", "fit"]

FITTED = 2000
"""So many of the first examples a head is fitted to: their states are all held in memory."""
FOLDS = 5
RIDGES = tuple(10.0**power for power in range(6))
"""Ridges that are tried, in pairs, on states of standard deviation 1."""
CHANCE = float(np.log(2.0))
"""Loss of rewards that say nothing."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Two of the responses whose states are known, by number."""

    better: int
    worse: int
    strength: float
    """Probability that the first is better."""
    weight: float
    prompt: Hashable
    """Pairs of one prompt are held out together."""


@dataclass(frozen=True, slots=True)
class HeadFit:
    """A fitted head, and how well it does on pairs that it was not fitted to."""

    weight_D: Array
    pairs: int
    prompts: int
    """How many different prompts the pairs have."""
    ridge: float | None
    """None where no ridge is better than saying nothing; the head is then zero."""
    loss: float
    """Mean over held-out pairs in five folds, at the chosen ridge."""
    accuracy: float
    """Share of the held-out pairs that are ordered right, ties half; by the pairs' strength."""

    def facts(self) -> dict[str, Any]:
        """For run.json."""
        return {name: value for name, value in asdict(self).items() if name != "weight_D"}


def start_head(
    model: RewardModel,
    how: HeadStart,
    responses: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    contests: Sequence[Contest],
    *,
    budget: int,
    seed: int,
) -> dict[str, Any]:
    """Set the head as ``how`` says; the one that was drawn when the model was opened stays for ``random``.

    Args:
        model: A reward model with one output, before it is placed on its devices.
        how: ``random``, ``zero`` or ``fit``.
        responses: Prompt and completion ids of N responses.
        contests: Pairs of them.
        budget: Tokens of a forward pass.
        seed: Of the run; seeds the folds.

    Returns:
        What ``run.json`` says about it: empty unless the head was fitted.
    """
    if how == "random":
        return {}
    head = model.model.score
    weight_D, facts = np.zeros(head.in_features), {}
    if how == "fit":
        fitted = fit_head(all_states(model, responses, budget=budget).double().numpy(), contests, seed)
        weight_D, facts = fitted.weight_D, {"head": fitted.facts()}
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight_D)[None])
        if head.bias is not None:
            head.bias.zero_()
    return facts


def say_fit(head: Mapping[str, Any]) -> None:
    """One line on the terminal about a head that was fitted.

    Args:
        head: ``HeadFit.facts``.
    """
    if head["prompts"] == 1:
        warn("head: all pairs are of one prompt, so that none can be held out; it starts at zero")
    elif head["ridge"] is None:
        warn(
            f"head: what the frozen model knows says nothing of held-out pairs (of {head['pairs']} in {FOLDS} folds:"
            f" loss {head['loss']:.3f}, chance {CHANCE:.3f}); it starts at zero"
        )
    else:
        print(
            f"head: fitted to {head['pairs']} pairs on the frozen model, ridge {head['ridge']:g};"
            f" on held-out folds accuracy {head['accuracy']:.3f}, loss {head['loss']:.3f}",
            file=sys.stderr,
        )


def fit_head(state_ND: Array, contests: Sequence[Contest], seed: int) -> HeadFit:
    """The Bradley-Terry head of fixed states, with the ridge that does best on held-out prompts.

    Minimises sum_p w_p * cross-entropy(strength_p, sigmoid(w . (s_better - s_worse))) + ridge / 2 |w|^2 over states
    that are scaled to standard deviation 1. Where no ridge beats a loss of ln 2 on held-out folds the head is zero.
    The mean reward of the responses is zero: the head is orthogonal to the mean state.

    Args:
        state_ND: What the head reads of each response.
        contests: At least one pair.
        seed: Seeds which prompts are held out together.
    """
    std_D = state_ND.std(0)
    scale_D = np.where(std_D > 1e-12 * max(1.0, float(np.abs(state_ND).max())), std_D, np.inf)
    better_P, worse_P = (np.array([getattr(pair, side) for pair in contests]) for side in ("better", "worse"))
    x_PD = (state_ND[better_P] - state_ND[worse_P]) / scale_D
    strength_P, weight_P = (np.array([getattr(pair, name) for pair in contests]) for name in ("strength", "weight"))
    prompts = len({pair.prompt for pair in contests})
    fold_P = _folds([pair.prompt for pair in contests], seed)
    losses: list[float] = []
    accuracies: list[float] = []
    for ridge in RIDGES:
        margin_P = np.zeros(len(contests))
        for fold in np.unique(fold_P):
            known = fold_P != fold
            w_D = _fitted(x_PD[known], strength_P[known], weight_P[known], ridge)
            margin_P[~known] = x_PD[~known] @ w_D
        losses.append(float(np.average(_loss(margin_P, strength_P), weights=weight_P)))
        accuracies.append(float(np.average(favourite_right(margin_P, strength_P), weights=weight_P)))
    best = int(np.argmin(losses))
    if losses[best] >= CHANCE:
        return HeadFit(np.zeros(state_ND.shape[1]), len(contests), prompts, None, losses[best], accuracies[best])
    w_D = _fitted(x_PD, strength_P, weight_P, RIDGES[best]) / scale_D
    mean_D = np.where(np.isinf(scale_D), 0.0, state_ND.mean(0))
    if (square := float(mean_D @ mean_D)) > 0:
        w_D = w_D - (w_D @ mean_D) / square * mean_D
    return HeadFit(w_D, len(contests), prompts, RIDGES[best], losses[best], accuracies[best])


def _fitted(x_PD: Array, strength_P: Array, weight_P: Array, ridge: float) -> Array:
    def objective(w_D: Array) -> tuple[float, Array]:
        margin_P = x_PD @ w_D
        slope_P = weight_P * bradley_terry_grad(margin_P, np.zeros_like(margin_P), strength_P)[0]
        loss = float(weight_P @ _loss(margin_P, strength_P) + 0.5 * ridge * w_D @ w_D)
        return loss, x_PD.T @ slope_P + ridge * w_D

    start_D = np.zeros(x_PD.shape[1])
    fitted = minimize(objective, start_D, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(fitted.x, dtype=np.float64)


def _folds(prompts: Sequence[Hashable], seed: int) -> npt.NDArray[np.int64]:
    """The fold of each pair; all of one fold where there is one prompt, which is then not held out from itself."""
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    order = np.random.default_rng(derive(seed, "head folds")).permutation(len(numbers))
    return np.array([order[numbers[prompt]] % FOLDS for prompt in prompts])


def _loss(margin_P: Array, strength_P: Array) -> Array:
    return bradley_terry(margin_P, np.zeros_like(margin_P), strength_P)
