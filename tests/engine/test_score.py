"""Properties 9-14, 19, 20, 23, 24, 27-29 of the trap list: log-probs do not depend on how they are computed."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueup.config import Sampling
from trueup.data.batch import Rows
from trueup.engine.generate import generate
from trueup.engine.head import token_scores
from trueup.engine.score import rewards, score, sequence_logps
from trueup.kernels import head
from trueup.kernels.head import linear_scores
from trueup.models.heads import ValueHead, open_reward_model

SEQUENCES = [
    ((5, 6, 7), (8, 9, 1)),
    ((5,), (10, 11, 12, 13, 14, 1)),
    ((20, 21, 22, 23, 24, 25), (1,)),
    ((7, 8), (9, 1)),
]


def plain_logps(policy, prompt, completion):
    """One row, no padding, the model's own forward pass."""
    ids = torch.tensor([[*prompt, *completion]])
    logps = torch.log_softmax(policy.full_logits(ids)[0], -1)
    return torch.stack([logps[len(prompt) - 1 + t, token] for t, token in enumerate(completion)])


def test_scores_are_those_of_the_plain_forward_pass(policy64):
    """Properties 9 and 11."""
    with torch.no_grad():
        scores = score(policy64, Rows.of(SEQUENCES))
        for row, (prompt, completion) in enumerate(SEQUENCES):
            expected = plain_logps(policy64, prompt, completion)
            torch.testing.assert_close(scores.logps_BC[row, : len(completion)], expected, rtol=1e-10, atol=1e-10)
            assert not scores.logps_BC[row, len(completion) :].any()
            torch.testing.assert_close(scores.sum_B[row], expected.sum(), rtol=1e-10, atol=1e-10)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(2, 300), min_size=1, max_size=12),
            st.lists(st.integers(1, 300), min_size=1, max_size=9),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(20, 200),
)
def test_a_sequence_scores_the_same_in_every_batch(policy64, drawn, budget):
    """Properties 19 and 33."""
    sequences = [(tuple(p), tuple(c)) for p, c in drawn]
    together = sequence_logps(policy64, sequences, budget=budget)
    for (prompt, completion), found in zip(sequences, together, strict=True):
        expected = plain_logps(policy64, prompt, completion).detach()
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_chunked_head_gives_the_same_values_and_gradients(policy64, monkeypatch):
    """Property 23."""

    def loss_and_gradient():
        policy64.model.zero_grad()
        total = (score(policy64, Rows.of(SEQUENCES)).logps_BC ** 2).sum()
        total.backward()
        return total.detach(), torch.cat([p.grad.flatten() for p in policy64.trainable().values()])

    whole = loss_and_gradient()
    monkeypatch.setattr(head, "CHUNK_BYTES", policy64.vocabulary * 8 * 2)
    monkeypatch.setattr(head, "CACHE_ELEMENTS", policy64.vocabulary)
    chunked = loss_and_gradient()
    torch.testing.assert_close(whole[0], chunked[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(whole[1], chunked[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("count", [1, 37, 101])
def test_idle_rows_of_the_head_add_nothing_to_any_gradient(count, between):
    draw = torch.Generator().manual_seed(count)
    shapes = ((count, 8), (50, 8), (50,))
    hidden_ND, weight_VD, bias_V = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in shapes)
    target_N = torch.randint(0, 50, (count,), generator=draw)
    results = []
    for ours in (True, False):
        given_ = [tensor.clone().requires_grad_() for tensor in (hidden_ND, weight_VD, bias_V)]
        if ours:
            logps_N, _, _ = linear_scores(*given_, target_N)
            if between:  # another pass writes its logits where those of this one stood
                linear_scores(*(-tensor for tensor in given_), target_N)
        else:
            logits_NV = torch.nn.functional.linear(*given_)
            logps_N = torch.log_softmax(logits_NV, -1).gather(-1, target_N[:, None]).squeeze(-1)
        results.append([logps_N, *torch.autograd.grad((logps_N**2).sum(), given_)])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("between", [False, True])
def test_the_weight_of_the_head_is_narrowed_again_only_if_another_stands_in_its_place(between):
    draw = torch.Generator().manual_seed(0)
    weight_VD, other_VD = (torch.randn(50, 8, generator=draw).requires_grad_() for _ in range(2))
    hidden_ND = torch.randn(37, 8, generator=draw).bfloat16().requires_grad_()
    target_N = torch.randint(0, 50, (37,), generator=draw)

    def slopes(between):
        logps_N = apart(hidden_ND, weight_VD, None, target_N).logps_N
        if between:
            apart(hidden_ND, other_VD, None, target_N)
        narrowed = head._SCRATCH.blocks["weight"]._version
        found = torch.autograd.grad(logps_N.sum(), [hidden_ND, weight_VD])
        return found, head._SCRATCH.blocks["weight"]._version - narrowed

    (wanted, _), (found, copies) = slopes(False), slopes(between)
    assert copies == between
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def apart(hidden_ND, weight_VD, bias_V, target_N, **more):
    """Scores by the head that runs apart from its model, in the precision of the states."""
    policy = SimpleNamespace(linear_head=SimpleNamespace(weight=weight_VD, bias=bias_V), compute=hidden_ND.dtype)
    return token_scores(policy, hidden_ND, target_N, **more)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 70),
    st.sampled_from([0.5, 0.7, 1.0, 1.7]),
    st.booleans(),
    st.sampled_from([1, 4, 60]),
    st.integers(0, 99),
)
def test_the_head_apart_is_log_softmax_at_its_temperature(count, temperature, biased, spread, seed):
    draw = torch.Generator().manual_seed(seed)
    made = [torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((count, 8), (50, 8), (50,))]
    hidden_ND, weight_VD, bias_V = (tensor.requires_grad_() for tensor in made)
    with torch.no_grad():
        hidden_ND *= spread
    given_ = (hidden_ND, weight_VD, bias_V) if biased else (hidden_ND, weight_VD)
    target_N = torch.randint(0, 50, (count,), generator=draw)
    found = apart(
        hidden_ND, weight_VD, bias_V if biased else None, target_N, temperature=temperature, entropy=True, correct=True
    )
    wanted_NV = torch.log_softmax(torch.nn.functional.linear(*given_) / temperature, -1)
    wanted_N = wanted_NV.gather(-1, target_N[:, None]).squeeze(-1)
    torch.testing.assert_close(found.logps_N, wanted_N, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        found.entropy_N, torch.distributions.Categorical(logits=wanted_NV).entropy(), rtol=1e-10, atol=1e-10
    )
    assert torch.equal(found.correct_N == 1, wanted_NV.argmax(-1) == target_N)
    ramp_N = torch.linspace(-1, 2, count, dtype=torch.float64)  # scales of both signs, and of different size
    for one, other in zip(
        *(torch.autograd.grad((logps_N * ramp_N).sum(), given_) for logps_N in (found.logps_N, wanted_N)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_narrow_logits_keep_the_gradient_of_a_token_that_is_nearly_sure():
    draw = torch.Generator().manual_seed(0)
    weight_VD = torch.randn(512, 16, generator=draw)
    target_N = torch.arange(64)
    hidden_ND = torch.nn.functional.normalize(weight_VD[:64]) * 7
    slopes = []
    for dtype in (torch.bfloat16, torch.float64):
        states_ND = hidden_ND.to(torch.bfloat16).to(dtype).requires_grad_()
        narrow_VD = weight_VD.to(torch.bfloat16).to(dtype)
        logps_N = apart(states_ND, narrow_VD, None, target_N).logps_N
        assert logps_N.dtype is (torch.float32 if dtype is torch.bfloat16 else torch.float64)
        slopes.append(torch.autograd.grad(logps_N.sum(), states_ND)[0].double())
    sure = logps_N.detach().exp() > 0.99
    assert 5 < int(sure.sum()) < 60
    assert float((slopes[0] - slopes[1])[sure].norm() / slopes[1][sure].norm()) < 0.05
    assert float((slopes[0] - slopes[1]).norm() / slopes[1].norm()) < 0.02


def test_impossible_tokens_and_broken_rows_stay_what_they_are():
    hidden_ND = torch.tensor(
        [[0.0, float("-inf"), 0.0, 0.0], [0.0, float("inf"), 0.0, 0.0], [float("nan"), 0.0, 0.0, 0.0]]
    )
    logits_NV = hidden_ND.clone()
    logps_N, normaliser_N, entropy_N, _ = head._read_without_gradient(logits_NV, torch.tensor([0, 0, 1]), True, False)
    assert torch.equal(torch.nan_to_num(logits_NV, 7.0), torch.nan_to_num(hidden_ND, 7.0))
    torch.testing.assert_close(logps_N[0], -torch.tensor(3.0).log())
    torch.testing.assert_close(entropy_N[0], torch.tensor(3.0).log())
    assert normaliser_N[1] == float("inf")
    assert not logps_N[1:].isfinite().any()


def test_head_that_cannot_run_apart_falls_back_to_full_logits(policy64):
    fast = score(policy64, Rows.of(SEQUENCES)).logps_BC
    policy64.gathers = False
    torch.testing.assert_close(score(policy64, Rows.of(SEQUENCES)).logps_BC, fast, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.3])
def test_sampled_logps_are_the_scored_ones(policy, temperature):
    """Properties 24 and 28."""
    prompts = [p for p, _ in SEQUENCES]
    drawn = generate(
        policy, prompts, Sampling(max_new_tokens=12, temperature=temperature), stop_ids=frozenset([1]), seed=3
    )
    rows = Rows.of([(p, c.ids) for p, c in zip(prompts, drawn, strict=True)])
    with torch.no_grad():
        scored = score(policy, rows, temperature=temperature).logps_BC
    for row, completion in enumerate(drawn):
        torch.testing.assert_close(completion.logps, scored[row, : len(completion.ids)], rtol=1e-5, atol=1e-5)


def test_two_passes_are_bit_identical(policy):
    """Property 27."""
    rows = Rows.of(SEQUENCES)
    assert torch.equal(score(policy, rows).logps_BC, score(policy, rows).logps_BC)


def test_entropy_of_a_uniform_model_is_log_v(policy64):
    """Property 87."""
    with torch.no_grad():
        policy64.model.get_output_embeddings().weight.zero_()
        found = score(policy64, Rows.of(SEQUENCES), entropy=True)
    expected = torch.log(torch.tensor(float(policy64.vocabulary), dtype=torch.float64))
    torch.testing.assert_close(found.entropy_BC[found.rows.mask_BC], expected.expand(int(found.rows.mask_BC.sum())))
    torch.testing.assert_close(found.logps_BC[0, 0], -expected)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_entropy_has_a_gradient_where_a_bonus_asks_for_it(policy64, temperature):
    rows, head = Rows.of(SEQUENCES), policy64.model.get_output_embeddings().weight
    plain = score(policy64, rows, temperature=temperature, entropy=True)
    found = score(policy64, rows, temperature=temperature, entropy_grad=True)
    assert not plain.entropy_BC.requires_grad
    torch.testing.assert_close(found.entropy_BC, plain.entropy_BC, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.logps_BC, plain.logps_BC, rtol=1e-10, atol=1e-10)
    (grad,) = torch.autograd.grad(found.entropy_BC.sum(), head)
    at, h = (7, 3), 1e-6
    with torch.no_grad():
        ends = []
        for step in (h, -2 * h):
            head[at] += step
            ends.append(float(score(policy64, rows, temperature=temperature, entropy=True).entropy_BC.sum()))
        head[at] += h
    assert float(grad[at]) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-7)


def test_the_value_reads_the_state_before_its_token(policy64):
    """Property 81."""
    head = ValueHead(32).double()
    torch.nn.init.normal_(head.linear.weight)
    with torch.no_grad():
        base = score(policy64, Rows.of([((5, 6), (7, 8, 1))]), value_head=head).values_BC
        moved = score(policy64, Rows.of([((5, 6), (7, 9, 1))]), value_head=head).values_BC
    torch.testing.assert_close(base[0, :2], moved[0, :2], rtol=0, atol=1e-12)
    assert abs(float(base[0, 2] - moved[0, 2])) > 1e-6


def test_zero_initialised_value_head_says_zero(policy):
    with torch.no_grad():
        assert score(policy, Rows.of(SEQUENCES), value_head=ValueHead(32)).values_BC.abs().max() == 0


def test_an_empty_prompt_conditions_on_its_first_token(policy64):
    with torch.no_grad():
        found = score(policy64, Rows.of([((), (5, 6, 7))])).logps_BC
        expected = plain_logps(policy64, (5,), (6, 7))
    torch.testing.assert_close(found[0], expected, rtol=1e-10, atol=1e-12)


def test_the_reward_is_read_at_the_last_real_token(saved_policy):
    """Properties 42 and 43."""
    model = open_reward_model(tiny_path(saved_policy), new_head=True, seed=1)
    alone = torch.cat([rewards(model, [s]) for s in SEQUENCES])
    together = rewards(model, SEQUENCES)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert len(set(together.tolist())) == len(SEQUENCES)
    changed_end = rewards(model, [((5, 6, 7), (8, 9, 2))])
    assert abs(float(changed_end[0] - together[0])) > 1e-6


def tiny_path(path):
    from trueup.config import Model

    return Model(name=str(path))
