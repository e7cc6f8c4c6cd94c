"""Adapters of other tools are opened merged, and nothing of them is lost or left out without a word."""

import json
import logging
import shutil

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.conftest import TEXTS, tiny_model
from trueup.config import Lora, Model
from trueup.errors import ModelError
from trueup.models.files import identity
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy, open_reference

IDS = torch.tensor([[5, 6, 7, 8]])
LORA = {"r": 3, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
KINDS = {
    "lora": lambda: peft.LoraConfig(**LORA),
    "rslora": lambda: peft.LoraConfig(**LORA, use_rslora=True),
    "dora": lambda: peft.LoraConfig(**LORA, use_dora=True),
    "bias": lambda: peft.LoraConfig(**LORA, bias="all"),
    "saved modules": lambda: peft.LoraConfig(
        **LORA | {"target_modules": ["q_proj"]}, modules_to_save=["embed_tokens", "norm"]
    ),
    "embeddings": lambda: peft.LoraConfig(**LORA | {"target_modules": ["q_proj", "embed_tokens"]}),
    "some tokens": lambda: peft.LoraConfig(**LORA | {"target_modules": ["q_proj"]}, trainable_token_indices=[2, 3]),
    "ia3": lambda: peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
}


def adapt(base, path, config, *, opened=AutoModelForCausalLM, grown=0, **more):
    """Save an adapter whose weights are no zeros; returns what the adapted model computes."""
    torch.manual_seed(0)
    model = opened.from_pretrained(base, **more)
    if grown:
        model.resize_token_embeddings(model.config.vocab_size + grown, mean_resizing=False)
    adapted = peft.get_peft_model(model, config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    adapted.eval().save_pretrained(path, save_embedding_layers=True if grown else "auto")
    with torch.no_grad():
        return adapted(IDS).logits


def edit(path, **values):
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def adapter(saved_policy, tmp_path):
    adapt(saved_policy, tmp_path / "adapter", KINDS["lora"]())
    return tmp_path / "adapter"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_weights_is_merged(kind, saved_policy, tmp_path):
    wanted = adapt(saved_policy, tmp_path / "adapter", KINDS[kind]())
    policy = open_policy(Model(name=str(tmp_path / "adapter")))
    torch.testing.assert_close(policy.full_logits(IDS), wanted, rtol=1e-4, atol=1e-4)
    assert all(parameter.requires_grad for parameter in policy.model.parameters())
    policy.export(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(again(IDS).logits, wanted, rtol=1e-4, atol=1e-4)


def test_embeddings_that_grew_come_along(saved_policy, tmp_path):
    wanted = adapt(saved_policy, tmp_path / "adapter", KINDS["lora"](), grown=3)
    torch.testing.assert_close(
        open_policy(Model(name=str(tmp_path / "adapter"))).full_logits(IDS), wanted, rtol=1e-4, atol=1e-4
    )


def test_the_reference_is_the_merged_model_and_is_pinned(saved_policy, adapter):
    merged = open_policy(Model(name=str(adapter)))
    reference = open_reference(Model(name=str(adapter)))
    assert reference.fingerprint == merged.fingerprint() != open_policy(Model(name=str(saved_policy))).fingerprint()
    weights = load_file(saved_policy / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, saved_policy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="the reference changed"):
        open_reference(Model(name=str(adapter)), pinned=reference.fingerprint)


def test_new_adapters_stand_on_the_merged_model(adapter):
    stacked = open_policy(Model(name=str(adapter), lora=Lora(rank=2)))
    assert all("lora_" in name for name in stacked.trainable())
    with open_reference(Model(name=str(adapter)), policy=stacked).active() as base:
        torch.testing.assert_close(
            base.full_logits(IDS), open_policy(Model(name=str(adapter))).full_logits(IDS), rtol=1e-5, atol=1e-5
        )


def test_its_tokenizer_is_its_own_or_its_bases(saved_policy, adapter):
    own = open_policy(Model(name=str(adapter))).tokenizer
    assert own.get_vocab() == open_policy(Model(name=str(saved_policy))).tokenizer.get_vocab()
    own.chat_template = "{{ messages }}"
    own.save_pretrained(adapter)
    assert open_policy(Model(name=str(adapter))).tokenizer.chat_template == "{{ messages }}"


def test_the_base_belongs_to_what_a_run_was_started_with(saved_policy, adapter):
    before = identity(str(adapter))
    (saved_policy / "generation_config.json").write_text("{}")
    assert identity(str(adapter)) != before


def test_a_base_beside_it_is_found_and_a_missing_one_is_named(saved_policy, adapter):
    edit(adapter, base_model_name_or_path="../model")
    open_policy(Model(name=str(adapter)))
    for base, match in (("/content/llama", "no such directory"), (None, "base_model_name_or_path is None")):
        edit(adapter, base_model_name_or_path=base)
        with pytest.raises(ModelError, match=match) as caught:
            open_policy(Model(name=str(adapter)))
        assert "base_model_name_or_path" in str(caught.value)
    edit(adapter, base_model_name_or_path=str(adapter))
    with pytest.raises(ModelError, match="without end"):
        open_policy(Model(name=str(adapter)))
    with pytest.raises(ModelError, match="without end"):
        identity(str(adapter))


def test_an_adapter_over_an_adapter(saved_policy, adapter, tmp_path):
    open_policy(Model(name=str(adapter))).export(tmp_path / "merged")
    wanted = adapt(tmp_path / "merged", tmp_path / "second", KINDS["rslora"]())
    edit(tmp_path / "second", base_model_name_or_path=str(adapter))
    torch.testing.assert_close(
        open_policy(Model(name=str(tmp_path / "second"))).full_logits(IDS), wanted, rtol=1e-4, atol=1e-4
    )


def test_an_adapter_for_another_base_or_not_whole_is_refused(saved_policy, adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    name = next(iter(weights))
    broken = {
        "weights are missing": {key: value for key, value in weights.items() if key != name},
        "not of this base": weights | {name.replace("layers.0", "layers.7"): weights[name].clone()},
        "other shapes": weights | {name: torch.zeros(3, 5)},
        "NaN": weights | {name: torch.full_like(weights[name], float("nan"))},
    }
    for match, held in broken.items():
        save_file(held, adapter / "adapter_model.safetensors")
        with pytest.raises(ModelError, match=match):
            open_policy(Model(name=str(adapter)))
    (adapter / "adapter_model.safetensors").write_bytes(b"\x00" * 30)
    with pytest.raises(ModelError, match="damaged"):
        open_policy(Model(name=str(adapter)))


def test_a_pickled_adapter_is_refused(adapter):
    shutil.move(adapter / "adapter_model.safetensors", adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors here"):
        open_policy(Model(name=str(adapter)))


def test_what_cannot_be_merged_is_refused(saved_policy, tmp_path):
    adapt(saved_policy, tmp_path / "adapter", peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ModelError, match="PROMPT_TUNING, which cannot be merged"):
        open_policy(Model(name=str(tmp_path / "adapter")))


def test_a_whole_model_beside_an_adapter_is_ambiguous(saved_policy, adapter):
    shutil.copy(saved_policy / "config.json", adapter)
    open_policy(Model(name=str(adapter)))
    shutil.copy(saved_policy / "model.safetensors", adapter)
    with pytest.raises(ModelError, match="a whole model and an adapter"):
        open_policy(Model(name=str(adapter)))


def test_several_adapters_are_said(adapter, caplog):
    shutil.copytree(adapter, adapter / "ref")
    open_policy(Model(name=str(adapter)))
    assert "adapters in its folders are not used: ref" in caplog.text
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match=r"did you mean .*ref"):
        open_policy(Model(name=str(adapter)))


def test_a_reward_models_adapter_brings_its_head(saved_policy, tmp_path, caplog):
    config = peft.LoraConfig(**LORA | {"task_type": "SEQ_CLS"})
    wanted = adapt(saved_policy, tmp_path / "judge", config, opened=AutoModelForSequenceClassification, num_labels=1)
    with pytest.raises(ModelError, match="this is a reward model"):
        open_policy(Model(name=str(tmp_path / "judge")))
    with caplog.at_level(logging.WARNING):
        model = open_reward_model(Model(name=str(tmp_path / "judge")), new_head=False)
    torch.testing.assert_close(model.read(model.trunk.rows(IDS)[:, -1]), wanted[0], rtol=1e-4, atol=1e-4)
    assert "neither centred nor scaled" in caplog.text


def test_a_reward_model_is_made_from_an_adapted_policy(adapter):
    model = open_reward_model(Model(name=str(adapter)), new_head=True)
    policy = open_policy(Model(name=str(adapter)))
    torch.testing.assert_close(model.trunk.rows(IDS), policy.trunk.rows(IDS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("values", [{"peft_type": "nope"}, {"peft_type": None}, {"lora_alpha": "x"}])
def test_settings_that_no_adapter_has_are_blamed_on_their_file(adapter, values):
    edit(adapter, **values)
    with pytest.raises(ModelError, match="the adapter's settings cannot be used") as caught:
        open_policy(Model(name=str(adapter)))
    assert caught.value.where == str(adapter / "adapter_config.json")


@pytest.fixture
def stack(saved_policy, adapter, tmp_path):
    """Two adapters, one trained on the other; what both together compute."""
    open_policy(Model(name=str(adapter))).export(tmp_path / "merged")
    return tmp_path / "second", adapt(tmp_path / "merged", tmp_path / "second", KINDS["rslora"]())


def test_a_stack_is_written_with_a_plus(saved_policy, adapter, stack, caplog):
    second, wanted = stack
    name = f"{saved_policy}+{adapter}+{second}"
    with caplog.at_level(logging.WARNING):
        policy = open_policy(Model(name=name))
    torch.testing.assert_close(policy.full_logits(IDS), wanted, rtol=1e-4, atol=1e-4)
    assert f"the adapter is of {adapter.parent / 'merged'}; merged into {saved_policy}+{adapter}" in caplog.text
    assert caplog.text.count("by its own settings") == 1  # the first is where it belongs
    assert identity(name).split("+")[1:] == identity(f"{saved_policy}+{adapter}").split("+")
    with torch.no_grad():
        alone = open_policy(Model(name=f"{saved_policy}+{second}")).full_logits(IDS)
    assert (alone - wanted).abs().max() > 1e-3


def test_a_base_that_moved_is_named_with_a_plus(saved_policy, adapter, tmp_path):
    wanted = open_policy(Model(name=str(adapter))).full_logits(IDS)
    shutil.move(saved_policy, tmp_path / "moved")
    with pytest.raises(ModelError, match="cannot be used") as caught:
        open_policy(Model(name=str(adapter)))
    assert f"--model BASE+{adapter}" in str(caught.value)
    name = f"{tmp_path / 'moved'}+{adapter}"
    torch.testing.assert_close(open_policy(Model(name=name)).full_logits(IDS), wanted)
    assert open_reward_model(Model(name=name), new_head=True).model.score.out_features == 1


def test_a_base_of_other_shapes_after_a_plus_is_refused(adapter, tmp_path):
    open_policy(tiny_model(hidden=48), texts=TEXTS).export(tmp_path / "wide")
    with pytest.raises(ModelError, match="other shapes") as caught:
        open_policy(Model(name=f"{tmp_path / 'wide'}+{adapter}"))
    assert f"its base here is {tmp_path / 'wide'}" in str(caught.value)


@pytest.mark.parametrize(
    ("form", "match"),
    [
        ("{model}+{model}", "holds a whole model"),
        ("{adapter}+{model}", "holds a whole model"),
        ("{model}+", "is missing"),
        ("+{adapter}", "is missing"),
        ("{model}+nothing", "nothing is no directory"),
    ],
)
def test_what_stands_after_a_plus_must_be_an_adapter(form, match, saved_policy, adapter):
    with pytest.raises(ModelError, match=match):
        open_policy(Model(name=form.format(model=saved_policy, adapter=adapter)))


def test_a_directory_with_a_plus_in_its_name_is_itself(saved_policy, tmp_path):
    shutil.move(saved_policy, tmp_path / "a+b")
    assert open_policy(Model(name=str(tmp_path / "a+b"))).context == 96
