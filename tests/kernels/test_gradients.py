"""Gradients written in place are those that autograd would have added up."""

import pytest
import torch

from tests.kernels.test_packing import FAMILIES, build
from trueup.data.batch import Rows
from trueup.engine.score import score
from trueup.kernels import gradients, products
from trueup.kernels.gradients import GradBuffer, Gradients, allow_in_place
from trueup.kernels.linears import FastLinear
from trueup.kernels.packing import SHARED_FROM
from trueup.models.policy import Policy

SHARED = tuple(range(1, 2 + SHARED_FROM))
PASSES = [[(SHARED, (5, 6, 7)), (SHARED, (8, 9))], [((3, 4, 4), (10, 11, 12, 13))]]
"""Two micro-batches of one step."""


def policy_of(family, dtype, *, checkpointed, tied):
    model = build(family, torch.float64 if dtype is torch.float64 else torch.float32)
    if tied:
        model.config.tie_word_embeddings = True
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
    compute = torch.bfloat16 if dtype is torch.bfloat16 else torch.float32
    policy = Policy(model, None, torch.device("cpu"), compute, family)
    if checkpointed:
        policy.trunk.checkpoint_blocks()
    return policy


def step(policy, keep):
    """The gradients of both passes, by name; in place if there is a place for them."""
    for p in policy.model.parameters():
        p.grad = None
    for sequences in PASSES:
        loss = (score(policy, Rows.of(sequences)).logps_BC ** 2).sum()
        if keep is None:
            loss.backward()
        else:
            with keep.accumulating():
                loss.backward()
    return {name: p.grad for name, p in policy.model.named_parameters()}


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["GPT2", "Llama", "Gemma2"])
def test_in_place_and_twice_in_the_same_memory(family, dtype, tied, checkpointed, monkeypatch):
    monkeypatch.setattr(gradients, "UPCAST_ELEMENTS", 37)
    monkeypatch.setattr(products, "GRAD_ROWS", 24)
    policy = policy_of(family, dtype, checkpointed=checkpointed, tied=tied)
    wanted = {name: grad.clone() for name, grad in step(policy, None).items()}
    keep = Gradients(policy.model.parameters())
    found = step(policy, keep)
    places = {name: grad.data_ptr() for name, grad in found.items() if grad.ndim == 2}
    assert len(places) > 5
    for _ in range(2):
        for name, grad in found.items():
            if dtype is torch.bfloat16:  # rounded once a pass in both ways, summed in float32
                gap = (grad - wanted[name]).norm() / wanted[name].norm().clamp(min=1e-12)
                assert gap < 2e-2, name
            else:
                tight = 1e-10 if dtype is torch.float64 else 1e-5
                scale = float(wanted[name].abs().max())
                torch.testing.assert_close(grad, wanted[name], rtol=tight, atol=tight * scale, msg=name)
        found = step(policy, keep)
    kept = {name for name, place in places.items() if found[name].data_ptr() == place}
    assert dtype is torch.float64 or {name for name in places if "mlp" in name or "head" in name} <= kept


def test_the_largest_weights_of_every_family_have_a_place():
    for family in FAMILIES:
        policy = policy_of(family, torch.float32, checkpointed=False, tied=False)
        keep = Gradients(policy.model.parameters())
        first = {name: grad.data_ptr() for name, grad in step(policy, keep).items() if grad.ndim == 2}
        again = {name: grad.data_ptr() for name, grad in step(policy, keep).items() if grad.ndim == 2}
        kept = {name for name in first if first[name] == again[name]}
        assert {name for name in first if "mlp" in name} <= kept, family


def test_weights_that_are_not_ours_are_left_to_autograd():
    known, stranger = (torch.nn.Parameter(torch.ones(3, 2)) for _ in range(2))
    allow_in_place([known, stranger])
    keep = Gradients([known])
    with keep.accumulating():
        assert GradBuffer(known).for_autograd is None
        assert GradBuffer(stranger).for_autograd is not None
        assert stranger.grad is None
    assert GradBuffer(known).for_autograd is not None


def test_no_gradient_is_written_in_place_that_was_not_allowed_to_be():
    parameter = torch.nn.Parameter(torch.ones(3, 2))
    with Gradients([parameter]).accumulating():
        assert GradBuffer(parameter).for_autograd is not None
        allow_in_place([parameter])
        assert GradBuffer(parameter).for_autograd is None


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_a_weight_run_and_see_the_gradient(register):
    """In place they would not: autograd is handed nothing then."""
    draw = torch.Generator().manual_seed(0)
    layer, x = FastLinear(8, 16), torch.randn(5, 8, generator=draw)
    allow_in_place(layer.parameters())
    seen = []

    def watch(tensor):  # the gradient itself, or its parameter
        seen.append((tensor if tensor.grad is None else tensor.grad).clone())

    handle = getattr(layer.weight, register)(watch)
    keep = Gradients(layer.parameters())
    for _ in range(2):
        layer.weight.grad = None
        with keep.accumulating():
            layer(x).square().sum().backward()
    assert len(seen) == 2
    torch.testing.assert_close(seen[1], layer.weight.grad)
    handle.remove()
    layer.weight.grad = None
    with keep.accumulating():
        layer(x).square().sum().backward()
    assert len(seen) == 2
    torch.testing.assert_close(layer.weight.grad, seen[1])
    assert layer.weight.grad.data_ptr() == keep.memory(layer.weight).data_ptr()
