"""What would fail when the trained model is written is refused before the first step."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from trueup.config import Lora, Model
from trueup.engine.placement import check_export
from trueup.errors import ModelError, RunError
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy
from trueup.models.rendering import Rendering


@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["whole", "lora"])
def test_what_can_be_written_passes_and_nothing_is_written(saved_policy, tmp_path, lora):
    for model in (
        open_policy(Model(name=str(saved_policy), lora=lora)),
        open_reward_model(Model(name=str(saved_policy), lora=lora), new_head=True),
    ):
        check_export(model, tmp_path / "run" / "final")
    assert not (tmp_path / "run").exists()


def test_a_place_that_is_taken_or_too_small(policy, tmp_path, monkeypatch):
    (tmp_path / "final").write_text("mine")
    with pytest.raises(RunError, match="a file stands where"):
        check_export(policy, tmp_path / "final")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(RunError, match="GB are free"):
        check_export(policy, tmp_path / "other")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(RunError, match="no permission"):
        check_export(policy, tmp_path / "other")


def test_weights_that_share_memory_undeclared(policy, tmp_path):
    first, second = policy.model.model.layers
    second.mlp.up_proj.weight = first.mlp.up_proj.weight
    with pytest.raises(ModelError, match="share memory"):
        check_export(policy, tmp_path / "final")


def test_a_part_that_cannot_be_saved_is_named(policy, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no such field")

    monkeypatch.setattr(type(policy.tokenizer), "save_pretrained", fail)
    with pytest.raises(ModelError, match="cannot be saved: no such field"):
        check_export(policy, tmp_path / "final")


def test_generation_settings_that_transformers_finds_fault_with_are_written_with_the_end_tokens(saved_policy, tmp_path):
    """As many published models have them: a temperature without sampling."""
    settings = {"temperature": 0.6, "do_sample": False, "eos_token_id": 7}
    (saved_policy / "generation_config.json").write_text(json.dumps(settings))
    policy = open_policy(Model(name=str(saved_policy)))
    check_export(policy, tmp_path / "final")
    policy.export(tmp_path / "final", Rendering(end_ids=(1, 2), max_length=40, chats=True, texts=False))
    assert json.loads((tmp_path / "final" / "generation_config.json").read_text())["eos_token_id"] == [1, 2, 7]
    ids = torch.tensor([[5, 6]])
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    torch.testing.assert_close(again(ids).logits, policy.full_logits(ids))
