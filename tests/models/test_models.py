import json
import pickle
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig

from tests.conftest import TEXTS, tiny_model
from trueup.config import Batch, Lora, Model, Tiny
from trueup.errors import ModelError
from trueup.models import trunk as trunk_module
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy, open_reference
from trueup.models.trunk import LEAST_TOKENS, MOST_TOKENS, Trunk


def test_same_seed_same_weights_and_other_seed_other_weights():
    one, two, three = (open_policy(tiny_model(), texts=TEXTS, seed=s) for s in (1, 1, 2))
    assert one.fingerprint() == two.fingerprint() != three.fingerprint()


def test_exported_policy_opens_with_plain_transformers(policy, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy.export(tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    ids = torch.tensor([tokenizer("The capital of France").input_ids])
    torch.testing.assert_close(model(ids).logits, policy.full_logits(ids))
    assert tokenizer.eos_token_id != tokenizer.pad_token_id


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt_neox"])
def test_trunk_and_head_run_apart_on_the_usual_families(kind, tmp_path):
    import transformers as t

    small = {
        "vocab_size": 400,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    configs = {
        "gpt2": lambda: t.GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=2, n_positions=64),
        "llama": lambda: t.LlamaConfig(**small, num_key_value_heads=1),
        "qwen2": lambda: t.Qwen2Config(**small, num_key_value_heads=1),
        "qwen3": lambda: t.Qwen3Config(**small, num_key_value_heads=1, head_dim=16),
        "mistral": lambda: t.MistralConfig(**small, num_key_value_heads=1),
        "gemma2": lambda: t.Gemma2Config(**small, num_key_value_heads=1, head_dim=16),
        "gpt_neox": lambda: t.GPTNeoXConfig(**small),
    }
    torch.manual_seed(0)
    t.AutoModelForCausalLM.from_config(configs[kind]()).save_pretrained(tmp_path)
    open_policy(tiny_model(), texts=TEXTS).tokenizer.save_pretrained(tmp_path)
    assert open_policy(Model(name=str(tmp_path))).gathers


def test_lora_reference_is_the_base_and_costs_no_copy(saved_policy):
    policy = open_policy(Model(name=str(saved_policy), lora=Lora(rank=4)), seed=1)
    assert all("lora_" in name for name in policy.trainable())
    reference = open_reference(Model(name=str(saved_policy)), policy=policy)
    ids = torch.tensor([[5, 6, 7]])
    with reference.active() as anchor:
        base = anchor.full_logits(ids)
    with torch.no_grad():
        for p in policy.trainable().values():
            p.normal_()
    with reference.active() as anchor:
        assert torch.equal(anchor.full_logits(ids), base)
    assert not torch.equal(policy.full_logits(ids), base)
    plain = open_policy(Model(name=str(saved_policy)))
    torch.testing.assert_close(plain.full_logits(ids), base)


def test_merged_lora_export_computes_the_same(saved_policy, tmp_path):
    policy = open_policy(Model(name=str(saved_policy), lora=Lora(rank=4)), seed=1)
    with torch.no_grad():
        for p in policy.trainable().values():
            p.normal_(std=0.1)
    policy.export(tmp_path / "merged")
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(
        open_policy(Model(name=str(tmp_path / "merged"))).full_logits(ids),
        policy.full_logits(ids),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_changed_reference_is_an_error(saved_policy):
    found = open_reference(Model(name=str(saved_policy)))
    assert open_reference(Model(name=str(saved_policy)), pinned=found.fingerprint).fingerprint == found.fingerprint
    with pytest.raises(ModelError, match="the reference changed"):
        open_reference(Model(name=str(saved_policy)), pinned="0123456789abcdef")


@pytest.mark.parametrize("opener", [open_reference, lambda c: open_reward_model(c, new_head=True)])
def test_a_new_random_model_cannot_anchor_or_judge(opener):
    with pytest.raises(ModelError, match="train one first"):
        opener(Model(name="tiny"))


def test_a_path_typo_lists_what_is_there(saved_policy):
    with pytest.raises(ModelError, match="no such directory") as caught:
        open_policy(Model(name=str(saved_policy.parent / "modell")))
    assert "model" in str(caught.value)


def test_hub_name_that_cannot_be_reached_says_so():
    with pytest.raises(ModelError) as caught:
        open_policy(Model(name="nobody/no-such-model-here"))
    assert "nobody/no-such-model-here" in str(caught.value)
    assert "fix:" in str(caught.value)


def test_damaged_weights_are_named(saved_policy):
    (saved_policy / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ModelError, match="damaged"):
        open_policy(Model(name=str(saved_policy)))


def test_pickled_weights_are_never_loaded(saved_policy):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was executed",))

    (saved_policy / "model.safetensors").unlink()
    (saved_policy / "pytorch_model.bin").write_bytes(pickle.dumps({"w": Bomb()}))
    with pytest.raises(ModelError, match="never pickle"):
        open_policy(Model(name=str(saved_policy)))


def test_tokenizer_larger_than_the_model(saved_policy, policy):
    policy.tokenizer.add_tokens([f"<extra{i}>" for i in range(50)])
    policy.tokenizer.save_pretrained(saved_policy)
    with pytest.raises(ModelError, match=r"the tokenizer has \d+ tokens, the model embeds"):
        open_policy(Model(name=str(saved_policy)))


def test_a_gpu_that_is_demanded_and_absent():
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(ModelError, match="no CUDA GPU"):
        open_policy(Model(name="tiny", device="cuda"), texts=TEXTS)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="4 heads do not divide hidden 30"):
        Tiny(hidden=30, heads=4)


def test_reward_model_round_trip_keeps_the_scale(saved_policy, tmp_path):
    model = open_reward_model(Model(name=str(saved_policy)), new_head=True, seed=3)
    model.mean, model.std = 0.25, 2.0
    model.export(tmp_path / "rm")
    again = open_reward_model(Model(name=str(tmp_path / "rm")), new_head=False)
    state = torch.randn(2, model.model.config.hidden_size)
    torch.testing.assert_close(again.read(state), model.read(state))
    torch.testing.assert_close(again.scale(torch.tensor([2.25])), torch.tensor([1.0]))
    stored = json.loads((tmp_path / "rm" / "trueup_reward.json").read_text())
    assert (stored["mean"], stored["std"], stored["rendering"]) == (0.25, 2.0, None)
    with pytest.raises(ModelError, match="trueup reward"):
        open_reward_model(Model(name=str(saved_policy)), new_head=False)


def test_micro_batches_are_as_set_or_as_the_model_and_the_device_like_them(policy, monkeypatch):
    trunk = policy.trunk
    assert trunk.budget(Batch(micro_tokens=77)) == 77
    assert trunk.budget(Batch()) == MOST_TOKENS

    def of(layers, width, device="cpu", compute=torch.bfloat16):
        large = Trunk.__new__(Trunk)
        config = LlamaConfig(hidden_size=width, num_hidden_layers=layers)
        large.model, large.device, large.compute = SimpleNamespace(config=config), torch.device(device), compute
        return large.budget(Batch())

    monkeypatch.setattr(trunk_module, "has_amx", lambda: False)
    assert of(32, 4096) == LEAST_TOKENS < of(12, 512) < MOST_TOKENS == of(32, 4096, "cuda")
    monkeypatch.setattr(trunk_module, "has_amx", lambda: True)
    assert of(32, 4096) == LEAST_TOKENS < of(24, 896) < MOST_TOKENS == of(12, 768)
    assert of(12, 768, compute=torch.float32) == LEAST_TOKENS  # its products are as slow as elsewhere
