"""A model that only answers is held narrow where its products are narrow, and answers the same to the bit."""

import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from tests.kernels.test_decoder import FAST, draw, packs_bfloat16, policy_of
from tests.kernels.test_packing import FAMILIES, VOCABULARY
from trueup.config import Model
from trueup.engine.score import sequence_logps
from trueup.kernels.linears import FastConv1D, FastLinear
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy, open_reference

SEQUENCES = [((3, 4, 5, 6, 7, 8, 9, 10, 11), (5, 6)), ((3, 4, 5, 6, 7, 8, 9, 10, 11), (7,)), ((8,), (9, 10, 11))]


def linear_weights(model):
    return [m.weight for m in model.modules() if isinstance(m, FastLinear | FastConv1D)]


@pytest.mark.parametrize("family", FAMILIES)
def test_not_a_number_changes(family):
    policy, frozen = (policy_of(family, torch.float32, torch.bfloat16) for _ in range(2))
    frozen.trunk.freeze()
    assert {w.dtype for w in linear_weights(frozen.model)} == {torch.bfloat16}
    assert not any(p.requires_grad for p in frozen.model.parameters())
    ids_BT = torch.randint(0, VOCABULARY, (2, 13), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(frozen.full_logits(ids_BT), policy.full_logits(ids_BT))
        assert torch.equal(frozen.trunk.rows(ids_BT), policy.trunk.rows(ids_BT))
        pairs = zip(sequence_logps(frozen, SEQUENCES), sequence_logps(policy, SEQUENCES), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    if family in FAST:
        drawn = zip(draw(frozen), draw(policy), strict=True)
        assert frozen.decodes is policy.decodes is packs_bfloat16()
        assert all(one.ids == other.ids and torch.equal(one.logps, other.logps) for one, other in drawn)


def test_what_others_read_too_stays_precise():
    tied, untied = (policy_of(family, torch.float32, torch.bfloat16) for family in ("GPT2", "Llama"))
    assert tied.linear_head.weight is tied.model.transformer.wte.weight
    tied.trunk.freeze()
    assert tied.linear_head.weight.dtype is torch.float32
    untied.trunk.freeze()
    assert untied.linear_head.weight.dtype is torch.bfloat16
    assert untied.model.model.embed_tokens.weight.dtype is torch.float32
    norms = [m.weight for m in untied.model.modules() if type(m).__name__.endswith("Norm")]
    assert {w.dtype for w in norms} == {torch.float32}


@pytest.mark.parametrize("reason", ["float32", "processes"])
def test_weights_stay_where_products_are_wide_or_sharding_wants_one_precision(reason, monkeypatch):
    policy = policy_of("Llama", torch.float32, torch.float32 if reason == "float32" else torch.bfloat16)
    if reason == "processes":
        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    policy.trunk.freeze()
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in policy.model.parameters())


def test_a_model_whose_numbers_would_change_is_held_in_float32(caplog):
    policy = policy_of("Llama", torch.float32, torch.bfloat16)
    layer = policy.model.model.layers[0].mlp.up_proj
    layer.register_forward_hook(lambda module, _, found: found.to(module.weight.dtype) / 3)
    before = [p.clone() for p in policy.model.parameters()]
    policy.trunk.freeze()
    assert "frozen_weights: gives other numbers; weights are held in float32" in caplog.text
    assert all(
        p.dtype is torch.float32 and torch.equal(p, q) for p, q in zip(policy.model.parameters(), before, strict=True)
    )
    assert not any(p.requires_grad for p in policy.model.parameters())


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what is mapped")
def test_the_file_of_a_frozen_model_is_let_go(saved_policy):
    weights = saved_policy / "model.safetensors"
    learner = open_policy(Model(name=str(saved_policy), dtype="bfloat16"))
    assert mapped(weights)
    del learner
    frozen = open_policy(Model(name=str(saved_policy), dtype="bfloat16"), frozen=True)
    assert not mapped(weights)
    assert linear_weights(frozen.model)[0].dtype is torch.bfloat16


def test_references_and_judges_are_frozen_and_a_reference_is_known_by_its_wide_weights(saved_policy, tmp_path):
    narrow, wide = (open_reference(Model(name=str(saved_policy), dtype=t)) for t in ("bfloat16", "float32"))
    assert narrow.fingerprint == wide.fingerprint
    assert linear_weights(narrow.policy.model)[0].dtype is torch.bfloat16
    trained = open_reward_model(Model(name=str(saved_policy), dtype="bfloat16"), new_head=True)
    assert all(p.requires_grad and p.dtype is torch.float32 for p in trained.model.parameters())
    trained.export(tmp_path / "judge")
    judge = open_reward_model(Model(name=str(tmp_path / "judge"), dtype="bfloat16"), new_head=False)
    assert not judge.trainable()
    assert linear_weights(judge.model)[0].dtype is torch.bfloat16
    assert isinstance(judge.model.score, nn.Linear)
    assert judge.model.score.weight.dtype is torch.float32
