"""Properties of SCIENCE section 3, D and E: the reward-model losses and the DPO family. Numbers are the properties'."""

from __future__ import annotations

import itertools
import math
from typing import Any

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


def test_equal_rewards_cost_log_two_and_pull_by_a_half() -> None:
    """Property 37."""
    r = np.zeros(4)
    np.testing.assert_allclose(spec.bradley_terry(r, r), math.log(2))
    chosen, rejected = spec.bradley_terry_grad(r, r)
    np.testing.assert_allclose(chosen / 4, -1 / 8)
    np.testing.assert_allclose(rejected / 4, 1 / 8)


@given(floats, floats, floats)
def test_a_shift_of_both_rewards_changes_nothing_and_a_swap_changes_the_loss_by_the_margin(
    a: float, b: float, c: float
) -> None:
    """Properties 38 and 39."""
    loss = spec.bradley_terry(*one(a, b))[0]
    assert spec.bradley_terry(*one(a + c, b + c))[0] == pytest.approx(loss, abs=1e-9)
    assert loss - spec.bradley_terry(*one(b, a))[0] == pytest.approx(-(a - b), abs=1e-9)
    chosen, rejected = spec.bradley_terry_grad(*one(a, b))
    assert chosen[0] == -rejected[0]


@pytest.mark.parametrize("d", [-1000.0, -800.0, -30.0, 0.0, 30.0, 800.0, 1000.0])
def test_bradley_terry_is_exact_at_extreme_margins(d: float) -> None:
    """Property 40."""
    chosen = torch.tensor([d], dtype=torch.float64, requires_grad=True)
    loss = losses.bradley_terry(chosen, torch.zeros(1, dtype=torch.float64))
    (grad,) = torch.autograd.grad(loss.sum(), chosen)
    expected = -d if d < -40 else math.log1p(math.exp(-d))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert spec.bradley_terry(*one(d, 0.0))[0] == pytest.approx(expected, rel=1e-12)
    assert grad.item() == pytest.approx(spec.bradley_terry_grad(*one(d, 0.0))[0][0], rel=1e-12)
    assert losses.bradley_terry(chosen.float(), torch.zeros(1)).isfinite().all()


@given(floats, st.floats(0.5, 1.0))
def test_the_gradient_of_a_soft_label_is_sigma_minus_the_label_and_no_margin_is_margin_zero(d: float, p: float) -> None:
    """Property 44."""
    chosen, zero = one(d, 0.0)
    grad, _ = spec.bradley_terry_grad(chosen, zero, strength_B=np.array([p]))
    assert grad[0] == pytest.approx(sigmoid(chosen)[0] - p, abs=1e-12)
    same = spec.bradley_terry(chosen, zero, margin_B=np.zeros(1))
    assert same[0] == spec.bradley_terry(chosen, zero)[0]
    tie, _ = spec.bradley_terry_grad(chosen, zero, strength_B=np.array([0.5]))
    assert np.sign(tie[0]) == np.sign(np.round(d, 12)) or abs(d) < 1e-9


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=2))
def test_plackett_luce_of_two_is_bradley_terry(scores: list[float]) -> None:
    """Property 45."""
    pair = np.array([scores])
    expected = spec.bradley_terry(*one(*scores))[0]
    assert spec.plackett_luce(pair, np.array([[0, 1]]))[0] == pytest.approx(expected, abs=1e-10)


def test_order_of_candidates_and_ties_do_not_matter() -> None:
    """Property 45."""
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


def test_bradley_terry_recovers_known_scores() -> None:
    """Property 48."""
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
def test_dpo_of_identical_policies_costs_log_two_and_pulls_by_half_of_beta(a: float, b: float) -> None:
    """Property 49."""
    sides = one(a, b, a, b)
    assert spec.dpo(*sides, 0.1)[0] == pytest.approx(math.log(2))
    chosen, rejected = spec.dpo_grad(*sides, 0.1)
    assert (chosen[0], rejected[0]) == (pytest.approx(-0.05), pytest.approx(0.05))


@given(four, floats)
def test_a_constant_on_both_sides_cancels_in_dpo(values: tuple[float, ...], c: float) -> None:
    """Property 50."""
    pc, pr, rc, rr = values
    loss = spec.dpo(*one(pc, pr, rc, rr), 0.1)[0]
    assert spec.dpo(*one(pc + c, pr + c, rc, rr), 0.1)[0] == pytest.approx(loss, abs=1e-8)
    assert spec.dpo(*one(pc, pr, rc + c, rr + c), 0.1)[0] == pytest.approx(loss, abs=1e-8)


@given(four)
def test_dpo_pulls_the_chosen_up_and_the_rejected_down(values: tuple[float, ...]) -> None:
    """Property 51."""
    chosen, rejected = spec.dpo_grad(*one(*values), 0.1)
    assert chosen[0] < 0 < rejected[0]
    assert chosen[0] == -rejected[0]


def test_reference_and_identical_sides_get_no_gradient() -> None:
    """Properties 52 and 65."""
    policy = torch.randn(3, dtype=torch.float64, requires_grad=True)
    loss = losses.dpo(policy, policy, torch.zeros(3).double(), torch.zeros(3).double(), 0.1).sum()
    (grad,) = torch.autograd.grad(loss, policy)
    assert torch.equal(grad, torch.zeros(3).double())


@given(four)
def test_halved_ratios_and_doubled_beta_cancel(values: tuple[float, ...]) -> None:
    """Property 53."""
    half = one(*(v / 2 for v in values))
    assert spec.dpo(*half, 0.4)[0] == pytest.approx(spec.dpo(*one(*values), 0.2)[0], abs=1e-9)


@given(floats, st.floats(0.01, 0.49))
def test_label_smoothing_mixes_both_labels_and_rests_at_its_log_odds(m: float, e: float) -> None:
    """Property 54."""
    assert spec.dpo(*one(m, 0, 0, 0), 1.0, 0.0)[0] == spec.dpo(*one(m, 0, 0, 0), 1.0)[0]
    stationary, _ = spec.dpo_grad(*one(math.log((1 - e) / e), 0, 0, 0), 1.0, e)
    assert stationary[0] == pytest.approx(0, abs=1e-12)
    kept = (1 - e) * spec.dpo(*one(m, 0, 0, 0), 1.0)[0] + e * spec.dpo(*one(-m, 0, 0, 0), 1.0)[0]
    assert spec.dpo(*one(m, 0, 0, 0), 1.0, e)[0] == pytest.approx(kept)


@given(floats, st.floats(0.0, 0.45))
def test_robust_dpo_is_unbiased(m: float, e: float) -> None:
    """Property 55."""
    clean = spec.dpo(*one(m, 0, 0, 0), 1.0)[0]
    mean = (1 - e) * spec.robust_dpo(*one(m, 0, 0, 0), 1.0, e)[0] + e * spec.robust_dpo(*one(-m, 0, 0, 0), 1.0, e)[0]
    assert mean == pytest.approx(clean, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("side", [spec, losses])
def test_a_flip_rate_of_a_half_is_refused(side: object) -> None:
    """Property 55."""
    arguments = one(0, 0, 0, 0) if side is spec else [torch.zeros(1)] * 4
    with pytest.raises(ConfigError, match="flip_rate"):
        side.robust_dpo(*arguments, 0.1, 0.5)  # type: ignore[attr-defined]


def test_ipo_is_zero_at_its_margin_and_a_parabola_beside_it() -> None:
    """Property 56."""
    h = 1 / (2 * 0.1)
    assert spec.ipo(*one(h, 0, 0, 0), 0.1)[0] == 0
    assert spec.ipo_grad(*one(h + 1, 0, 0, 0), 0.1)[0][0] == pytest.approx(2.0)


def test_hinge_rests_beyond_its_margin() -> None:
    """Property 57."""
    assert spec.hinge(*one(11, 0, 0, 0), 0.1)[0] == 0
    assert spec.hinge_grad(*one(11, 0, 0, 0), 0.1)[0][0] == 0
    assert spec.hinge_grad(*one(9, 0, 0, 0), 0.1)[0][0] == -0.1


@given(floats, floats, st.integers(1, 40))
def test_simpo_is_blind_to_length(a: float, b: float, n: int) -> None:
    """Property 58."""
    once = spec.simpo(*one(a, b, n, n), 2.0, 0.5)[0]
    twice = spec.simpo(*one(2 * a, b, 2 * n, n), 2.0, 0.5)[0]
    assert twice == pytest.approx(once, abs=1e-9)
    same = spec.length_normalised_dpo(*one(a, b, 0, 0), *one(n, n), 2.0)[0]
    assert spec.simpo(*one(a, b, n, n), 2.0, 0.0)[0] == pytest.approx(same, abs=1e-9)


@given(four, st.integers(1, 40))
def test_length_normalised_dpo_is_dpo_at_equal_lengths(values: tuple[float, ...], n: int) -> None:
    """Property 59."""
    scaled = spec.length_normalised_dpo(*one(*values), *one(n, n), 0.1 * n)[0]
    assert scaled == pytest.approx(spec.dpo(*one(*values), 0.1)[0], abs=1e-9)


@pytest.mark.parametrize("p", [0.0, -1e-300, -1e-12, -1e-3, -5.0, -700.0])
def test_orpo_is_finite_for_certain_tokens(p: float) -> None:
    """Property 60."""
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


@given(four, st.integers(1, 30))
def test_dpo_nll_adds_the_mean_nll_of_the_chosen_answer(values: tuple[float, ...], n: int) -> None:
    """Property 62."""
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
def test_dpo_and_rl_reach_the_same_closed_form(seed: int) -> None:
    """Properties 64 and 90, by two descents: population DPO on exact Bradley-Terry labels, and exact RL under a KL."""
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


def _objectives(side: Any) -> dict[str, Any]:
    """Every loss on a pair, as a function of the four log-probs and the strength; sides of four tokens each."""
    n = np.full(1, 4.0) if side is spec else torch.full((1,), 4.0, dtype=torch.float64)
    return {
        "dpo": lambda pc, pr, rc, rr, p: side.dpo(pc, pr, rc, rr, 0.3, strength_B=p),
        "robust-dpo": lambda pc, pr, rc, rr, p: side.robust_dpo(pc, pr, rc, rr, 0.3, 0.1, strength_B=p),
        "ipo": lambda pc, pr, rc, rr, p: side.ipo(pc, pr, rc, rr, 0.4, strength_B=p),
        "hinge": lambda pc, pr, rc, rr, p: side.hinge(pc, pr, rc, rr, 0.3, strength_B=p),
        "length-normalised-dpo": lambda pc, pr, rc, rr, p: side.length_normalised_dpo(
            pc, pr, rc, rr, n, n, 2.0, strength_B=p
        ),
        "simpo": lambda pc, pr, rc, rr, p: side.simpo(pc, pr, n, n, 2.0, 0.5, strength_B=p),
        "cpo": lambda pc, pr, rc, rr, p: side.cpo(pc, pr, n, 0.3, 0.0, strength_B=p),
        "apo-zero": lambda pc, pr, rc, rr, p: side.apo_zero(pc, pr, rc, rr, 0.3, strength_B=p),
        "apo-down": lambda pc, pr, rc, rr, p: side.apo_down(pc, pr, rc, rr, 0.3, strength_B=p),
        "reward with margin": lambda pc, pr, rc, rr, p: side.bradley_terry(pc, pr, p, 0 * n + 0.7),
    }


@pytest.mark.parametrize("name", _objectives(spec))
@given(four, st.floats(0.5, 1.0))
def test_a_strength_is_the_expectation_over_the_label(name: str, values: tuple[float, ...], p: float) -> None:
    """p times the loss of the label and 1 - p times that of the label turned round; in spec and in torch."""
    pc, pr, rc, rr = one(*values)
    hard, soft = np.ones(1), np.array([p])
    loss = _objectives(spec)[name]
    expected = p * loss(pc, pr, rc, rr, hard) + (1 - p) * loss(pr, pc, rr, rc, hard)
    np.testing.assert_allclose(loss(pc, pr, rc, rr, soft), expected, rtol=1e-9, atol=1e-9)
    tensors = [torch.tensor(x) for x in (pc, pr, rc, rr, soft)]
    np.testing.assert_allclose(_objectives(losses)[name](*tensors).numpy(), expected, rtol=1e-9, atol=1e-9)


def test_ipo_with_a_strength_is_least_where_the_population_loss_is() -> None:
    """Azar et al. 2023, eq. 10: the gap of log-ratios is (p - 1/2) / tau."""
    tau, p = 0.2, np.array([0.8])
    best = (p - 0.5) / tau
    assert spec.ipo_grad(best, np.zeros(1), np.zeros(1), np.zeros(1), tau, p)[0][0] == pytest.approx(0, abs=1e-12)


def test_robust_dpo_with_a_strength_is_least_at_the_clean_probability() -> None:
    """p = clean (1 - e) + (1 - clean) e, so the margin that fits is the log-odds of (p - e) / (1 - 2 e)."""
    e, clean = 0.1, 0.85
    p = clean * (1 - e) + (1 - clean) * e
    margin = np.array([math.log(clean / (1 - clean))])
    zero = np.zeros(1)
    slope, _ = spec.robust_dpo_grad(margin, zero, zero, zero, 1.0, e, np.array([p]))
    assert slope[0] == pytest.approx(0, abs=1e-12)


def test_orpo_with_a_strength_still_imitates_the_chosen_side() -> None:
    sides = [np.array([-4.0]), np.array([-6.0]), np.array([4.0]), np.array([4.0])]
    nll = 1.0
    even = spec.orpo(*sides, 0.5, np.array([0.5]))[0] - nll
    right, wrong = spec.orpo(*sides, 0.5)[0] - nll, spec.orpo(sides[1], sides[0], *sides[2:], 0.5)[0] - 1.5
    assert even == pytest.approx((right + wrong) / 2)


def test_cpo_with_a_strength_still_imitates_the_chosen_side() -> None:
    sides = one(-4.0, -6.0, 4.0)
    even = spec.cpo(*sides, 0.3, 0.5, np.array([0.5]))[0]
    right, wrong = spec.cpo(*sides, 0.3, 0.5)[0], spec.cpo(*one(-6.0, -4.0, 4.0), 0.3, 0.0)[0] + 0.5
    assert even == pytest.approx((right + wrong) / 2)
    up, down = spec.cpo_grad(*one(-5.0, -5.0, 4.0), 0.3, 0.5, np.array([0.5]))
    assert (up[0], down[0]) == (pytest.approx(-0.5 / 4), 0.0)


@given(floats, floats, st.integers(1, 40), st.floats(0, 2))
def test_cpo_is_dpo_with_nll_and_a_uniform_reference(a: float, b: float, n: int, weight: float) -> None:
    """Xu et al. 2024, section 3: a uniform reference gives both sides the same log-prob, which cancels."""
    expected = spec.dpo_nll(*one(a, b, -7.0, -7.0), *one(n), 0.1, weight)[0]
    assert spec.cpo(*one(a, b, n), 0.1, weight)[0] == pytest.approx(expected, abs=1e-9)


def test_apo_starts_at_one_and_only_zero_pulls_the_chosen_side_up() -> None:
    """D'Oosterlinck et al. 2024, section 4: APO-zero parts the sides, APO-down lowers both once chosen has a lead."""
    start, beta = one(-5.0, -9.0, -5.0, -9.0), 0.1
    for loss in (spec.apo_zero, spec.apo_down):
        assert loss(*start, beta)[0] == pytest.approx(1.0)
    up, down = spec.apo_zero_grad(*start, beta)
    assert (up[0], down[0]) == (pytest.approx(-beta / 4), pytest.approx(beta / 4))
    up, down = spec.apo_down_grad(*start, beta)
    assert (up[0], down[0]) == (pytest.approx(0.0), pytest.approx(beta / 4))
    ahead = one(-5.0, -29.0, -5.0, -9.0)
    assert spec.apo_zero_grad(*ahead, beta)[0][0] < 0
    assert spec.apo_down_grad(*ahead, beta)[0][0] > 0


@given(four, floats)
def test_the_two_sides_of_apo_zero_do_not_see_each_other(values: tuple[float, ...], c: float) -> None:
    """What anchors it: the pull on a side is of its own log-ratio, so a shift of both does not cancel as in DPO."""
    pc, pr, rc, rr = values
    up, down = spec.apo_zero_grad(*one(*values), 0.1)
    assert spec.apo_zero_grad(*one(pc, pr + c, rc, rr), 0.1)[0][0] == up[0]
    assert spec.apo_zero_grad(*one(pc + c, pr, rc, rr), 0.1)[1][0] == down[0]
    assert 0 <= spec.apo_zero(*one(*values), 0.1)[0] <= 2


@given(four)
def test_a_label_of_a_half_says_nothing_to_apo_zero_and_lowers_both_sides_under_apo_down(
    values: tuple[float, ...],
) -> None:
    half = np.array([0.5])
    assert spec.apo_zero(*one(*values), 0.1, half)[0] == 1.0
    assert [float(grad[0]) for grad in spec.apo_zero_grad(*one(*values), 0.1, half)] == [0.0, 0.0]
    assert min(float(grad[0]) for grad in spec.apo_down_grad(*one(*values), 0.1, half)) > 0


@pytest.mark.parametrize("x", [-7000.0, -450.0, 450.0, 7000.0])
@pytest.mark.parametrize("name", ["apo_zero", "apo_down"])
def test_apo_is_finite_at_extreme_ratios(name: str, x: float) -> None:
    tensors = [torch.tensor([v], dtype=torch.float64) for v in (x, 3.0, 0.0, 0.0)]
    tensors[0].requires_grad_(True)
    loss = getattr(losses, name)(*tensors, 0.1)
    (grad,) = torch.autograd.grad(loss.sum(), tensors[0])
    assert loss.item() == pytest.approx(getattr(spec, name)(*one(x, 3.0, 0.0, 0.0), 0.1)[0], abs=1e-12)
    assert grad.item() == pytest.approx(getattr(spec, f"{name}_grad")(*one(x, 3.0, 0.0, 0.0), 0.1)[0][0], abs=1e-12)


@pytest.mark.parametrize("x", [-45.0, 19.0, 20.5, 22.0, 35.0])
def test_the_slope_of_a_loss_is_exact_beyond_twenty(x: float) -> None:
    chosen = torch.tensor([-x], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    (grad,) = torch.autograd.grad(losses.simpo(chosen, zero, zero + 1, zero + 1, 1.0, 0.0).sum(), chosen)
    assert grad.item() == pytest.approx(spec.simpo_grad(*one(-x, 0, 1, 1), 1.0, 0.0)[0][0], rel=1e-13)
