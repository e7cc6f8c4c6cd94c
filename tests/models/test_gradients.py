"""Gradients written in place are those that autograd would have added up."""

import pytest
import torch

from tests.models.test_packing import FAMILIES, build
from trueup.data.batch import Rows
from trueup.engine.score import score
from trueup.models import gradients, products
from trueup.models.gradients import Gradients, Slope
from trueup.models.packing import SHARED_FROM
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
    monkeypatch.setattr(gradients, "WIDENED_ELEMENTS", 37)
    monkeypatch.setattr(products, "SLOPE_ROWS", 24)
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
    keep = Gradients([known])
    with keep.accumulating():
        assert Slope(known).for_autograd is None
        assert Slope(stranger).for_autograd is not None
        assert stranger.grad is None
    assert Slope(known).for_autograd is not None
