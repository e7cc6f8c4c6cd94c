"""Exports as folders: what is refused and why, precisions, adapters, nothing half-written; no upload without a word."""

import errno
import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import trueup
from trueup.config import Lora, Model
from trueup.errors import ModelError, RunError, UsageError
from trueup.ledger import write_json
from trueup.models import export_folder, upload
from trueup.models.export_folder import export_adapter, export_hf, find_source
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy


def run_of(folder, status="done", **parts):
    """A run's folder with the parts that are given: directories to copy."""
    folder.mkdir()
    write_json(folder / "run.json", {"kind": "dpo", "config": {}, "inputs": {}, "status": status})
    for name, source in parts.items():
        shutil.copytree(source, folder / name)
    return folder


@pytest.fixture
def adapter(saved_policy, tmp_path):
    policy = open_policy(Model(name=str(saved_policy), lora=Lora(rank=2)))
    (tmp_path / "adapter").mkdir()
    policy.export_adapter(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def done_run(saved_policy, adapter, tmp_path):
    return run_of(tmp_path / "dpo", final=saved_policy, adapter=adapter)


def test_a_run_is_its_final_model_and_its_adapter(done_run):
    source = find_source(str(done_run))
    assert (source.title, source.folder.path, source.adapter) == ("dpo", done_run / "final", done_run / "adapter")
    assert find_source(str(done_run / "final")).title == "dpo"
    alone = find_source(str(done_run / "adapter"))
    assert (alone.folder, alone.adapter) == (None, done_run / "adapter")


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_a_run_that_is_not_finished_is_refused(saved_policy, tmp_path, status):
    run_of(tmp_path / "run", status, final=saved_policy)
    with pytest.raises(RunError, match=f"not finished: {status}") as raised:
        find_source(str(tmp_path / "run"))
    assert "trueup resume" in raised.value.fix


def test_what_is_no_run_and_no_model(tmp_path, saved_policy):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    run_of(tmp_path / "judged")
    for name, words in (
        ("notes", "neither a run nor a model"),
        ("file", "this is a file"),
        ("nowhere", "no such directory"),
        ("judged", "has made no model"),
    ):
        with pytest.raises((UsageError, RunError), match=words):
            find_source(str(tmp_path / name))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text('{"kind": ')
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        find_source(str(tmp_path / "broken"))
    (saved_policy / "model.safetensors").write_bytes((saved_policy / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged"):
        find_source(str(saved_policy))


def test_hf_as_it_is_and_in_other_precisions(done_run, tmp_path):
    ids_BT = torch.tensor([[5, 6, 7]])
    expected = AutoModelForCausalLM.from_pretrained(done_run / "final")(ids_BT).logits
    for dtype, kind, bound in ((None, torch.float32, 0), ("bf16", torch.bfloat16, 0.05), ("f16", torch.float16, 0.01)):
        exported = export_hf(find_source(str(done_run)), tmp_path / f"out-{dtype}", dtype)
        model = AutoModelForCausalLM.from_pretrained(exported.path)
        assert model.dtype == kind
        assert "dtype" in json.loads((exported.path / "config.json").read_text())
        assert (model(ids_BT).logits.float() - expected).abs().max() <= bound
        assert AutoTokenizer.from_pretrained(exported.path).chat_template
        assert sum(exported.files.values()) == sum(p.stat().st_size for p in exported.path.iterdir())


def test_sharded_weights_keep_their_index(saved_policy, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(saved_policy)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="60KB")
    AutoTokenizer.from_pretrained(saved_policy).save_pretrained(tmp_path / "sharded")
    exported = export_hf(find_source(str(tmp_path / "sharded")), tmp_path / "out", "bf16")
    index = json.loads((exported.path / "model.safetensors.index.json").read_text())
    tensors = {k: v for name in set(index["weight_map"].values()) for k, v in load_file(exported.path / name).items()}
    assert set(tensors) == set(index["weight_map"])
    assert index["metadata"]["total_size"] == sum(t.numel() * 2 for t in tensors.values())
    ids_BT = torch.tensor([[5, 6]])
    torch.testing.assert_close(
        AutoModelForCausalLM.from_pretrained(exported.path)(ids_BT).logits.float(),
        model(ids_BT).logits,
        atol=0.05,
        rtol=0,
    )


def test_weights_beyond_float16_are_refused_and_nothing_is_left(saved_policy, tmp_path):
    weights = load_file(saved_policy / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    weights[name] = weights[name] + 1e6
    save_file(weights, saved_policy / "model.safetensors", metadata={"format": "pt"})
    for export in (export_hf, _gguf):
        with pytest.raises(ModelError, match="does not fit into") as raised:
            export(find_source(str(saved_policy)), tmp_path / "out", "f16")
        assert "bf16" in raised.value.fix
        assert not list(tmp_path.glob("*out*"))


def _gguf(source, out, dtype):
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    from trueup.models.export_gguf import export_gguf

    return export_gguf(source, out, dtype)


def test_the_adapter_goes_out_with_a_word_on_its_base(done_run, saved_policy, tmp_path):
    exported = export_adapter(find_source(str(done_run)), tmp_path / "out")
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= set(exported.files)
    assert str(saved_policy) in exported.remarks[0]
    ids_BT = torch.tensor([[5, 6, 7]])
    merged = open_policy(Model(name=str(exported.path)))
    torch.testing.assert_close(
        merged.full_logits(ids_BT), open_policy(Model(name=str(saved_policy))).full_logits(ids_BT)
    )  # a new adapter changes nothing
    shutil.rmtree(done_run / "adapter")
    with pytest.raises(UsageError, match="there is no adapter"):
        export_adapter(find_source(str(done_run)), tmp_path / "other")


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_an_adapter_alone_is_merged_into_its_base(adapter, saved_policy, tmp_path, to):
    if to == "gguf":
        pytest.importorskip("gguf", reason="the gguf package is not installed")
    exported = trueup.export_model(adapter, to, tmp_path / "out")
    if to == "hf":
        ids_BT = torch.tensor([[5, 6, 7]])
        torch.testing.assert_close(
            AutoModelForCausalLM.from_pretrained(exported.path)(ids_BT).logits,
            open_policy(Model(name=str(adapter))).full_logits(ids_BT),
        )
    assert "merged" in exported.remarks[0]


def test_a_target_that_is_there_is_not_written_over(done_run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("full", "file", "link"):
        for export in (export_hf, export_adapter):
            with pytest.raises(UsageError, match="the target is there already"):
                export(find_source(str(done_run)), tmp_path / name)
    assert (tmp_path / "full" / "mine").read_text() == "x"
    (tmp_path / "empty").mkdir()
    export_hf(find_source(str(done_run)), tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_a_disk_that_is_full_before_or_during(done_run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
        with pytest.raises(RunError, match="GB are free"):
            export_hf(find_source(str(done_run)), tmp_path / "out")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(export_folder.shutil, "copyfile", full)
        with pytest.raises(RunError, match="the disk is full"):
            export_hf(find_source(str(done_run)), tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_a_place_that_cannot_be_written(done_run, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"a part of the path is a file|there is a file"):
        export_hf(find_source(str(done_run)), tmp_path / "file" / "out")


def test_a_reward_model_goes_out_as_hf_and_not_as_gguf(saved_policy, tmp_path):
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    judge = open_reward_model(Model(name=str(saved_policy)), new_head=True)
    judge.export(tmp_path / "judge")
    exported = trueup.export_model(tmp_path / "judge", "hf", tmp_path / "out", dtype="bf16")
    assert "trueup_reward.json" in exported.files
    with pytest.raises(ModelError, match="reward model"):
        trueup.export_model(tmp_path / "judge", "gguf", tmp_path / "gguf")
    assert not (tmp_path / "gguf").exists()


def _edit(file, **changes):
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | changes))


def test_what_gguf_cannot_hold_is_refused_by_name(saved_policy, tmp_path):
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    config, tokenizer = saved_policy / "config.json", saved_policy / "tokenizer.json"
    honest = {file: file.read_text() for file in (config, tokenizer)}

    def cut(kind, **more):
        return {"pre_tokenizer": {"type": kind, **more}}

    for file, changes, words in (
        (config, {"model_type": "falcon"}, "'falcon' cannot be written as GGUF"),
        (config, {"hidden_act": "relu"}, "hidden_act is relu"),
        (config, {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "scaled by yarn"),
        (config, {"tie_word_embeddings": False}, "are not in the files"),
        (tokenizer, cut("Whitespace"), "no name for here"),
        (tokenizer, cut("ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True), "no name for here"),
        (tokenizer, {"normalizer": {"type": "Lowercase"}}, r"changes text first \(Lowercase\)"),
    ):
        _edit(file, **changes)
        with pytest.raises(ModelError, match=words) as raised:
            trueup.export_model(saved_policy, "gguf", tmp_path / "out")
        assert raised.value.fix or raised.value.expected
        file.write_text(honest[file])
    tokenizer.unlink()
    with pytest.raises(ModelError, match="no tokenizer here"):
        trueup.export_model(saved_policy, "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_words_are_refused_before_anything_is_read(done_run, tmp_path):
    for values, words in (
        ({"to": "onnx"}, "'onnx'"),
        ({"to": "hf", "dtype": "q8_0"}, "'q8_0'"),
        ({"to": "hf", "dtype": "float8"}, "'float8'"),
        ({"to": "adapter", "dtype": "f16"}, "keeps its precision"),
        ({"to": "hf", "push": "no-owner"}, "'no-owner'"),
        ({"to": "hf", "push": "../../etc/x"}, "OWNER/NAME"),
    ):
        with pytest.raises(UsageError, match=words):
            trueup.export_model(done_run, out=tmp_path / "out", **values)
        assert not (tmp_path / "out").exists()


def test_where_an_export_goes_by_default(done_run, saved_policy):
    assert trueup.export_model(done_run, "hf", dtype="bf16").path == done_run / "export" / "hf-bf16"
    assert trueup.export_model(done_run / "final", "hf").path == done_run / "export" / "hf"
    assert trueup.export_model(saved_policy, "hf").path == saved_policy.with_name("model-hf")


def test_without_the_package_gguf_says_what_to_install(done_run, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UsageError, match="not installed") as raised:
        trueup.export_model(done_run, "gguf", tmp_path / "out")
    assert "trueup[gguf]" in raised.value.fix


class Hub:
    """A stand-in for the hub's client that notes what it is told."""

    def __init__(self, fails=None):
        self.calls, self.fails = [], fails

    def __call__(self):
        return self

    def create_repo(self, name, **options):
        self.calls.append((name, options))
        if self.fails is not None:
            raise self.fails
        return f"https://hub.example/{name}"

    def upload_folder(self, **options):
        self.calls.append(options)


@pytest.fixture
def logged_in(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "not-a-token")
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    return hub


def test_an_upload_is_private_and_of_the_exported_folder_alone(done_run, tmp_path, logged_in):
    exported = trueup.export_model(done_run, "hf", tmp_path / "out", push="me/model")
    (name, options), sent = logged_in.calls
    assert (name, options["private"]) == ("me/model", True)
    assert sent["folder_path"] == str(exported.path)
    trueup.export_model(done_run, "hf", tmp_path / "public", push="me/model", private=False)
    assert logged_in.calls[2][1]["private"] is False


def test_no_token_no_network(done_run, tmp_path, monkeypatch, logged_in):
    logged_in.fails = ConnectionError("Name or service not known\nand more")
    with pytest.raises(RunError, match=r"the upload failed: Name or service not known\n  fix") as raised:
        trueup.export_model(done_run, "hf", tmp_path / "kept", push="me/model")
    assert str(tmp_path / "kept") in raised.value.fix
    assert (tmp_path / "kept" / "config.json").is_file()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UsageError, match="nobody is logged in"):
        upload.require_upload("me/model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="switched off"):
        trueup.export_model(done_run, "hf", tmp_path / "out", push="me/model")
    assert not (tmp_path / "out").exists()
