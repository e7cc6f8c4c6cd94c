"""Quantised checkpoints are recognised, named and refused with a way out that works."""

import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import TEXTS, tiny_model
from trueup.config import Model
from trueup.errors import ModelError
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy


def refused(folder, opener=open_policy):
    with pytest.raises(ModelError, match="the weights are quantised") as caught:
        opener(Model(name=str(folder)))
    return caught.value


def change(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def rewrite(folder, edit):
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def learner(config):
    return open_reward_model(config, new_head=True)


METHODS = {
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "pip install bitsandbytes", "dequantize"),
    "without a method": ({"bnb_4bit_quant_type": "nf4", "load_in_4bit": True}, "bitsandbytes, 4 or 8", "dequantize"),
    "gptq": ({"quant_method": "gptq", "bits": 4}, "GPTQ", None),
    "awq": ({"quant_method": "awq", "bits": 4}, "AWQ", None),
    "fp8": ({"quant_method": "fp8"}, "FP8", "FineGrainedFP8Config"),
    "compressed": ({"quant_method": "compressed-tensors"}, "compressed-tensors", "CompressedTensorsConfig"),
    "mxfp4": ({"quant_method": "mxfp4"}, "MXFP4", "Mxfp4Config"),
    "other": ({"quant_method": "fbgemm_fp8"}, "fbgemm_fp8", None),
    "odd": ("yes", "quantization_config", None),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("opener", [open_policy, learner])
def test_each_method_is_named_with_the_command_that_unpacks_it_where_there_is_one(saved_policy, method, opener):
    config, named, unpacks = METHODS[method]
    change(saved_policy, quantization_config=config)
    error = refused(saved_policy, opener)
    assert named in str(error)
    assert ("unpack it once" in error.fix) == (unpacks is not None)
    assert unpacks is None or unpacks in error.fix
    assert "take the model that it was made from" in error.fix


def test_a_config_of_the_text_part_counts(saved_policy):
    change(saved_policy, text_config={"quantization_config": {"quant_method": "awq"}})
    assert "AWQ" in str(refused(saved_policy))


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json", "hf_quant_config.json"])
def test_files_that_only_quantisers_write_give_it_away(saved_policy, name):
    (saved_policy / name).write_text("{}")
    assert name in str(refused(saved_policy))


PACKED = {
    "qweight g_idx": ("gptq", {"qweight": torch.int32, "g_idx": torch.int32}),
    "qweight qzeros": ("awq", {"qweight": torch.int32, "qzeros": torch.int32}),
    "absmax": ("bitsandbytes", {"weight": torch.uint8, "weight.absmax": torch.float32}),
    "SCB": ("bitsandbytes", {"weight": torch.int8, "SCB": torch.float32}),
    "weight_packed": ("compressed-tensors", {"weight_packed": torch.int32, "weight_scale": torch.float32}),
    "weight_scale_inv": ("FP8", {"weight": torch.float8_e4m3fn, "weight_scale_inv": torch.float32}),
    "nothing known": ("by what is not known", {"weight": torch.int8}),
}


@pytest.mark.parametrize("kind", PACKED)
def test_packed_tensors_give_it_away_where_the_config_is_silent(saved_policy, kind):
    method, parts = PACKED[kind]

    def pack(weights):
        for name in [name for name in weights if "proj" in name]:
            shape = weights.pop(name).shape
            for part, dtype in parts.items():
                weights[name.removesuffix("weight") + part] = torch.zeros(shape, dtype=dtype)

    rewrite(saved_policy, pack)
    error = refused(saved_policy)
    assert method.lower() in str(error).lower()
    assert "unpack" not in error.fix  # nothing can, without its settings


CARDS = {
    "a list": ("---\nlicense: mit\nbase_model:\n- acme/Whole-1B\n---\ntext", "acme/Whole-1B"),
    "a word": ("---\nbase_model: 'acme/Whole-1B'\n---\n", "acme/Whole-1B"),
    "only in the text": ("---\nlicense: mit\n---\nbase_model: acme/Whole-1B\n", None),
    "no front matter": ("base_model: acme/Whole-1B\n", None),
}


@pytest.mark.parametrize("card", CARDS)
def test_the_origin_is_what_the_card_names(saved_policy, card):
    text, origin = CARDS[card]
    (saved_policy / "README.md").write_text(text)
    change(saved_policy, quantization_config={"quant_method": "gptq"})
    assert (f"--model {origin}" in refused(saved_policy).fix) == (origin is not None)


@pytest.mark.parametrize(
    ("own", "origin"),
    [
        ("Llama-3-8B-bnb-4bit", "Llama-3-8B"),
        ("Qwen2-7B-Instruct-GPTQ-Int4", "Qwen2-7B-Instruct"),
        ("Mistral-7B-AWQ", "Mistral-7B"),
        ("Qwen3-8B-FP8", "Qwen3-8B"),
    ],
)
def test_else_the_origin_is_guessed_from_the_name_and_said_to_be(saved_policy, own, origin):
    change(saved_policy, quantization_config={"quant_method": "gptq"})
    moved = saved_policy.rename(saved_policy.with_name(own))
    assert f"--model {origin} (guessed from the name {own})" in refused(moved).fix
    snapshot = moved.parent / f"models--acme--{own}" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    assert f"--model acme/{origin} (guessed" in refused(moved.rename(snapshot)).fix


@pytest.mark.slow
def test_the_command_that_unpacks_fp8_gives_a_model_that_opens(tmp_path):
    policy = open_policy(tiny_model(hidden=64), texts=TEXTS, seed=7)
    folder = tmp_path / "tiny"
    policy.export(folder)
    stored = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if "proj" not in name:
            stored[name] = weight
            continue
        scale = weight.abs().max() / 448
        stored[name] = (weight / scale).to(torch.float8_e4m3fn)
        stored[f"{name}_scale_inv"] = scale.expand(-(-weight.shape[0] // 128), -(-weight.shape[1] // 128)).clone()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    change(
        folder,
        quantization_config={"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    )
    command = re.search(r'python -c ".*?"', refused(folder).fix)[0]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True, cwd=tmp_path)
    ids = torch.tensor([[5, 6, 7, 8]])
    unpacked = open_policy(Model(name=str(tmp_path / "tiny-whole")))
    torch.testing.assert_close(unpacked.full_logits(ids), policy.full_logits(ids), rtol=0.1, atol=0.3)
