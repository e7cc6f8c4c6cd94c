"""One door for all kernels: what is asked for is put in, what differs is left out and said, and plain is plain."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.kernels.test_packing import FAMILIES, build
from trueup import kernels
from trueup.config import Model, Optim, Sampling
from trueup.config import build as configure
from trueup.data.batch import Rows
from trueup.engine.generate import generate
from trueup.engine.score import score
from trueup.engine.step import Stepper
from trueup.errors import ConfigError, ModelError
from trueup.kernels.door import KERNELS
from trueup.models.policy import open_policy

SHARED = tuple(range(1, 13))
SEQUENCES = [(SHARED, (5, 6, 7)), (SHARED, (8, 9)), ((3, 4, 4), (10, 11, 12, 13))]
LEFT_ALONE = {"activations": ("Llama",), "rope": ("GPT2",)}
"""Families that have no such layers."""
REPLACING = {name for name, kernel in KERNELS.items() if kernel.replace is not None}


def classes(model):
    return [type(module) for module in model.modules()]


def test_words_for_all_and_none():
    assert kernels.selected("auto") == set(KERNELS)
    assert kernels.selected("plain") == set()
    assert kernels.selected(["rope", "norms"]) == {"rope", "norms"}
    with pytest.raises(ModelError, match=r"no kernel 'norm'\s+expected: did you mean 'norms'"):
        kernels.selected(["norm"])


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_leaves_a_model_as_transformers_made_it(family):
    model = build(family, torch.float32)
    before = classes(model)
    used = kernels.apply(model, only="plain")
    assert used.names == set()
    assert used.problems == {}
    assert classes(model) == before


@pytest.mark.parametrize("name", sorted(REPLACING))
def test_one_kernel_alone_changes_its_own_layers_and_no_number(name):
    ids = torch.arange(9)[None]
    for family in ("GPT2", "Llama"):
        model = build(family, torch.float32)
        before, wanted = classes(model), model(input_ids=ids).logits
        assert kernels.apply(model, only=[name]).names == {name}
        assert (classes(model) != before) == (family not in LEFT_ALONE.get(name, ()))
        torch.testing.assert_close(model(input_ids=ids).logits, wanted, rtol=1e-4, atol=1e-5)


def wrong_layers(model):
    norm = model.model.norm
    norm.__class__ = type("Wrong", (type(norm),), {"forward": lambda self, x: 2 * x})
    return 1


def broken_layers(model):
    model.model.norm.__class__ = type("Broken", (nn.Module,), {"forward": lambda self: None})
    return 1


@pytest.mark.parametrize(("replacement", "said"), [(wrong_layers, "differs by"), (broken_layers, "does not run")])
def test_only_the_kernel_that_is_wrong_is_left_out(replacement, said, monkeypatch, caplog):
    model = build("Llama", torch.float32)
    wanted = model(input_ids=torch.arange(9)[None]).logits
    monkeypatch.setitem(KERNELS, "rope", replace(KERNELS["rope"], replace=replacement))
    used = kernels.apply(model, source="my model")
    assert used.names == KERNELS.keys() - {"rope"}
    assert said in used.problems["rope"]
    assert "my model: kernel rope: " in caplog.text
    torch.testing.assert_close(model(input_ids=torch.arange(9)[None]).logits, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["attention", "head", "gradients"])
def test_a_kernel_that_fails_its_own_check_is_left_out(name, monkeypatch, caplog):
    monkeypatch.setitem(KERNELS, name, replace(KERNELS[name], problem=lambda: "is wrong today"))
    used = kernels.apply(build("Llama", torch.float32))
    assert name not in used
    assert f"kernel {name}: is wrong today" in caplog.text


def test_a_wrong_backward_pass_is_seen_when_a_model_is_opened(saved_policy, monkeypatch, caplog):
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return 1.5 * grad

    def spoil(model):
        norm = model.model.norm
        forward = type(norm).forward
        spoilt = {"forward": lambda self, x: Scaled.apply(forward(self, x))}
        norm.__class__ = type("Spoilt", (type(norm),), spoilt)
        return 1

    monkeypatch.setitem(KERNELS, "rope", replace(KERNELS["rope"], replace=spoil))
    policy = open_policy(Model(name=str(saved_policy)))
    assert policy.trunk.kernels.problems.keys() == {"rope"}
    assert "kernel rope: differs by" in caplog.text


def trained(saved_policy, only, dtype):
    """A step of training, what was scored, and what is sampled afterwards."""
    policy = open_policy(Model(name=str(saved_policy), kernels=only, dtype=dtype))
    stepper = Stepper(policy.trainable(), Optim(learning_rate=1e-3, warmup=0.0), 1)
    scores = score(policy, Rows.of(SEQUENCES), entropy=True)
    stepper.accumulate(-scores.sum_B, count=len(SEQUENCES))
    info = stepper.step()
    sampled = generate(policy, [SHARED, (3, 4)], Sampling(max_new_tokens=6, temperature=0), stop_ids=(), seed=0)
    weights = {name: parameter.detach() for name, parameter in policy.trainable().items()}
    return policy, scores, info, weights, sampled


@pytest.mark.parametrize("only", ["plain", *((name,) for name in KERNELS)])
def test_with_any_choice_of_kernels_a_model_learns_and_says_the_same(saved_policy, only):
    policy, scores, info, weights, sampled = trained(saved_policy, only, "float32")
    _, wanted_scores, wanted_info, wanted_weights, wanted_sampled = trained(saved_policy, "auto", "float32")
    assert policy.trunk.kernels.names == (set() if only == "plain" else set(only))
    torch.testing.assert_close(scores.logps_BC, wanted_scores.logps_BC, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.entropy_BC, wanted_scores.entropy_BC, rtol=1e-4, atol=1e-5)
    assert info["grad_norm"] == pytest.approx(wanted_info["grad_norm"], rel=1e-4)
    for name, weight in wanted_weights.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=2e-4, msg=name)
    assert [answer.ids for answer in sampled] == [answer.ids for answer in wanted_sampled]


def test_in_bfloat16_plain_is_as_close_as_rounding_allows(saved_policy):
    _, plain, plain_info, _, _ = trained(saved_policy, "plain", "bfloat16")
    _, fast, fast_info, _, _ = trained(saved_policy, "auto", "bfloat16")
    torch.testing.assert_close(plain.logps_BC, fast.logps_BC, rtol=5e-2, atol=5e-2)
    assert plain_info["grad_norm"] == pytest.approx(fast_info["grad_norm"], rel=5e-2)


def test_plain_runs_none_of_our_code(saved_policy, monkeypatch):
    from trueup.kernels import attention, decoder, elementwise, head, linears, packing

    for module, name in (
        (linears, "product"),
        (elementwise, "rms_norm"),
        (attention, "causal"),
        (packing, "attend_in_rows"),
        (head, "linear_scores"),
        (decoder.Decoder, "prefill"),
        (linears, "GradBuffer"),
    ):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("a kernel ran"))
    for dtype in ("float32", "bfloat16"):
        policy, *_ = trained(saved_policy, "plain", dtype)
        open_policy(Model(name=str(saved_policy), kernels="plain", dtype=dtype), frozen=True)
        assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}


def test_rotary_positions_of_a_model_without_the_kernel_are_its_own(monkeypatch):
    """The dispatcher stands in their module from then on."""
    from trueup.kernels import rope

    fast, plain = build("Llama", torch.float32), build("Llama", torch.float32)
    assert "rope" in kernels.apply(fast, only=["rope"])
    calls = []
    honest = rope.apply_rope
    monkeypatch.setattr(rope, "apply_rope", lambda *given: calls.append(1) or honest(*given))
    ids = torch.arange(6)[None]
    wanted = plain(input_ids=ids).logits
    assert calls == []
    torch.testing.assert_close(fast(input_ids=ids).logits, wanted, rtol=1e-4, atol=1e-5)
    assert calls


def test_gradients_of_gradients_are_refused_and_not_wrong():
    model = build("Llama", torch.float32)
    kernels.apply(model)
    embedded = model.get_input_embeddings()(torch.arange(6)[None]).detach().requires_grad_()
    loss = model(inputs_embeds=embedded).logits.square().sum()
    (first,) = torch.autograd.grad(loss, embedded, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


def test_a_copy_of_a_model_leaves_its_gradients_to_autograd():
    model = build("Llama", torch.float32)
    kernels.apply(model)
    assert all(getattr(parameter, "grad_in_place", False) for parameter in model.parameters())
    assert not any(getattr(parameter, "grad_in_place", False) for parameter in copy.deepcopy(model).parameters())


def test_the_setting_takes_words_and_names_and_nothing_else():
    assert configure(Model, {"kernels": "plain"}).kernels == "plain"
    assert configure(Model, {"kernels": ["norms", "rope"]}).kernels == ("norms", "rope")
    for wrong in ("fast", ["norm"], {"norms": True}):
        with pytest.raises(ConfigError, match="kernels"):
            configure(Model, {"kernels": wrong})
