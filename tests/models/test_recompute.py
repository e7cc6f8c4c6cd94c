"""Gradient checkpointing: the same gradients, blocks run again in the backward pass, and nowhere else."""

import pytest
import torch

from tests.kernels.test_packing import build, kept_by
from trueup.kernels import packing
from trueup.kernels.packing import SHARED_FROM, pack
from trueup.models.trunk import Trunk

SHARED = tuple(range(1, 2 + SHARED_FROM))
PROMPTS, ANSWERS = [SHARED, SHARED, (3, 4)], [(5, 6, 7), (8, 9), (10, 11, 12, 13)]


def trunk_of(family, *, checkpointed, compute=None):
    model = build(family, torch.float64 if compute is None else torch.float32)
    trunk = Trunk(model, model.base_model, torch.device("cpu"), compute or torch.float32, family)
    if checkpointed:
        trunk.checkpoint_blocks()
    return trunk


def runs(trunk):
    """How often the first block's MLP begins; recomputation stops as soon as it has what backward needs."""
    count = [0]
    block = (getattr(trunk.body, "layers", None) or trunk.body.h)[0]
    block.mlp.register_forward_pre_hook(lambda *_: count.__setitem__(0, count[0] + 1))
    return count


def gradients(trunk, packed):
    if packed:
        assert trunk.packs
        hidden = trunk.stream(pack(PROMPTS, ANSWERS))
    else:
        hidden = trunk.rows(torch.tensor([p + a for p, a in zip(PROMPTS[:1], ANSWERS[:1], strict=True)]))
    (hidden**3).sum().backward()
    found = {name: p.grad for name, p in trunk.model.named_parameters() if p.grad is not None}
    assert len(found) > 10
    return found


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("family", ["GPT2", "Llama", "Gemma2", "GPTNeoX"])
def test_blocks_run_twice_and_gradients_are_the_same(family, packed):
    plain, saving = trunk_of(family, checkpointed=False), trunk_of(family, checkpointed=True)
    once, twice = runs(plain), runs(saving)
    wanted, found = gradients(plain, packed), gradients(saving, packed)
    assert (once[0], twice[0]) == (1, 2)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)


def test_without_gradients_nothing_is_recomputed_and_dropout_stays_off():
    saving = trunk_of("GPT2", checkpointed=True)
    count = runs(saving)
    with torch.no_grad():
        saving.stream(pack(PROMPTS, ANSWERS))
    assert count[0] == 1
    assert not any(m.training for m in saving.model.modules())
    gradients(saving, True)
    assert not any(m.training for m in saving.model.modules())


def test_less_is_kept_for_the_backward_pass():
    kept = {}
    for checkpointed in (False, True):
        trunk = trunk_of("Llama", checkpointed=checkpointed)
        _, tensors = kept_by(lambda trunk=trunk: trunk.stream(pack(PROMPTS, ANSWERS)).sum())
        weights = {p.data_ptr() for p in trunk.model.parameters()}
        kept[checkpointed] = sum(t.numel() for t in tensors if t.data_ptr() not in weights)
    assert kept[True] < 0.4 * kept[False]


@pytest.mark.parametrize("packed", [True, False])
def test_in_bfloat16_blocks_attend_again_by_our_kernels(packed, monkeypatch):
    calls, honest = [0], packing.causal

    def spy(*tensors, **more):
        calls[0] += 1
        return honest(*tensors, **more)

    monkeypatch.setattr(packing, "causal", spy)
    found, counts = [], []
    for checkpointed in (False, True):
        trunk = trunk_of("Llama", checkpointed=checkpointed, compute=torch.bfloat16)
        before, calls[0] = trunk.model.config._attn_implementation, 0
        found.append(gradients(trunk, packed))
        counts.append(calls[0])
        assert trunk.model.config._attn_implementation == before
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=0, atol=0)
    exact = gradients(trunk_of("Llama", checkpointed=False, compute=torch.float32), packed)
    flat = [torch.cat([g.flatten() for g in some.values()]) for some in (found[0], exact)]
    assert float((flat[0] - flat[1]).norm() / flat[1].norm()) < 0.03
    assert 0 < 2 * counts[0] == counts[1]
