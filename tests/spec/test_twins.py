"""Two independent derivations meet here: spec value = torch value, spec gradient = autograd = central differences."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.spec.logprob import log_softmax
from trueup.spec.shapes import Array

MODULES = ("preference", "unpaired", "policy", "advantage", "logprob", "kl")


def _public(module: Any) -> dict[str, Callable[..., Any]]:
    return {
        name: f
        for name, f in vars(module).items()
        if inspect.isfunction(f) and f.__module__ == module.__name__ and not name.startswith("_")
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_public_loss_has_a_twin_with_the_same_parameters(name: str) -> None:
    spec, losses = (importlib.import_module(f"trueup.{room}.{name}") for room in ("spec", "losses"))
    found = _public(losses)
    assert found
    for loss, function in found.items():
        twin = getattr(spec, loss, None)
        assert twin is not None, f"spec.{name} lacks {loss}"
        assert list(inspect.signature(twin).parameters) == list(inspect.signature(function).parameters)
        defaults = [p.default for p in inspect.signature(twin).parameters.values()]
        assert defaults == [p.default for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", MODULES)
def test_every_gradient_belongs_to_a_value_with_the_same_parameters(name: str) -> None:
    spec = importlib.import_module(f"trueup.spec.{name}")
    for function, grad in ((f, vars(spec).get(f"{f}_grad")) for f in _public(spec) if not f.endswith("_grad")):
        if grad is not None:
            value = vars(spec)[function]
            assert list(inspect.signature(value).parameters) == list(inspect.signature(grad).parameters)


def _draw(seed: int, *shape: int, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape) * scale


Case = tuple[str, str, int, list[Any]]
"""Module, function, number of differentiable leading arguments, arguments."""


def _cases(seed: int, scale: float) -> list[Case]:
    rng = np.random.default_rng(seed)
    four = [_draw(seed + i, 6, scale=scale) - 3 for i in range(4)]
    tokens = [rng.integers(1, 9, 6).astype(float) for _ in range(2)]
    strength = rng.uniform(0.5, 1.0, 6)
    negative = [-np.abs(_draw(seed + i, 6, scale=scale)) - 0.05 for i in (7, 8)]
    ranks = np.stack([rng.permutation(4) for _ in range(5)])
    tied = rng.integers(0, 3, (5, 4))
    some = rng.random((5, 4)) < 0.8
    scores = _draw(seed, 5, 4, scale=scale)
    desirable = rng.random(6) < 0.5
    logits, other = _draw(seed, 3, 4, 5, scale=scale), _draw(seed + 1, 3, 4, 5, scale=scale)
    picked = rng.integers(0, 5, (3, 4))
    mask = np.arange(4)[None] < np.array([4, 2, 0])[:, None]
    three = [_draw(seed + i, 3, 4, scale=min(scale, 2.0)) for i in range(3)]
    return [
        ("preference", "bradley_terry", 2, [four[0], four[1]]),
        ("preference", "bradley_terry", 2, [four[0], four[1], strength, np.abs(four[2])]),
        ("preference", "plackett_luce", 1, [scores, ranks]),
        ("preference", "plackett_luce", 1, [scores, tied, some]),
        ("preference", "implicit_reward", 2, [four[0], four[1], 0.3]),
        ("preference", "dpo", 2, [*four, 0.3]),
        ("preference", "dpo", 2, [*four, 0.3, 0.1, strength]),
        ("preference", "robust_dpo", 2, [*four, 0.3, 0.2]),
        ("preference", "robust_dpo", 2, [*four, 0.3, 0.2, strength]),
        ("preference", "ipo", 2, [*four, 0.5]),
        ("preference", "ipo", 2, [*four, 0.5, strength]),
        ("preference", "hinge", 2, [*four, 0.3]),
        ("preference", "hinge", 2, [*four, 0.3, strength]),
        ("preference", "length_normalised_dpo", 2, [*four, *tokens, 2.0, 0.1, strength]),
        ("preference", "dpo_nll", 2, [*four, tokens[0], 0.3, 0.2]),
        ("preference", "simpo", 2, [four[0], four[1], *tokens, 2.0, 0.5]),
        ("preference", "simpo", 2, [four[0], four[1], *tokens, 2.0, 0.5, strength]),
        ("preference", "orpo", 2, [*negative, *tokens, 0.2]),
        ("preference", "orpo", 2, [*negative, *tokens, 0.2, strength]),
        ("preference", "cpo", 2, [four[0], four[1], tokens[0], 0.3, 0.7]),
        ("preference", "cpo", 2, [four[0], four[1], tokens[0], 0.3, 0.7, strength]),
        ("preference", "apo_zero", 2, [*four, 0.3]),
        ("preference", "apo_zero", 2, [*four, 0.3, strength]),
        ("preference", "apo_down", 2, [*four, 0.3]),
        ("preference", "apo_down", 2, [*four, 0.3, strength]),
        ("unpaired", "kto", 1, [four[0], four[1], desirable, 0.4, 0.3, 1.0, 1.5]),
        ("unpaired", "kto", 1, [four[0], four[1], desirable, 0.4, 0.3, 1.0, 1.5, strength]),
        ("unpaired", "bco", 1, [four[0], four[1], desirable, -0.4, 0.3, 1.0, 1.5]),
        ("unpaired", "bco", 1, [four[0], four[1], desirable, -0.4, 0.3, 1.0, 1.5, strength]),
        ("policy", "ppo_clip", 1, [*three, 0.2]),
        ("policy", "ppo_clip", 1, [*three, 0.2, 0.28]),
        ("policy", "ppo_clip", 1, [*three, 0.2, 0.28, 3.0]),
        ("policy", "gspo", 1, [*three[:2], three[2][:, 0], mask, 0.2]),
        ("policy", "gspo", 1, [*three[:2], three[2][:, 0], mask, 0.2, 0.3]),
        ("policy", "reinforce", 1, three[:2]),
        ("policy", "clipped_value", 1, [*three, 0.2]),
        ("policy", "clipped_value", 1, [*three, None]),
        ("policy", "entropy", 1, [logits]),
        ("logprob", "token_logps", 1, [logits, picked]),
        ("logprob", "token_logps", 1, [logits, picked, mask]),
        ("logprob", "sequence_logps", 1, [logits, picked, mask]),
        ("logprob", "sequence_logps", 1, [logits, picked, mask, True]),
        ("kl", "exact", 2, [log_softmax(logits), log_softmax(other)]),
        ("kl", "k1", 2, three[:2]),
        ("kl", "k2", 2, three[:2]),
        ("kl", "k3", 2, three[:2]),
    ]


NAMES = [f"{m}.{f}/{i}" for i, (m, f, _, _) in enumerate(_cases(0, 1.0))]


def _torch(value: Any) -> Any:
    return torch.tensor(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_values_and_gradients_agree(index: int, seed: int, scale: float) -> None:
    module, name, count, arguments = _cases(seed, scale)[index]
    spec, losses = (importlib.import_module(f"trueup.{room}.{module}") for room in ("spec", "losses"))
    value = getattr(spec, name)(*arguments)
    tensors = [_torch(a) for a in arguments]
    for tensor in tensors[:count]:
        tensor.requires_grad_(True)
    found = getattr(losses, name)(*tensors)
    np.testing.assert_allclose(found.detach().numpy(), value, rtol=1e-10, atol=1e-12)
    automatic = torch.autograd.grad(found.sum(), tensors[:count])
    analytic = getattr(spec, f"{name}_grad")(*arguments)
    assert len(analytic) == count
    for ours, theirs in zip(analytic, automatic, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-11)
    _central(getattr(spec, name), arguments, analytic)


def _central(
    function: Callable[..., Array], arguments: list[Any], analytic: tuple[Array, ...], h: float = 1e-6
) -> None:
    """Central differences of the summed values; a point whose step crosses a kink is left out."""
    rng = np.random.default_rng(0)
    for position, grad in enumerate(analytic):
        flat = arguments[position].reshape(-1)
        for at in rng.choice(flat.size, size=min(5, flat.size), replace=False):
            slopes = []
            for step in (h, h / 2):
                high, low = flat.copy(), flat.copy()
                high[at] += step
                low[at] -= step
                ends = []
                for moved in (high, low):
                    changed = list(arguments)
                    changed[position] = moved.reshape(arguments[position].shape)
                    ends.append(float(function(*changed).sum()))
                slopes.append((ends[0] - ends[1]) / (2 * step))
            if abs(slopes[0] - slopes[1]) > 1e-4 * (1 + abs(slopes[0])):
                continue
            assert slopes[1] == pytest.approx(float(grad.reshape(-1)[at]), rel=1e-4, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([1.0, 0.9]), lam=st.sampled_from([0.0, 0.95, 1.0]))
def test_advantage_functions_agree_whatever_stands_in_the_padding(seed: int, gamma: float, lam: float) -> None:
    from trueup.losses import advantage as torch_side
    from trueup.spec import advantage as spec

    rng = np.random.default_rng(seed)
    rewards, values, kl = (rng.standard_normal((4, 6)) for _ in range(3))
    mask = np.arange(6)[None] < rng.integers(0, 7, 4)[:, None]
    score, boot = rng.standard_normal(4), rng.standard_normal(4)
    dones = rng.random((4, 6)) < 0.3
    for poison in (0.0, np.nan, 1e6):
        r, v, k = (np.where(mask, x, poison) for x in (rewards, values, kl))
        calls: dict[str, list[Any]] = {
            "shaped_rewards": [score, k, mask, 0.1],
            "gae": [r, v, mask, gamma, lam, boot, dones],
            "returns": [r, v, mask],
            "discounted_returns": [r, mask, gamma],
            "whiten": [r, mask],
        }
        for name, arguments in calls.items():
            clean = getattr(spec, name)(
                *[np.nan_to_num(a, nan=0.0) if a is r or a is v or a is k else a for a in arguments]
            )
            for found in (
                getattr(spec, name)(*arguments),
                getattr(torch_side, name)(*map(_torch, arguments)).numpy(),
            ):
                assert np.isfinite(found).all()
                np.testing.assert_allclose(found, clean, rtol=1e-9, atol=1e-10)
    groups = rng.standard_normal((3, 4))
    for name, arguments in (("rloo", [groups]), ("group_advantages", [groups]), ("group_advantages", [groups, False])):
        np.testing.assert_allclose(
            getattr(torch_side, name)(*map(_torch, arguments)).numpy(), getattr(spec, name)(*arguments), atol=1e-12
        )
