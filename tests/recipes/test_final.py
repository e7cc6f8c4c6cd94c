"""``final/`` of every run is complete for others: card, licence, generation settings, adapter; nothing is invented."""

import errno
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GenerationConfig

from tests.recipes.test_recipes import ONLINE, config_of
from trueup.config import Model
from trueup.engine import placement
from trueup.errors import RunError
from trueup.ledger import read_lines, read_run
from trueup.ledger.card import front_matter
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy
from trueup.recipes.agreement import ratio_interval, share_interval
from trueup.recipes.registry import execute, resolve
from trueup.recipes.table import RECIPES

SHORT = {kind: {"steps": 2} for kind in ONLINE}
LICENCE = "Do what you like with it.\n"


def trained(kind, material, out, **changes):
    return execute(kind, config_of(kind, material, **(SHORT.get(kind, {"epochs": 1}) | changes)), out, quiet=True)


@pytest.fixture(scope="module")
def runs(material, tmp_path_factory):
    """A short run of every method."""
    folder = tmp_path_factory.mktemp("finals")
    return {kind: trained(kind, material, folder / kind) for kind in RECIPES}


@pytest.fixture(scope="module")
def licensed(material, tmp_path_factory):
    """A model with a licence file and a card of its own."""
    folder = tmp_path_factory.mktemp("licensed") / "base"
    shutil.copytree(material["policy"], folder)
    card = (
        "---\nlicense: other\nlicense_name: do-what-you-like\ndatasets:\n- some/corpus\nbase_model: x/y\n---\n# Base\n"
    )
    (folder / "README.md").write_text(card)
    (folder / "LICENSE").write_text(LICENCE)
    return str(folder)


def card_of(run):
    text = (Path(run) / "final" / "README.md").read_text(encoding="utf-8")
    return front_matter(text), text


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_the_card_is_what_the_run_says(kind, runs, material):
    front, text = card_of(runs[kind])
    record = read_run(runs[kind])
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == ("text-classification" if kind == "reward" else "text-generation")
    assert front["license"] == "unknown"
    assert {"trueup", kind} <= set(front["tags"])
    stage = front["trueup"]["stages"][-1]
    assert (stage["method"], stage["data"][0]["hash"]) == (kind, record["inputs"]["data"])
    assert stage["data"][0]["rows"] == 12
    assert f"| {record['inputs']['data']} | 12 | 12 |" in text
    assert str(Path(material["policy"]).parent) not in text, "a private path is published"
    for name in ("learning_rate: 0.01", "## Evaluation", "## Limits", "## Licence"):
        assert name in text


@pytest.mark.parametrize("kind", ["sft", "reward", "dpo", "kto"])
def test_the_evaluation_is_that_of_the_log_with_its_intervals(kind, runs):
    last = read_lines(runs[kind] / "eval.jsonl")[0][-1]
    _, text = card_of(runs[kind])
    rows = dict(re.findall(r"^\| (heldout_\w+) \| ([^|]*\|[^|]*) \|", text, re.M))
    for name, value in last.items():
        if name.startswith("heldout"):
            shown, bounds = (part.strip() for part in rows[name].split("|"))
            assert float(shown) == pytest.approx(value, rel=1e-3)
            if name in last.get("intervals", {}):
                low, high = map(float, bounds.split(" to "))
                assert low <= float(shown) <= high
                assert low < high
            else:
                assert bounds == "not known"
    expected = {"sft": ["heldout_nll"], "kto": []}.get(kind, ["heldout_accuracy", "heldout_margin"])
    assert sorted(last.get("intervals", {})) == expected


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_the_command_of_the_card_gives_the_settings_of_the_run(kind, runs):
    (line,) = re.findall(r"```sh\n(.*?)\n```", card_of(runs[kind])[1], re.S)
    words = shlex.split(line)
    assert words[:2] == ["trueup", kind]
    sets = [word for before, word in itertools.pairwise(words) if before == "--set"]
    said = resolve(kind, None, {}, sets).model_dump(mode="json")
    settings = read_run(runs[kind])["config"]
    for name in ("data", "validation", "reward"):
        if settings.get(name):
            settings[name] = "/".join(Path(settings[name]).parts[-2:])
    settings["model"]["name"] = "/".join(Path(settings["model"]["name"]).parts[-2:])
    assert said == settings


def test_a_run_without_held_out_data_says_so_and_one_measured_on_its_training_file_too(runs, material, tmp_path):
    assert "Not measured on held-out data" in card_of(runs["ppo"])[1]
    assert "mean over the last 2 steps" in card_of(runs["ppo"])[1]
    assert "the held-out data is the file of training" in card_of(runs["dpo"])[1]
    other = tmp_path / "held-out.jsonl"
    other.write_text("".join(Path(material["pairs"]).read_text().splitlines(keepends=True)[:5]))
    config = config_of("dpo", material, epochs=1).model_copy(update={"validation": None})
    run = execute("dpo", config, tmp_path / "run", quiet=True)
    assert "Not measured on held-out data" in card_of(run)[1]
    config = config_of("dpo", material, epochs=1).model_copy(update={"validation": str(other)})
    _, text = card_of(execute("dpo", config, tmp_path / "held", quiet=True))
    assert "the held-out data is the file of training" not in text
    assert re.search(r"held-out.jsonl\S* \| [0-9a-f]{16} \| 5 \| 5 ", text.replace("\\", ""))


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_the_lines_of_the_card_that_show_its_use_run(kind, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs[kind] / "final")
    (code,) = re.findall(r"## Use\n\n```python\n(.*?)```", card_of(runs[kind])[1], re.S)
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("kind", ["sft", "dpo", "ppo"])
def test_generation_settings_name_the_end_and_the_padding_of_training(kind, runs):
    policy = open_policy(Model(name=str(runs[kind] / "final")))
    settings = GenerationConfig.from_pretrained(runs[kind] / "final")
    assert settings.eos_token_id == policy.tokenizer.eos_token_id
    assert settings.pad_token_id == policy.tokenizer.pad_token_id
    assert not getattr(settings, "_from_model_config", False)
    assert policy.tokenizer.chat_template


def test_without_a_padding_token_the_end_pads(material, tmp_path):
    policy = open_policy(Model(name=material["policy"]))
    policy.tokenizer.pad_token = None
    policy.model.generation_config.pad_token_id = policy.model.config.pad_token_id = None
    from trueup.models.rendering import Rendering

    policy.export(tmp_path / "m", Rendering(end_ids=(3, 1), max_length=40, chats=True, texts=False))
    settings = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert (settings["eos_token_id"], settings["pad_token_id"]) == ([3, 1], 3)


def test_licence_and_stages_are_carried_on_from_stage_to_stage(material, licensed, tmp_path):
    config = config_of("sft", material, epochs=1)
    config = config.model_copy(update={"model": config.model.model_copy(update={"name": licensed})})
    first = execute("sft", config, tmp_path / "sft", quiet=True)
    second = trained("dpo", material | {"policy": str(first / "final")}, tmp_path / "dpo")
    for run in (first, second):
        front, text = card_of(run)
        assert (front["license"], front["license_name"]) == ("other", "do-what-you-like")
        assert front["datasets"] == ["some/corpus"]
        assert (run / "final" / "LICENSE").read_text() == LICENCE
        assert "[LICENSE](LICENSE)" in text
        assert "base_model" not in front, "the hub name of a local folder is not known"
    assert [stage["method"] for stage in front["trueup"]["stages"]] == ["sft", "dpo"]


def test_damaged_cards_of_the_base_are_no_licence(material, tmp_path):
    from trueup.models.lineage import lineage

    folder = tmp_path / "base"
    shutil.copytree(material["policy"], folder)
    for card in (
        "",
        "---\n- a\n---\n",
        "---\nlicense: [a, b]\n---\n",
        "---\n\tx: {{\n---\n",
        "\x00\xff",
        "---\nlicense: mit",
    ):
        (folder / "README.md").write_bytes(card.encode("latin-1"))
        base = lineage(str(folder))
        assert (dict(base.licence), base.hub, base.stages) == ({}, None, [])
    (folder / "README.md").write_bytes("\ufeff---\r\nlicense: mit\r\nbase_model: a/b\r\n---\r\nHello".encode())
    assert dict(lineage(str(folder)).licence) == {"license": "mit"}


def test_a_base_that_is_gone_when_training_ends_costs_only_its_lines(tmp_path):
    from trueup.models.lineage import lineage

    base = lineage(str(tmp_path / "gone"))
    assert (base.name, dict(base.licence), base.hub) == (str(tmp_path / "gone"), {}, None)


def test_names_that_are_markup_stay_text(material, tmp_path):
    odd = tmp_path / "a|b`c <script>x ``` é.jsonl"
    shutil.copy(material["pairs"], odd)
    config = config_of("dpo", material, epochs=1).model_copy(update={"data": str(odd), "validation": None})
    front, text = card_of(execute("dpo", config, tmp_path / "run", quiet=True))
    assert front["trueup"]["stages"][-1]["data"][0]["name"].endswith(odd.name)
    prose = re.sub(r"^(`{3,}).*?^\1$", "", text.split("---\n", 2)[2], flags=re.S | re.M)
    assert "<script>" not in prose.replace("\\<", "")
    tables = [line for line in prose.splitlines() if line.startswith("| data ")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in tables] == [7]


def test_a_run_with_lora_leaves_the_adapter_beside_the_merged_model(material, tmp_path):
    run = trained("dpo", material, tmp_path / "dpo", model__lora={"rank": 2})
    ids_BT = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        merged_BTV = AutoModelForCausalLM.from_pretrained(run / "final")(ids_BT).logits
        adapted_BTV = AutoPeftModelForCausalLM.from_pretrained(run / "adapter")(ids_BT).logits
        base_BTV = AutoModelForCausalLM.from_pretrained(material["policy"])(ids_BT).logits
        opened_BTV = open_policy(Model(name=str(run / "adapter"))).full_logits(ids_BT)
    torch.testing.assert_close(adapted_BTV, merged_BTV, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(opened_BTV, merged_BTV, atol=1e-5, rtol=1e-5)
    assert (merged_BTV - base_BTV).abs().max() > 1e-3
    front = front_matter((run / "adapter" / "README.md").read_text())
    assert front["library_name"] == "peft"
    assert not (trained("dpo", material, tmp_path / "whole") / "adapter").exists()


def test_the_adapter_of_a_reward_model_holds_its_head(material, tmp_path):
    run = trained("reward", material, tmp_path / "reward", model__lora={"rank": 2})
    ids_BT = torch.tensor([[5, 6, 7, 1]])
    with torch.no_grad():
        merged_B = AutoModelForSequenceClassification.from_pretrained(run / "final")(ids_BT).logits
        adapted = AutoPeftModelForSequenceClassification.from_pretrained(run / "adapter", num_labels=1)
        torch.testing.assert_close(adapted(ids_BT).logits, merged_B, atol=1e-5, rtol=1e-5)
    one = open_reward_model(Model(name=str(run / "adapter")), new_head=False)
    two = open_reward_model(Model(name=str(run / "final")), new_head=False)
    assert (one.mean, one.std, one.rendering) == (two.mean, two.std, two.rendering)
    torch.testing.assert_close(one.model(ids_BT).logits, merged_B, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["whole", "lora"])
def test_a_disk_that_fills_up_at_the_card_leaves_no_half_folder(lora, material, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(placement, "model_card", full)
        with pytest.raises(RunError, match="the disk is full"):
            trained("dpo", material, tmp_path / "run", model__lora=lora)
    assert [
        p.name for p in (tmp_path / "run").iterdir() if p.name.endswith("tmp") or p.name in ("final", "adapter")
    ] == []
    run = trained("dpo", material, tmp_path / "run", model__lora=lora)
    assert read_run(run)["status"] == "done"
    assert (run / "final" / "README.md").is_file()


def test_equal_runs_have_equal_cards(material, tmp_path):
    one, two = (trained("dpo", material, tmp_path / name / "run") for name in ("one", "two"))
    assert card_of(one)[1] == card_of(two)[1]


def test_the_interval_of_a_share_is_wilsons_and_widens_where_prompts_repeat():
    from trueup.evaluation.intervals import wilson

    values = [1, 1, 0.5, 1, 0, 1, 1, 0, 1, 1]
    apart = share_interval([1, 1, 1, 1, 0, 1, 1, 0, 1, 1] * 20, [1.0] * 200, range(200))
    assert apart == pytest.approx((wilson(160, 200).low, wilson(160, 200).high), abs=1e-3)
    together = share_interval([1, 1, 1, 1, 0, 1, 1, 0, 1, 1] * 20, [1.0] * 200, [i % 10 for i in range(200)])
    assert together[0] < apart[0] < apart[1] < together[1]
    for all_alike in ([1.0] * 8, [0.0] * 8, [0.5] * 8, values):
        low, high = share_interval(all_alike, [1.0] * len(all_alike), range(len(all_alike)))
        assert 0 <= low < high <= 1


def test_the_interval_of_a_mean_needs_two_prompts_that_differ():
    assert ratio_interval([1.0, 2.0], [1.0, 1.0], "aa") is None
    assert ratio_interval([1.0, 1.0], [1.0, 1.0], "ab") is None
    low, high = ratio_interval([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], "abc")
    assert (low + high) / 2 == pytest.approx(2.0)
    assert high - low == pytest.approx(2 * 1.96 * (1.0 / 3) ** 0.5, rel=1e-3)
