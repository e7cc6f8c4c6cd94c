"""A model's files are checked before they are read: whole, safe, of one model, and of the kind that is asked for."""

import json
import pickle
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaForCausalLM

from tests.conftest import TEXTS, tiny_model
from trueup.config import Model
from trueup.errors import ModelError
from trueup.models.files import identity, look
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy
from trueup.models.tokens import vocabulary_difference


def change(folder, name="config.json", **values):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def rewrite(folder, edit):
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def refused(folder, match, opener=open_policy):
    with pytest.raises(ModelError, match=match) as caught:
        opener(Model(name=str(folder)))
    return str(caught.value)


def judge(config):
    return open_reward_model(config, new_head=False)


def learner(config):
    return open_reward_model(config, new_head=True)


@pytest.mark.parametrize("opener", [open_policy, learner])
def test_layers_without_weights_are_refused_with_names_and_counts(saved_policy, opener):
    change(saved_policy, num_hidden_layers=4)
    text = refused(saved_policy, "18 that the config asks for are missing", opener)
    assert "model.layers.2." in text


@pytest.mark.parametrize("opener", [open_policy, learner])
def test_weights_that_the_config_does_not_know_are_refused(saved_policy, opener):
    change(saved_policy, num_hidden_layers=1)
    refused(saved_policy, "9 that the config does not know are there", opener)
    change(saved_policy, num_hidden_layers=2)
    rewrite(saved_policy, lambda w: w.update({"v_head.summary.weight": torch.zeros(1, 32)}))
    refused(saved_policy, r"v_head\.summary\.weight", opener)


def test_tables_that_old_versions_saved_are_no_matter(saved_policy):
    rewrite(saved_policy, lambda w: w.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)}))
    open_policy(Model(name=str(saved_policy)))


def test_weights_of_another_shape_or_architecture_are_refused(saved_policy):
    change(saved_policy, intermediate_size=96)
    refused(saved_policy, "size|shape")
    change(saved_policy, model_type="gpt2", architectures=["GPT2LMHeadModel"], n_layer=1)
    refused(saved_policy, "missing")


def test_a_head_that_is_not_tied_must_be_there(saved_policy):
    change(saved_policy, tie_word_embeddings=False)
    refused(saved_policy, r"1 that the config asks for are missing \(lm_head\.weight\)")


def test_a_reward_model_is_no_policy_and_a_policy_no_reward_model(saved_policy, tmp_path):
    learner(Model(name=str(saved_policy))).export(tmp_path / "judge")
    refused(tmp_path / "judge", "this is a reward model")
    (tmp_path / "judge" / "trueup_reward.json").unlink()
    refused(tmp_path / "judge", "this is a reward model")
    change(tmp_path / "judge", architectures=["LlamaForCausalLM"])
    refused(tmp_path / "judge", r"score\.weight")
    refused(saved_policy, "trained by `trueup reward`", judge)
    (saved_policy / "trueup_reward.json").write_text('{"mean": 0.0, "std": 1.0}')
    refused(saved_policy, "it has no score head", judge)


def test_a_classifier_of_another_tool_is_a_reward_model_whose_numbers_are_taken_as_they_are(saved_policy, caplog):
    torch.manual_seed(0)
    plain = AutoModelForSequenceClassification.from_pretrained(saved_policy, num_labels=1)
    plain.save_pretrained(saved_policy)
    model = judge(Model(name=str(saved_policy)))
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(model.scale(model.read(model.trunk.rows(ids)[:, -1])), plain(ids).logits[0])
    assert "neither centred nor scaled" in caplog.text


@pytest.mark.parametrize(
    "method", [{"quant_method": "gptq", "bits": 4}, {"load_in_4bit": True}, {"quant_method": "fp8"}], ids=str
)
@pytest.mark.parametrize("opener", [open_policy, learner])
def test_quantised_weights_are_refused(saved_policy, method, opener):
    change(saved_policy, quantization_config=method)
    refused(saved_policy, "quantised", opener)


def test_weights_that_are_stored_as_small_integers_are_refused(saved_policy):
    def narrow(weights):
        weights.update({name: tensor.to(torch.int8) for name, tensor in weights.items()})

    rewrite(saved_policy, narrow)
    refused(saved_policy, "stored as I8")


def shard(folder, name):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return weights


def test_an_index_over_files_beside_it_is_read(saved_policy):
    wanted = open_policy(Model(name=str(saved_policy))).fingerprint()
    save_file(shard(saved_policy, "part.safetensors"), saved_policy / "part.safetensors", metadata={"format": "pt"})
    assert open_policy(Model(name=str(saved_policy))).fingerprint() == wanted


@pytest.mark.parametrize(
    "where", ["../outside.safetensors", "{root}/outside.safetensors", "a/../../outside.safetensors"]
)
def test_an_index_cannot_name_a_file_elsewhere(saved_policy, where):
    outside = saved_policy.parent / "outside.safetensors"
    save_file(shard(saved_policy, where.format(root=saved_policy.parent)), outside)
    refused(saved_policy, "it names .*outside")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_an_index_cannot_name_a_pickle(saved_policy):
    shard(saved_policy, "pytorch_model.bin")
    (saved_policy / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    refused(saved_policy, "pytorch_model.bin")


def test_a_config_cannot_name_weights_elsewhere(saved_policy):
    change(saved_policy, transformers_weights="../other.safetensors")
    refused(saved_policy, "other.safetensors")


def test_a_pickle_by_a_safe_name_is_no_safetensors_file(saved_policy):
    (saved_policy / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    refused(saved_policy, "damaged")


def test_a_shard_that_is_missing_or_cut_is_named(saved_policy):
    weights = shard(saved_policy, "part.safetensors")
    refused(saved_policy, "1 of the 1 files that the index names are not here: part.safetensors")
    save_file(weights, saved_policy / "part.safetensors", metadata={"format": "pt"})
    whole = (saved_policy / "part.safetensors").read_bytes()
    (saved_policy / "part.safetensors").write_bytes(whole[:-50])
    assert "part.safetensors" in refused(saved_policy, "damaged")


@pytest.fixture
def three_shards(saved_policy):
    """A model in three files, as large ones are saved; names of the files."""
    model = AutoModelForCausalLM.from_pretrained(saved_policy)
    size = sum(p.numel() * 4 for p in model.parameters())
    (saved_policy / "model.safetensors").unlink()
    model.save_pretrained(saved_policy, max_shard_size=size * 4 // 9)
    names = sorted(path.name for path in saved_policy.glob("model-*.safetensors"))
    assert len(names) == 3
    return names


@pytest.mark.parametrize("opener", [open_policy, learner])
def test_a_model_in_several_files_is_opened_whole(saved_policy, three_shards, policy, opener):
    opened = opener(Model(name=str(saved_policy)))
    wanted = policy.model.model.state_dict()
    assert {name: torch.equal(tensor, wanted[name]) for name, tensor in opened.model.model.state_dict().items()} == (
        dict.fromkeys(wanted, True)
    )


def test_every_missing_file_of_several_is_named(saved_policy, three_shards):
    for name in three_shards[1:]:
        (saved_policy / name).unlink()
    text = refused(saved_policy, "2 of the 3 files")
    assert three_shards[0] not in text
    assert all(name in text for name in three_shards[1:])


def test_a_weight_that_is_not_in_the_file_that_the_index_names_is_refused(saved_policy, three_shards):
    weights = load_file(saved_policy / three_shards[1])
    gone = sorted(weights)[0]
    save_file(
        {n: w for n, w in weights.items() if n != gone}, saved_policy / three_shards[1], metadata={"format": "pt"}
    )
    assert gone in refused(saved_policy, "missing")


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
def test_pickled_weights_are_never_read_and_the_error_says_how_to_convert_them(saved_policy, policy, shards, tmp_path):
    weights = {n: w for n, w in policy.model.state_dict().items() if n != "lm_head.weight"}
    (saved_policy / "model.safetensors").unlink()
    names = [f"pytorch_model-{i + 1:05d}-of-{shards:05d}.bin" for i in range(shards)]
    placed = {name: names[i % shards] for i, name in enumerate(weights)}
    if shards == 1:
        names = ["pytorch_model.bin"]
        placed = dict.fromkeys(weights, names[0])
    else:
        index = {"metadata": {"total_size": 1}, "weight_map": placed}
        (saved_policy / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for file in names:
        torch.save({name: weights[name] for name in weights if placed[name] == file}, saved_policy / file)
    text = refused(saved_policy, "no model.safetensors here, but pytorch_model")
    command = re.search(r'python -c ".*?"', text)[0]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True, cwd=tmp_path)
    converted = open_policy(Model(name=str(tmp_path / "model-safetensors")))
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(converted.full_logits(ids), policy.full_logits(ids))


@pytest.mark.parametrize("key", ["num_attention_heads", "hidden_size", "num_hidden_layers", "vocab_size"])
@pytest.mark.parametrize("value", [0, -1, "two"])
def test_counts_below_one_are_refused(saved_policy, key, value):
    change(saved_policy, **{key: value})
    refused(saved_policy, f"{key} is {value!r}")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_a_config_that_is_no_object_is_refused(saved_policy, text):
    (saved_policy / "config.json").write_text(text)
    assert "config.json" in refused(saved_policy, "cannot be read|holds")


def test_code_that_comes_with_a_model_runs_only_if_that_is_said(saved_policy):
    change(saved_policy, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"})
    (saved_policy / "own.py").write_text("raise SystemExit('foreign code ran')")
    assert "model.trust_remote_code=true" in refused(saved_policy, "custom code|trust_remote_code")


def test_a_directory_without_a_tokenizer_is_refused(saved_policy):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (saved_policy / name).unlink()
    refused(saved_policy, "no tokenizer here")


def test_a_tokenizer_with_ids_beyond_the_embeddings_is_refused_for_reward_models_too(saved_policy, policy):
    policy.tokenizer.add_tokens([f"<extra{i}>" for i in range(50)])
    policy.tokenizer.save_pretrained(saved_policy)
    refused(saved_policy, "no embedding for '<extra", learner)


def test_a_directory_that_is_no_model_is_refused_at_once_and_never_hashed(saved_policy, monkeypatch):
    root = saved_policy.parent
    (root / "large.bin").write_bytes(b"x" * 100)
    monkeypatch.setattr("trueup.models.files.open", lambda *_: pytest.fail("a file was read"), raising=False)
    for opener in (identity, look):
        with pytest.raises(ModelError, match=r"no config\.json here") as caught:
            opener(str(root))
        assert f"did you mean {saved_policy}?" in str(caught.value)


def test_identity_is_of_the_models_own_files(saved_policy):
    before = identity(str(saved_policy))
    (saved_policy / "checkpoints").mkdir()
    (saved_policy / "checkpoints" / "step.json").write_text("{}")
    (saved_policy / "notes.md").write_text("mine")
    assert identity(str(saved_policy)) == before
    change(saved_policy, rope_theta=5.0)
    assert identity(str(saved_policy)) != before
    assert identity("tiny") == "name:tiny"
    assert identity("owner/name") == "name:owner/name"


def test_names_that_are_no_directory(saved_policy, tmp_path):
    assert "did you mean model?" in refused(tmp_path / "modle", "no such directory")
    refused(saved_policy / "model.safetensors", "this is a file")
    refused("", "no model is named|no such directory")


def test_a_name_in_the_cache_of_the_hub_opens_without_a_network(saved_policy, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / ("a" * 40)
    shutil.copytree(saved_policy, snapshot)
    refs = tmp_path / "hub" / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    import huggingface_hub

    honest = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda *a, **k: honest(*a, **k, cache_dir=tmp_path / "hub", local_files_only=True),
    )
    wanted = open_policy(Model(name=str(saved_policy))).fingerprint()
    assert open_policy(Model(name="owner/name")).fingerprint() == wanted
    change(snapshot, quantization_config={"quant_method": "awq"})
    refused("owner/name", "quantised")


def test_tokenizers_differ_in_ids_and_in_what_ends_a_text():
    one, same, longer, other = (open_policy(tiny_model(), texts=TEXTS).tokenizer for _ in range(4))
    longer.add_tokens(["<more>"])
    other.eos_token = "<|user|>"
    assert vocabulary_difference(one, same) is None
    assert "<more>" in vocabulary_difference(one, longer)
    assert vocabulary_difference(one, other) == "eos_token is '<|end|>' for one and '<|user|>' for the other"


def test_what_was_opened_is_all_of_the_file(saved_policy):
    """Nothing is drawn anew: our weights are transformers', which are the file's."""
    held = load_file(saved_policy / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(saved_policy)
    assert isinstance(model, LlamaForCausalLM)
    ours = open_policy(Model(name=str(saved_policy))).model.state_dict()
    for name, tensor in held.items():
        assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize("opener", [open_policy, learner])
def test_shapes_other_than_the_config_describes_are_named_with_both(saved_policy, opener):
    change(saved_policy, intermediate_size=48)
    text = refused(saved_policy, "have another shape", opener)
    assert "mlp.down_proj.weight is 32x" in text
    assert "by the config 32x48" in text


def test_more_layers_than_weights_are_refused_before_any_is_built(saved_policy):
    change(saved_policy, num_hidden_layers=10**6)
    refused(saved_policy, "num_hidden_layers is 1000000, and the weights are only [0-9]+ tensors")


def test_what_transformers_says_of_a_config_is_said_whole(saved_policy):
    change(saved_policy, num_attention_heads=3)
    text = refused(saved_policy, "not a multiple of the number of attention heads")
    assert "mend config.json" in text


def test_the_head_of_many_labels_gives_way_to_a_new_one_and_is_no_reward_model(saved_policy, caplog):
    learner(Model(name=str(saved_policy))).model.save_pretrained(saved_policy)

    def widen(weights):
        weights["score.weight"] = torch.zeros(5, weights["score.weight"].shape[1])

    rewrite(saved_policy, widen)
    assert learner(Model(name=str(saved_policy))).model.score.out_features == 1
    assert "its score head is replaced by a new one" in caplog.text
    refused(saved_policy, "score.weight is 5x32 and by the config 1x32", judge)


@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight", "model.embed_tokens.weight"])
def test_one_number_that_is_none_is_found_and_its_weight_named(saved_policy, name):
    def harm(weights):
        if name in weights:
            weights[name].view(-1)[-1] = float("nan")
        else:  # tied: there is no head of its own
            weights["model.embed_tokens.weight"].view(-1)[-1] = float("inf")

    rewrite(saved_policy, harm)
    refused(saved_policy, "the weights are not finite: [a-z_.]+ holds NaN or infinity")


def test_weights_that_are_no_real_numbers_are_refused(saved_policy):
    def harm(weights):
        weights["model.norm.weight"] = weights["model.norm.weight"].to(torch.complex64)

    rewrite(saved_policy, harm)
    refused(saved_policy, "some weights are stored as C64")


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer_config.json", b"[]"), ("generation_config.json", b"{"), ("tokenizer.json", b"\xff\xfe")],
)
def test_a_damaged_file_beside_the_weights_is_named(saved_policy, name, content):
    (saved_policy / name).write_bytes(content)
    assert str(saved_policy / name) in refused(saved_policy, "a JSON object")


def test_a_template_that_is_no_text_and_a_part_of_the_config_that_is_none(saved_policy):
    template = saved_policy / "chat_template.jinja"
    template.write_bytes(b"\xff\xfe")
    assert str(template) in refused(saved_policy, "UTF-8")
    template.unlink()
    change(saved_policy, text_config=3)
    refused(saved_policy, "text_config is 3")
