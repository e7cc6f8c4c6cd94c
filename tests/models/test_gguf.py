"""GGUF files are opened as what they hold, converted once, and refused where they are something else."""

import json
import logging
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.conftest import TEXTS, tiny_model
from tests.models.gguf_files import dequantised, weights, write_gguf
from trueup.config import Model
from trueup.errors import ModelError, RunError
from trueup.models import gguf_cache, gguf_convert
from trueup.models.files import identity
from trueup.models.gguf import read_gguf, require_language_model
from trueup.models.gguf_cache import CARD, cache_folder, content_digest, converted
from trueup.models.heads import open_reward_model
from trueup.models.load import load_tokenizer, located
from trueup.models.policy import open_policy
from trueup.models.tiny import CHAT_TEMPLATE

gguf = pytest.importorskip("gguf", reason="the package gguf reads such files: pip install 'trueup[gguf]'")

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


@pytest.fixture(scope="module")
def small():
    """A tiny Llama whose rows are whole blocks of 32."""
    return open_policy(tiny_model(hidden=64), texts=TEXTS, seed=7)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf_cache, "_noted", set())
    monkeypatch.setattr(gguf_cache, "_checked", {})
    return tmp_path / "cache"


@pytest.fixture
def file(small, tmp_path):
    return write_gguf(small, tmp_path / "small.gguf", template=CHAT_TEMPLATE)


def refused(path, match, error=ModelError):
    with pytest.raises(error, match=match) as caught:
        open_policy(Model(name=str(path)))
    return str(caught.value)


def entries(cache):
    return sorted(p for p in (cache / "gguf").iterdir() if p.is_dir() and p.name != "digests")


def test_a_file_in_float32_computes_what_the_model_computes(small, file):
    opened = open_policy(Model(name=str(file)))
    torch.testing.assert_close(opened.full_logits(IDS), small.full_logits(IDS), rtol=1e-5, atol=1e-5)
    text = "The capital of France is Paris.<|end|> 12 and 1987"
    assert opened.tokenizer(text)["input_ids"] == small.tokenizer(text)["input_ids"]
    assert opened.tokenizer.chat_template == CHAT_TEMPLATE
    assert opened.tokenizer.eos_token == "<|end|>"
    assert opened.end_ids == (small.tokenizer.eos_token_id,)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_1"])
def test_quantised_weights_are_the_dequantised_ones_to_the_last_bit(kind, small, tmp_path):
    file = write_gguf(small, tmp_path / "m.gguf", kind)
    opened = AutoModelForCausalLM.from_pretrained(converted(file))
    wanted = dequantised(small, kind)
    for name, tensor in opened.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name
    assert not hasattr(opened.config, "quantization_config")


def test_the_converted_folder_is_a_model_for_other_programs(small, file, tmp_path):
    folder = converted(file)
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert AutoTokenizer.from_pretrained(folder).chat_template == CHAT_TEMPLATE
    assert 'license: "apache-2.0"' in (folder / "README.md").read_text()


def test_it_trains_and_exports_like_any_model(file, tmp_path):
    opened = open_policy(Model(name=str(file)))
    opened.full_logits(IDS).sum().backward()
    opened.export(tmp_path / "final")
    again = open_policy(Model(name=str(tmp_path / "final")))
    torch.testing.assert_close(again.full_logits(IDS), opened.full_logits(IDS))
    assert "quantization_config" not in json.loads((tmp_path / "final" / "config.json").read_text())


def test_a_reward_model_starts_from_it_and_an_adapter_stands_on_it(small, file, tmp_path):
    import peft

    assert open_reward_model(Model(name=str(file)), new_head=True).model.score.out_features == 1
    base = AutoModelForCausalLM.from_pretrained(converted(file))
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    adapted.eval().save_pretrained(tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(file)
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    opened = open_policy(Model(name=str(tmp_path / "adapter")))
    torch.testing.assert_close(opened.full_logits(IDS), adapted(IDS).logits, rtol=1e-4, atol=1e-4)
    assert identity(str(tmp_path / "adapter")).endswith("+" + identity(str(file)))


def test_a_directory_with_one_file_means_it_and_with_several_says_which(small, file, tmp_path):
    (tmp_path / "folder").mkdir()
    os.rename(file, tmp_path / "folder" / "a.gguf")
    (tmp_path / "folder" / "config.json").write_text("{}")  # as repositories of GGUF files have it
    assert identity(str(tmp_path / "folder")) == identity(str(tmp_path / "folder" / "a.gguf"))
    assert located(str(tmp_path / "folder")).path.parent == cache_folder() / "gguf"
    write_gguf(small, tmp_path / "folder" / "b.gguf", "Q8_0")
    text = refused(tmp_path / "folder", "2 GGUF files")
    assert "a.gguf" in text
    assert "b.gguf" in text


def test_weights_in_safetensors_go_before_a_gguf_beside_them(saved_policy, small):
    write_gguf(small, saved_policy / "m.gguf")
    assert located(str(saved_policy)).path == saved_policy


def test_a_name_without_the_suffix_odd_letters_and_links_are_no_matter(small, file, tmp_path):
    for name in ("sha256-0123", "größe 模型.gguf"):
        os.link(file, tmp_path / name)
    (tmp_path / "link.gguf").symlink_to(file)
    names = {identity(str(tmp_path / name)) for name in ("sha256-0123", "größe 模型.gguf", "link.gguf", "small.gguf")}
    assert len(names) == 1
    assert located(str(tmp_path / "sha256-0123")).path == located(str(tmp_path / "link.gguf")).path


def test_the_second_opening_converts_nothing_and_needs_no_package(file, capsys, monkeypatch):
    first = converted(file)
    assert "converted in" in capsys.readouterr().err
    monkeypatch.setattr(gguf_convert, "write_model", None)
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert converted(file) == first
    assert capsys.readouterr().err == ""


def test_without_the_package_the_error_says_what_to_install(file, monkeypatch):
    monkeypatch.setattr(gguf_convert.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'trueup[gguf]'" in refused(file, "gguf is not installed")


def test_other_content_under_the_same_name_is_another_model(small, file, cache):
    before, digest = converted(file), content_digest(file)
    stamp = file.stat()
    write_gguf(small, file, "Q8_0", template=CHAT_TEMPLATE)
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert content_digest(file) != digest
    assert converted(file) != before
    assert len(entries(cache)) == 2


def test_a_remembered_digest_is_not_computed_again_and_a_damaged_note_is(file, cache, monkeypatch):
    digest = content_digest(file)
    (note,) = (cache / "gguf" / "digests").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(gguf_cache.hashlib, "file_digest", None)
        assert content_digest(file) == digest
    for damage in ("", "[]", '{"stamp": 3}', '{"sha256": "x"}'):
        note.write_text(damage)
        assert content_digest(file) == digest


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", CARD])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_conversion_is_seen_and_made_anew(name, damage, small, file, caplog, monkeypatch):
    folder = converted(file)
    victim = folder / name
    data = bytearray(victim.read_bytes())
    if damage == "gone":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 4
        victim.write_bytes(data)
    if name == CARD and damage == "flip":
        victim.write_text(victim.read_text().replace('"sha256": "', '"sha256": "0'))
    with caplog.at_level(logging.WARNING):
        assert converted(file) == folder
    assert "made anew" in caplog.text
    torch.testing.assert_close(open_policy(Model(name=str(file))).full_logits(IDS), small.full_logits(IDS))


def test_an_interrupted_conversion_leaves_nothing_that_is_trusted(file, cache, monkeypatch):
    real = gguf_convert.write_model

    def interrupted(gguf_file, folder, say):
        real(gguf_file, folder, say)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gguf_convert, "write_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            converted(file)
    assert [path for path in entries(cache) if not path.name.endswith(".lock")] == []
    folder = converted(file)
    left = folder.with_name(f".{folder.name}.99999.tmp")  # as a kill leaves it
    os.rename(folder, left)
    (left / CARD).unlink()
    assert converted(file) == folder
    assert not left.exists()


@pytest.mark.slow
def test_two_processes_at_once_convert_it_once(file, cache):
    code = f"from pathlib import Path; from trueup.models.gguf_cache import converted; converted(Path({str(file)!r}))"
    jobs = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [job.communicate(timeout=120)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    assert sum("converted in" in text for text in said) == 1
    assert len(entries(cache)) == 1


def test_a_second_process_waits_for_the_first(file, cache, capsys, monkeypatch):
    real, started = gguf_convert.write_model, threading.Event()

    def slow(gguf_file, folder, say):
        started.set()
        time.sleep(0.5)
        return real(gguf_file, folder, say)

    monkeypatch.setattr(gguf_convert, "write_model", slow)
    first = threading.Thread(target=converted, args=(file,))
    first.start()
    assert started.wait(60)
    folder = converted(file)
    first.join()
    said = capsys.readouterr().err
    assert "waiting for that" in said
    assert said.count("converted in") == 1
    assert entries(cache) == [folder]


def test_a_cache_that_cannot_be_written_says_how_to_choose_another(file, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "taken"))
    assert "TRUEUP_CACHE" in refused(file, "cannot be converted", RunError)


def test_a_full_disk_is_said_before_anything_is_written(file, cache, monkeypatch):
    monkeypatch.setattr(gguf_cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    assert "TRUEUP_CACHE" in refused(file, "are free", RunError)
    assert entries(cache) == []


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"TRUEUP_CACHE": "~/x"}, "home/x"),
        ({"XDG_CACHE_HOME": "{tmp}/xdg"}, "xdg/trueup"),
        ({"XDG_CACHE_HOME": "relative"}, "home/.cache/trueup"),
        ({}, "home/.cache/trueup"),
    ],
)
def test_the_cache_is_where_the_environment_says(settings, place, tmp_path, monkeypatch):
    for name in ("TRUEUP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in settings.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    assert cache_folder() == tmp_path / place


def test_a_cut_file_is_refused_wherever_it_is_cut(file, tmp_path):
    whole = file.read_bytes()
    short = tmp_path / "short.gguf"
    for length in (0, 3, 10, 24, 100, 1000, len(whole) // 2, len(whole) - 40):
        short.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"damaged|no GGUF") as caught:
            read_gguf(short)
        assert caught.value.fix


def test_a_header_with_any_byte_changed_is_read_or_refused_but_never_fails(file, tmp_path):
    whole = bytearray(file.read_bytes()[:6000])
    draw = np.random.default_rng(0)
    other = tmp_path / "odd.gguf"
    for _ in range(300):
        data = bytearray(whole)
        for at in draw.integers(4, len(data), 3):
            data[at] = draw.integers(256)
        other.write_bytes(data)
        with pytest.raises(ModelError):
            read_gguf(other)


def test_what_is_no_gguf_in_spite_of_its_name_is_said(tmp_path):
    page = tmp_path / "page.gguf"
    page.write_text("<!DOCTYPE html><html>not found</html>")
    assert "Git LFS" in refused(page, "no GGUF file")
    page.write_bytes(b"GGUF" + (3).to_bytes(4, "big") + bytes(40))
    refused(page, "version 3 .*big-endian")
    page.write_bytes(b"GGUF" + (1).to_bytes(4, "little") + bytes(40))
    refused(page, "version 1")
    assert "page.gguf" in refused(tmp_path / "pages.gguf", "no such file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_said(file):
    file.chmod(0)
    refused(file, "cannot be read")


@pytest.mark.parametrize(
    ("architecture", "edit", "match"),
    [
        ("clip", None, "vision or audio part"),
        ("bert", None, "an embedding model"),
        ("t5", None, "encoder-decoder"),
        ("rwkv7", None, "transformers cannot read GGUF files of the architecture 'rwkv7'"),
        ("llama", lambda w: w.add_type("adapter"), "a LoRA adapter"),
        ("llama", lambda w: w.add_type("mmproj"), "vision or audio part"),
        ("llama", lambda w: w.add_uint32("llama.pooling_type", 3), r"an embedding model \(pooling last\)"),
        ("llama", lambda w: w.add_uint32("llama.pooling_type", 4), "a reranker"),
        ("llama", lambda w: w.add_uint16("split.count", 2), "split over several files"),
    ],
)
def test_what_is_no_whole_language_model_is_refused(architecture, edit, match, small, tmp_path, cache):
    file = write_gguf(small, tmp_path / "m.gguf", architecture=architecture, edit=edit)
    refused(file, match)
    assert entries(cache) == []


def test_a_part_of_a_split_model_says_how_to_join_them(small, tmp_path):
    for number in (1, 2):
        write_gguf(small, tmp_path / f"big-0000{number}-of-00002.gguf")
    for name in (tmp_path, tmp_path / "big-00002-of-00002.gguf"):
        text = refused(name, "split over several files")
        assert "--merge big-00001-of-00002.gguf big.gguf" in text


def test_a_file_without_a_vocabulary_is_refused(small, tmp_path):
    refused(write_gguf(small, tmp_path / "m.gguf", vocabulary=False), "no vocabulary")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a.pop("blk.1.ffn_up.weight"), "not in the file"),
        (lambda a: a.update({"blk.0.attn_q.bias": np.zeros(64, np.float32)}), "the file holds .* weights"),
        (lambda a: a.update({"rope_factors_long.weight": np.ones(16, np.float32)}), "longrope"),
        (lambda a: a.update({"rope_freqs.weight": np.full(16, 3, np.float32)}), "numbers are not Llama 3's"),
    ],
)
def test_a_tensor_that_is_not_read_or_not_there_is_refused(change, match, small, tmp_path):
    refused(write_gguf(small, tmp_path / "m.gguf", tensors=change), match)


def test_nan_in_a_file_is_refused(small, tmp_path):
    def spoil(arrays):
        arrays["blk.0.ffn_up.weight"] = np.full_like(arrays["blk.0.ffn_up.weight"], np.nan)

    refused(write_gguf(small, tmp_path / "m.gguf", tensors=spoil), "not finite")


def test_a_storage_type_that_nothing_reads_is_said(file, tmp_path):
    data = bytearray(file.read_bytes())
    at = data.index(b"blk.0.ffn_up.weight") + len("blk.0.ffn_up.weight") + 4 + 16
    data[at : at + 4] = (99).to_bytes(4, "little")
    (tmp_path / "m.gguf").write_bytes(data)
    assert "Q8_0" in refused(tmp_path / "m.gguf", "stored as type 99")


def test_scaled_positions_are_read(small, tmp_path):
    from transformers import LlamaForCausalLM

    def opened_with(settings, **how):
        file = write_gguf(small, tmp_path / "m.gguf", **how)
        config = small.model.config.to_dict() | {"rope_parameters": {"rope_theta": 10000.0} | settings}
        wanted = LlamaForCausalLM(type(small.model.config).from_dict(config)).eval()
        wanted.load_state_dict(small.model.state_dict())
        opened = open_policy(Model(name=str(file)))
        assert settings.items() <= opened.model.config.rope_parameters.items()
        torch.testing.assert_close(opened.full_logits(IDS), wanted(IDS).logits, rtol=1e-5, atol=1e-5)

    def linear(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)

    def yarn(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(24)

    opened_with({"rope_type": "linear", "factor": 4.0}, edit=linear)
    opened_with({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}, edit=yarn)
    lengths = 2 * np.pi * 10000.0 ** (np.arange(16) / 16)
    smooth = np.clip((8192 / lengths - 1) / 3, 0, 1)
    freqs = (1 / ((1 - smooth) / 8 + smooth)).astype(np.float32)
    assert freqs.max() > 1
    llama3 = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    opened_with(llama3, tensors=lambda a: a.update({"rope_freqs.weight": freqs}))


def test_every_end_token_of_the_file_ends_an_answer(small, tmp_path):
    eos, user = small.tokenizer.eos_token_id, small.tokenizer.convert_tokens_to_ids("<|user|>")
    file = write_gguf(small, tmp_path / "m.gguf", edit=lambda w: w.add_eot_token_id(user))
    assert open_policy(Model(name=str(file))).end_ids == (eos, user)


def test_what_disagrees_with_the_files_own_metadata_is_said(small, tmp_path, caplog):
    file = write_gguf(small, tmp_path / "m.gguf", template="{% for m in messages %}{{ m.content }}{% endfor %}")
    with caplog.at_level(logging.WARNING):
        converted(file)
    assert "writes none of the file's end tokens ('<|end|>')" in caplog.text
    metadata = read_gguf(file, vocabulary=True).metadata
    tokenizer = load_tokenizer(str(file))
    assert len(gguf_convert.tokenizer_notes(metadata, tokenizer)) == 1
    tokenizer.chat_template = "other"
    changed = metadata | {
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.padding_token_id": 99999,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.tokens": metadata["tokenizer.ggml.tokens"] + ["beyond"],
        "tokenizer.chat_template.tool_use": "x",
    }
    notes = "\n".join(gguf_convert.tokenizer_notes(changed, tokenizer))
    for part in ("eos is 1 ('<|end|>'), by the file 3", "pad is 0", "no token of it", "beyond", "tool_use", "not the"):
        assert part in notes


def test_the_header_tells_the_model(small, file):
    header = read_gguf(file)
    require_language_model(header)
    assert (header.architecture, header.kinds) == ("llama", "F32")
    assert header.count == sum(array.size for array in weights(small).values())
    assert header.metadata["tokenizer.ggml.tokens"] == small.model.config.vocab_size
