"""Whatever can be known before the first step is said before it, with file and line."""

import json
from pathlib import Path

import pytest

from tests.conftest import tiny_model
from tests.recipes.test_recipes import config_of
from trueup.commands.panel import Panel
from trueup.config import Model, Sampling, build
from trueup.errors import ConfigError, DataError, ModelError
from trueup.ledger import metric_rows, read_run
from trueup.models.policy import open_policy
from trueup.recipes.registry import execute
from trueup.rewards.registry import open_reward


def long_prompts(material, folder, *, of=40, at=31):
    """Prompts of which one is too long for any model here."""
    with open(material["prompts"], encoding="utf-8") as handle:
        short = json.loads(handle.readline())
    rows = [short] * of
    rows[at - 1] = {"prompt": [{"role": "user", "content": "long word " * 200}]}
    file = folder / "one-long.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return material | {"prompts": str(file)}


def test_one_long_prompt_is_dropped_counted_and_said(material, tmp_path, caplog):
    out = execute("ppo", config_of("ppo", long_prompts(material, tmp_path), steps=12), tmp_path / "r", quiet=True)
    assert len(metric_rows(out)) == 12
    fit = read_run(out)["facts"]["fit"]
    assert (fit["prompts"], fit["kept"]) == (40, 39)
    assert [count["lines"] for count in fit["dropped"].values()] == [[31]]
    assert "1 of 40 prompts are not used" in caplog.text
    assert "(line 31)" in caplog.text


def test_more_than_the_share_are_refused_with_the_first_line(material, tmp_path):
    config = config_of("ppo", long_prompts(material, tmp_path, of=13, at=5), steps=12)
    for _ in range(2):  # a second start says the same
        with pytest.raises(DataError, match=r"one-long\.jsonl:5: the prompt has \d+ tokens for the policy"):
            execute("ppo", config, tmp_path / "r", quiet=True)
        assert metric_rows(tmp_path / "r") == []


def test_the_answer_must_fit_too(material, tmp_path):
    config = config_of("ppo", material, sampling__max_new_tokens=60)
    with pytest.raises(DataError, match=r"with 60 of the answer they exceed batch\.max_length, 64; so do 11 others"):
        execute("ppo", config, tmp_path / "r", quiet=True)


def test_evaluate_and_sample_refuse_before_anything_is_drawn(material, tmp_path):
    from trueup.commands.comparison import compare_models

    data, reward = long_prompts(material, tmp_path)["prompts"], open_reward(material["judge"])
    with pytest.raises(DataError, match=r"one-long\.jsonl:31"):
        compare_models(
            [material["policy"]],
            data,
            open_reward(material["judge"]),
            tmp_path / "e",
            sampling=Sampling(max_new_tokens=8),
        )
    assert not (tmp_path / "e").exists()
    panel = Panel([material["policy"]], reward=reward)
    with pytest.raises(DataError, match="its context of 96 positions"):
        panel.check(["short", "long word " * 200], Sampling(max_new_tokens=8))
    with pytest.raises(DataError, match="with 96 of the answer"):
        panel.ask("short", Sampling(max_new_tokens=96), seed=0)


@pytest.fixture
def short_reference(material, tmp_path):
    """A model of the same tokenizer with fewer positions than the sequences are long."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from trueup.models.load import load_tokenizer

    tokenizer = load_tokenizer(material["policy"])
    shape = LlamaConfig.from_pretrained(material["policy"])
    shape.max_position_embeddings = 24
    LlamaForCausalLM(shape).save_pretrained(tmp_path / "short")
    tokenizer.save_pretrained(tmp_path / "short")
    return str(tmp_path / "short")


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_a_reference_with_too_few_positions(kind, material, short_reference, tmp_path):
    config = config_of(kind, material).model_copy(update={"reference": short_reference})
    with pytest.raises(ModelError, match="the reference has 24 positions and the longest sequence"):
        execute(kind, config, tmp_path / "r", quiet=True)


def test_a_reference_with_too_few_positions_for_an_answer(material, short_reference, tmp_path):
    config = config_of("ppo", material, sampling__max_new_tokens=20).model_copy(update={"reference": short_reference})
    with pytest.raises(DataError, match=r"for the reference .* its context of 24 positions"):
        execute("ppo", config, tmp_path / "r", quiet=True)


def test_a_reference_that_nothing_uses(material):
    with pytest.raises(ConfigError, match="the objective simpo uses none"):
        config_of("dpo", material, objective__kind="simpo", reference=material["policy"])


def test_mismatched_rows_of_kto_stay_inside_the_context(material, tmp_path):
    """A long prompt that meets the next row's long completion: together they are longer than any row."""
    rows = []
    for i in range(12):
        long = " ".join("abcdefgh"[i % 8] * 3 for i in range(12))
        prompt, completion = (long, " ok") if i % 2 else ("so", f" {long}")
        rows.append({"prompt": prompt, "completion": completion, "label": bool(i % 2)})
    file = tmp_path / "labelled.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import torch

    from trueup.recipes import kto, reference

    widths = []
    plain = kto.sequence_logps

    def watched(model, sequences, **more):
        widths.extend(len(p) + len(c) for p, c in sequences)
        return plain(model, sequences, **more)

    with pytest.MonkeyPatch.context() as patch:
        for module in (kto, reference):
            patch.setattr(module, "sequence_logps", watched)
        config = config_of("kto", material | {"labelled": str(file)}, epochs=1, batch__size=12, batch__pool=1)
        out = execute("kto", config, tmp_path / "r", quiet=True)
    assert metric_rows(out)
    assert max(widths) <= config.batch.max_length
    assert torch.isfinite(torch.tensor(metric_rows(out)[0]["kl"]))


def test_more_mini_batches_than_rollouts(material, tmp_path):
    with pytest.raises(ConfigError, match=r"mini_batches is 8 and batch\.size 4"):
        config_of("ppo", material, mini_batches=8)
    # Twelve prompts in batches of five leave a batch of two: it is cut into two parts, not into three with nothing.
    out = execute("ppo", config_of("ppo", material, batch__size=5, mini_batches=3, steps=3), tmp_path / "r", quiet=True)
    assert all(row["policy_loss"] == row["policy_loss"] for row in metric_rows(out))


def test_prompts_without_a_token(material, tmp_path):
    from trueup.data.fit import Window, fitting_prompts
    from trueup.data.read_report import Loaded, ReadReport
    from trueup.data.render import Renderer

    tokenizer = open_policy(tiny_model(), texts=["a b c"] * 5, seed=1).tokenizer
    window = Window("the policy p", Renderer(tokenizer, max_length=32), 32, "its context of 32 positions", 8, "shorten")
    loaded = Loaded(("", "hello", ""), ReadReport("p.txt", "prompts"), (3, 5, 9))
    with pytest.raises(DataError, match=r"p\.txt:3: the prompt has no tokens for the policy p; so do 1 others"):
        fitting_prompts(loaded, [window])
    kept, report = fitting_prompts(loaded, [window], max_lost=0.7)
    assert kept == ("hello",)
    assert report.lost == 2


def test_a_prompt_that_the_template_refuses_is_named_and_can_be_skipped(material, tmp_path):
    import shutil

    picky = tmp_path / "picky"
    shutil.copytree(material["policy"], picky)
    refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    file = picky / "chat_template.jinja"
    file.write_text(refuse + file.read_text())
    with open(material["prompts"], encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    rows[6]["prompt"] = [{"role": "system", "content": "Be brief."}, *rows[6]["prompt"]]
    data = tmp_path / "system.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = config_of("ppo", material | {"policy": str(picky), "prompts": str(data)}, steps=1)
    with pytest.raises(DataError, match=r"system\.jsonl:7.*no system turns|no system turns[\s\S]*system\.jsonl:7"):
        execute("ppo", config, tmp_path / "strict", quiet=True)
    lenient = config.model_copy(update={"read": config.read.model_copy(update={"skip_bad_rows": True})})
    out = execute("ppo", lenient, tmp_path / "lenient", quiet=True)
    assert read_run(out)["facts"]["fit"]["kept"] == 11


@pytest.mark.parametrize("kind", ["sft", "reward", "dpo", "kto"])
def test_a_validation_file_of_which_no_row_is_left(kind, material, tmp_path):
    rows = [json.loads(line) for line in Path(config_of(kind, material).validation).read_text().splitlines()]
    long = [{"role": "user", "content": "long word " * 200}]
    file = tmp_path / "held-out.jsonl"
    file.write_text("".join(json.dumps(row | {"prompt": long}) + "\n" for row in rows[:3]))
    config = config_of(kind, material, batch__max_truncated=1.0).model_copy(update={"validation": str(file)})
    with pytest.raises(DataError, match=r"none of [3-6] examples can be used") as caught:
        execute(kind, config, tmp_path / "run", quiet=True)
    assert f"{file}:1" in caught.value.where


def test_a_prompt_with_a_byte_that_is_no_text(material):
    panel = Panel([material["policy"]])
    with pytest.raises(DataError, match=r"a byte that is no text .* at position 2"):
        panel.check(["Hi\udce9"], Sampling(max_new_tokens=4))


@pytest.mark.parametrize("temperature", [1e-300, 9e-4])
def test_a_temperature_at_which_logits_are_no_numbers(temperature):
    with pytest.raises(ConfigError, match=r"0, which is greedy, or at least 0.001"):
        build(Sampling, {"temperature": temperature}, where="command line")
    assert build(Sampling, {"temperature": 0}, where="x").temperature == 0
    assert build(Sampling, {"temperature": 1e-3}, where="x").temperature == 1e-3


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"template_date": "2026-02-30"}, "no such day"),
        ({"template_variables": {"messages": 1}}, "'messages' cannot be set"),
        ({"template_variables": {"a %}{% b": 1}}, "expected names of variables"),
    ],
)
def test_what_no_template_can_be_given(setting, says):
    with pytest.raises(ConfigError, match=says):
        build(Model, {"name": "tiny", **setting}, where="command line")
