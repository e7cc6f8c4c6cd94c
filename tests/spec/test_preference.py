"""Properties of SCIENCE section 3, D and E: the reward-model losses and the DPO family. Numbers are the properties'."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import ConfigError, ShapeError
from trueup.losses import preference as losses
from trueup.spec import preference as spec
from trueup.spec.shapes import Array, sigmoid

floats = st.floats(-50, 50)


def one(*values: float) -> list[Array]:
    return [np.array([v]) for v in values]


def test_property_37_equal_rewards() -> None:
    r = np.zeros(4)
    np.testing.assert_allclose(spec.bradley_terry(r, r), math.log(2))
    chosen, rejected = spec.bradley_terry_grad(r, r)
    np.testing.assert_allclose(chosen / 4, -1 / 8)
    np.testing.assert_allclose(rejected / 4, 1 / 8)


@given(floats, floats, floats)
def test_property_38_and_39_shift_and_swap(a: float, b: float, c: float) -> None:
    loss = spec.bradley_terry(*one(a, b))[0]
    assert spec.bradley_terry(*one(a + c, b + c))[0] == pytest.approx(loss, abs=1e-9)
    assert loss - spec.bradley_terry(*one(b, a))[0] == pytest.approx(-(a - b), abs=1e-9)
    chosen, rejected = spec.bradley_terry_grad(*one(a, b))
    assert chosen[0] == -rejected[0]


@pytest.mark.parametrize("d", [-1000.0, -800.0, -30.0, 0.0, 30.0, 800.0, 1000.0])
def test_property_40_exact_at_extreme_margins(d: float) -> None:
    chosen = torch.tensor([d], dtype=torch.float64, requires_grad=True)
    loss = losses.bradley_terry(chosen, torch.zeros(1, dtype=torch.float64))
    (grad,) = torch.autograd.grad(loss.sum(), chosen)
    expected = -d if d < -40 else math.log1p(math.exp(-d))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert spec.bradley_terry(*one(d, 0.0))[0] == pytest.approx(expected, rel=1e-12)
    assert grad.item() == pytest.approx(spec.bradley_terry_grad(*one(d, 0.0))[0][0], rel=1e-12)
    assert losses.bradley_terry(chosen.float(), torch.zeros(1)).isfinite().all()


@given(floats, st.floats(0.5, 1.0))
def test_property_44_soft_labels_and_margins(d: float, p: float) -> None:
    chosen, zero = one(d, 0.0)
    grad, _ = spec.bradley_terry_grad(chosen, zero, strength_B=np.array([p]))
    assert grad[0] == pytest.approx(sigmoid(chosen)[0] - p, abs=1e-12)
    same = spec.bradley_terry(chosen, zero, margin_B=np.zeros(1))
    assert same[0] == spec.bradley_terry(chosen, zero)[0]
    tie, _ = spec.bradley_terry_grad(chosen, zero, strength_B=np.array([0.5]))
    assert np.sign(tie[0]) == np.sign(np.round(d, 12)) or abs(d) < 1e-9


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=2))
def test_property_45_plackett_luce_of_two_is_bradley_terry(scores: list[float]) -> None:
    pair = np.array([scores])
    expected = spec.bradley_terry(*one(*scores))[0]
    assert spec.plackett_luce(pair, np.array([[0, 1]]))[0] == pytest.approx(expected, abs=1e-10)


def test_property_45_order_of_candidates_and_ties_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(4)
    ranks = np.array([0, 1, 1, 3])
    values = [
        spec.plackett_luce(scores[list(p)][None], ranks[list(p)][None])[0] for p in itertools.permutations(range(4))
    ]
    np.testing.assert_allclose(values, values[0])
    padded = np.array([[*scores, np.nan]])
    mask = np.array([[True] * 4 + [False]])
    assert spec.plackett_luce(padded, np.array([[*ranks, 0]]), mask)[0] == pytest.approx(values[0])
    total = sum(
        math.exp(-spec.plackett_luce(scores[None], np.array([order]))[0]) for order in itertools.permutations(range(4))
    )
    assert total == pytest.approx(1.0)


def test_property_48_recovers_known_scores_and_probabilities() -> None:
    truth = np.array([0.0, 0.7, -0.4, 1.5])
    fitted = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    pairs = list(itertools.combinations(range(4), 2))
    a, b = (torch.tensor(side) for side in zip(*pairs, strict=True))
    p = torch.sigmoid(torch.tensor(truth)[a] - torch.tensor(truth)[b])
    optimizer = torch.optim.LBFGS([fitted], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = losses.bradley_terry(fitted[a], fitted[b], strength_B=p).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    found = fitted.detach().numpy()
    np.testing.assert_allclose(found - found.mean(), truth - truth.mean(), atol=1e-5)


four = st.tuples(floats, floats, floats, floats)


@given(floats, floats)
def test_property_49_identical_policies(a: float, b: float) -> None:
    sides = one(a, b, a, b)
    assert spec.dpo(*sides, 0.1)[0] == pytest.approx(math.log(2))
    chosen, rejected = spec.dpo_grad(*sides, 0.1)
    assert (chosen[0], rejected[0]) == (pytest.approx(-0.05), pytest.approx(0.05))


@given(four, floats)
def test_property_50_constants_cancel(values: tuple[float, ...], c: float) -> None:
    pc, pr, rc, rr = values
    loss = spec.dpo(*one(pc, pr, rc, rr), 0.1)[0]
    assert spec.dpo(*one(pc + c, pr + c, rc, rr), 0.1)[0] == pytest.approx(loss, abs=1e-8)
    assert spec.dpo(*one(pc, pr, rc + c, rr + c), 0.1)[0] == pytest.approx(loss, abs=1e-8)


@given(four)
def test_property_51_pull_is_up_for_chosen_down_for_rejected(values: tuple[float, ...]) -> None:
    chosen, rejected = spec.dpo_grad(*one(*values), 0.1)
    assert chosen[0] < 0 < rejected[0]
    assert chosen[0] == -rejected[0]


def test_property_52_and_65_reference_and_identical_sides_get_no_gradient() -> None:
    policy = torch.randn(3, dtype=torch.float64, requires_grad=True)
    loss = losses.dpo(policy, policy, torch.zeros(3).double(), torch.zeros(3).double(), 0.1).sum()
    (grad,) = torch.autograd.grad(loss, policy)
    assert torch.equal(grad, torch.zeros(3).double())


@given(four)
def test_property_53_beta_and_ratios_scale(values: tuple[float, ...]) -> None:
    half = one(*(v / 2 for v in values))
    assert spec.dpo(*half, 0.4)[0] == pytest.approx(spec.dpo(*one(*values), 0.2)[0], abs=1e-9)


@given(floats, st.floats(0.01, 0.49))
def test_property_54_smoothing(m: float, e: float) -> None:
    assert spec.dpo(*one(m, 0, 0, 0), 1.0, 0.0)[0] == spec.dpo(*one(m, 0, 0, 0), 1.0)[0]
    stationary, _ = spec.dpo_grad(*one(math.log((1 - e) / e), 0, 0, 0), 1.0, e)
    assert stationary[0] == pytest.approx(0, abs=1e-12)
    kept = (1 - e) * spec.dpo(*one(m, 0, 0, 0), 1.0)[0] + e * spec.dpo(*one(-m, 0, 0, 0), 1.0)[0]
    assert spec.dpo(*one(m, 0, 0, 0), 1.0, e)[0] == pytest.approx(kept)


@given(floats, st.floats(0.0, 0.45))
def test_property_55_robust_dpo_is_unbiased(m: float, e: float) -> None:
    clean = spec.dpo(*one(m, 0, 0, 0), 1.0)[0]
    mean = (1 - e) * spec.robust_dpo(*one(m, 0, 0, 0), 1.0, e)[0] + e * spec.robust_dpo(*one(-m, 0, 0, 0), 1.0, e)[0]
    assert mean == pytest.approx(clean, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("side", [spec, losses])
def test_property_55_flip_rate_of_a_half_is_refused(side: object) -> None:
    arguments = one(0, 0, 0, 0) if side is spec else [torch.zeros(1)] * 4
    with pytest.raises(ConfigError, match="flip_rate"):
        side.robust_dpo(*arguments, 0.1, 0.5)  # type: ignore[attr-defined]


def test_property_56_ipo_minimum() -> None:
    h = 1 / (2 * 0.1)
    assert spec.ipo(*one(h, 0, 0, 0), 0.1)[0] == 0
    assert spec.ipo_grad(*one(h + 1, 0, 0, 0), 0.1)[0][0] == pytest.approx(2.0)


def test_property_57_hinge_rests_beyond_its_margin() -> None:
    assert spec.hinge(*one(11, 0, 0, 0), 0.1)[0] == 0
    assert spec.hinge_grad(*one(11, 0, 0, 0), 0.1)[0][0] == 0
    assert spec.hinge_grad(*one(9, 0, 0, 0), 0.1)[0][0] == -0.1


@given(floats, floats, st.integers(1, 40))
def test_property_58_simpo_is_blind_to_length(a: float, b: float, n: int) -> None:
    once = spec.simpo(*one(a, b, n, n), 2.0, 0.5)[0]
    twice = spec.simpo(*one(2 * a, b, 2 * n, n), 2.0, 0.5)[0]
    assert twice == pytest.approx(once, abs=1e-9)
    same = spec.length_normalised_dpo(*one(a, b, 0, 0), *one(n, n), 2.0)[0]
    assert spec.simpo(*one(a, b, n, n), 2.0, 0.0)[0] == pytest.approx(same, abs=1e-9)


@given(four, st.integers(1, 40))
def test_property_59_length_normalised_dpo_at_equal_lengths(values: tuple[float, ...], n: int) -> None:
    scaled = spec.length_normalised_dpo(*one(*values), *one(n, n), 0.1 * n)[0]
    assert scaled == pytest.approx(spec.dpo(*one(*values), 0.1)[0], abs=1e-9)


@pytest.mark.parametrize("p", [0.0, -1e-300, -1e-12, -1e-3, -5.0, -700.0])
def test_property_60_orpo_is_finite_for_certain_tokens(p: float) -> None:
    for other in (-0.5, p):
        value = spec.orpo(*one(p, other, 1, 1), 0.1)
        grads = spec.orpo_grad(*one(p, other, 1, 1), 0.1)
        assert np.isfinite(value).all()
        assert np.isfinite(grads[0]).all()
        assert np.isfinite(grads[1]).all()
        assert grads[1][0] >= 0
        tensors = [torch.tensor([p], dtype=torch.float64, requires_grad=True), torch.tensor([other]).double()]
        loss = losses.orpo(*tensors, torch.ones(1).double(), torch.ones(1).double(), 0.1)
        (grad,) = torch.autograd.grad(loss.sum(), tensors[0])
        assert grad.isfinite().all()
    assert spec.orpo(*one(-2.0, -3.0, 4, 5), 0.0)[0] == pytest.approx(0.5)


def test_property_61_kto() -> None:
    at_reference = spec.kto(*one(-5.0, -5.0), np.array([True]), 0.0, 0.1, 1.3)
    assert at_reference[0] == pytest.approx(0.65)
    assert spec.kto_grad(*one(-5.0, -6.0), np.array([True]), 0.2, 0.1)[0][0] < 0
    assert spec.kto_grad(*one(-5.0, -6.0), np.array([False]), 0.2, 0.1)[0][0] > 0
    for side, arrays in ((spec, one(0, 0)), (losses, [torch.zeros(1)] * 2)):
        with pytest.raises(ConfigError, match="z0"):
            side.kto(*arrays, torch.tensor([True]) if side is losses else np.array([True]), -0.1, 0.1)


@given(four, st.integers(1, 30))
def test_property_62_dpo_with_nll(values: tuple[float, ...], n: int) -> None:
    plain = spec.dpo(*one(*values), 0.1)[0]
    assert spec.dpo_nll(*one(*values), *one(n), 0.1, 0.0)[0] == plain
    added = spec.dpo_nll(*one(*values), *one(n), 0.1, 0.2)[0] - plain
    assert added == pytest.approx(-0.2 * values[0] / n, abs=1e-9)


def _optimum(reference: Array, reward: Array, beta: float) -> Array:
    raw: Array = np.log(reference) + reward / beta
    raw = np.exp(raw - raw.max())
    return raw / raw.sum()


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000))
def test_properties_64_and_90_dpo_and_rl_reach_the_same_closed_form(seed: int) -> None:
    """Population DPO on exact Bradley-Terry labels, and exact KL-regularised policy gradient, by two descents."""
    rng = np.random.default_rng(seed)
    size, beta = 5, 0.7
    reference = rng.dirichlet(np.full(size, 3.0))
    reward = rng.standard_normal(size)
    target = _optimum(reference, reward, beta)
    first, second = (np.array(side) for side in zip(*itertools.permutations(range(size), 2), strict=True))
    strength = sigmoid(reward[first] - reward[second])
    log_reference = np.log(reference)

    def softmax(theta: Array) -> Array:
        raw: Array = np.exp(theta - theta.max())
        return raw / raw.sum()

    theta = np.log(reference)
    for _ in range(20_000):
        p = softmax(theta)
        logp = np.log(p)
        up, down = spec.dpo_grad(
            logp[first], logp[second], log_reference[first], log_reference[second], beta, strength_B=strength
        )
        to_logp = np.bincount(first, up, size) + np.bincount(second, down, size)
        theta -= 0.4 * (to_logp - p * to_logp.sum())
    assert 0.5 * np.abs(softmax(theta) - target).sum() < 1e-6

    phi = np.log(reference)
    for _ in range(20_000):
        p = softmax(phi)
        gain = reward - beta * (np.log(p) - log_reference)
        phi += 0.5 * p * (gain - p @ gain)
    assert 0.5 * np.abs(softmax(phi) - target).sum() < 1e-6


def test_ipo_two_arms_have_the_closed_form() -> None:
    """Azar et al. 2023: with a uniform reference and a certain preference, pi(y1) = s(1 / (2 tau))."""
    theta, tau = np.zeros(2), 0.4
    reference = np.log(np.full(2, 0.5))
    for _ in range(4000):
        logp = theta - np.logaddexp(theta[0], theta[1])
        up, down = spec.ipo_grad(*(np.array([v]) for v in (*logp, *reference)), tau)
        grad = np.array([up[0], down[0]])
        theta -= 0.1 * (grad - np.exp(logp) * grad.sum())
    assert math.exp(theta[0] - np.logaddexp(*theta)) == pytest.approx(1 / (1 + math.exp(-1 / (2 * tau))), abs=1e-6)


@pytest.mark.parametrize("side", [spec, losses])
def test_shapes_that_would_broadcast_are_refused(side: object) -> None:
    column, row = np.zeros((3, 1)), np.zeros(3)
    wide = [torch.tensor(column), torch.tensor(row)] if side is losses else [column, row]
    with pytest.raises(ShapeError, match=r"\(3,\).*\(3, 1\)"):
        side.bradley_terry(*wide)  # type: ignore[attr-defined]
    with pytest.raises(ShapeError):
        side.dpo(*wide, *wide, 0.1)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="label_smoothing"):
        side.dpo(*[wide[1]] * 4, 0.1, 0.7)  # type: ignore[attr-defined]
