"""Samples of the offline methods: which there are, what they say, and that training is the same with and without."""

import json
import math
import shutil
from pathlib import Path

import pytest

from tests.recipes.test_recipes import WITH_FILES, config_of, digest
from trueup.config import Batch, Model
from trueup.data.render import Renderer
from trueup.ledger import Run, read_lines, read_run
from trueup.models.policy import open_policy
from trueup.recipes import probes, reference
from trueup.recipes.registry import execute
from trueup.types import Message

GENERATIVE = [kind for kind in WITH_FILES if kind != "reward"]


def samples(folder):
    return read_lines(folder / "samples.jsonl")[0] if (folder / "samples.jsonl").exists() else []


def run(kind, material, out, **changes):
    return execute(kind, config_of(kind, material, **changes), out, quiet=True)


@pytest.mark.parametrize("kind", WITH_FILES)
def test_probes_change_no_weight_and_no_metric(kind, material, tmp_path):
    with_probes = digest(run(kind, material, tmp_path / "with"))
    without = digest(run(kind, material, tmp_path / "without", probes=0))
    assert with_probes.pop("samples.jsonl")
    assert "samples.jsonl" not in without
    assert with_probes == without


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_killed_inside_a_probe_no_row_is_lost_or_doubled(kind, material, tmp_path, monkeypatch):
    config = config_of(kind, material)
    straight = digest(execute(kind, config, tmp_path / "straight", quiet=True))
    written = []
    honest = Run.sample

    def dying(self, step, **row):
        honest(self, step, **row)
        written.append(step)
        if len(written) == 14:  # within the second or third probe
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "sample", dying)
    with pytest.raises(KeyboardInterrupt):
        execute(kind, config, tmp_path / "killed", quiet=True)
    monkeypatch.undo()
    assert digest(execute(kind, config, tmp_path / "killed", quiet=True)) == straight


@pytest.mark.parametrize("kind", WITH_FILES)
def test_a_run_is_probed_at_its_start_at_each_quarter_and_at_its_end(kind, material, tmp_path):
    out = run(kind, material, tmp_path / "r")
    total = json.loads((out / "run.json").read_text())["facts"]["steps"]
    quarter = math.ceil(total / 4)
    rows = samples(out)
    assert sorted({row["step"] for row in rows}) == [*range(0, total, quarter), total]
    asked = {step: [row["prompt"] for row in rows if row["step"] == step] for step in (0, total)}
    assert asked[0] == asked[total]
    assert len(set(asked[0])) == 4
    events = [e for e in read_lines(out / "events.jsonl")[0] if e["event"] == "probed"]
    assert [event["step"] for event in events] == [*range(0, total, quarter), total]
    assert all(event["seconds"] > 0 for event in events)


@pytest.mark.parametrize("kind", GENERATIVE)
def test_each_token_of_an_answer_has_its_text_and_its_numbers(kind, material, tmp_path):
    rows = samples(run(kind, material, tmp_path / "r", probes=2, probe_every=3))
    for row in rows:
        tokens = row["tokens"]
        assert len(tokens["text"]) == len(tokens["entropy"]) <= probes.TOKENS
        assert row["completion"] in "".join(tokens["text"])
        assert all(value >= 0 for value in tokens["entropy"])
        assert row["stop"] in ("eos", "length")
        assert ("log_ratio" in row) == (kind != "sft")
    if kind != "sft":
        start, end = ([row for row in rows if row["step"] == step] for step in (0, rows[-1]["step"]))
        assert all(abs(row["log_ratio"]) < 1e-3 for row in start)  # the policy is its reference
        assert any(abs(row["log_ratio"]) > 0.1 for row in end)
        for row in end:
            assert sum(row["tokens"]["log_ratio"]) == pytest.approx(row["log_ratio"], abs=1e-2)


def test_a_reward_model_scores_the_same_answers_apart_as_it_learns(material, tmp_path):
    rows = samples(run("reward", material, tmp_path / "r", probes=3))
    last = rows[-1]["step"]

    def margin(step):
        sides = {label: [r["reward"] for r in rows if (r["step"], r["label"]) == (step, label)] for label in LABELS}
        assert len(sides["chosen"]) == len(sides["rejected"]) == 3
        return sum(sides["chosen"]) - sum(sides["rejected"])

    assert margin(last) > margin(0) + 0.5
    texts = {step: [row["completion"] for row in rows if row["step"] == step] for step in (0, last)}
    assert texts[0] == texts[last]
    assert not any("score" in row for row in rows)  # a score is of a model's own answers


LABELS = ("chosen", "rejected")


def test_rankings_are_probed_with_their_ranks(material, tmp_path):
    file = tmp_path / "ranked.jsonl"
    pairs = read_lines(Path(material["pairs"]))[0]
    rows = [{"prompt": p["prompt"], "responses": [p["rejected"], p["chosen"]], "ranks": [1, 0]} for p in pairs]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = material | {"pairs": str(file)}
    own = samples(run("reward", given, tmp_path / "r", objective__kind="plackett-luce", probes=1))
    assert [row["label"] for row in own[:2]] == ["rank 1", "rank 2"]
    assert own[0]["completion"] == pairs[0]["chosen"]


def test_held_out_prompts_come_first_and_training_ones_stand_in(material, tmp_path):
    held = tmp_path / "held.jsonl"
    row = {"prompt": "What is new here", "completion": " nothing at all"}
    held.write_text(json.dumps(row) + "\n")
    plain = config_of("sft", material, epochs=1)
    config = plain.model_copy(update={"validation": str(held)})
    rows = samples(execute("sft", config, tmp_path / "held", quiet=True))
    assert {row["question"] for row in rows} == {"What is new here"}
    config = plain.model_copy(update={"validation": None})
    rows = samples(execute("sft", config, tmp_path / "own", quiet=True))
    first = read_lines(Path(material["demonstrations"]))[0][0]
    assert rows[0]["question"] == first["prompt"][0]["content"]


def test_a_text_without_a_prompt_is_gone_on_with_from_its_first_words(material, tmp_path):
    file = tmp_path / "texts.jsonl"
    text = "one two  three\nfour five six seven eight nine ten"
    file.write_text("".join(json.dumps({"text": f"{text} {n}"}) + "\n" for n in range(8)))
    config = config_of("sft", material | {"demonstrations": str(file)}, loss_on_prompt=True, epochs=1)
    rows = samples(execute("sft", config, tmp_path / "r", quiet=True))
    assert {row["question"] for row in rows} == {"one two  three\nfour five six seven eight"}


def test_prompts_without_room_are_passed_over_and_none_is_said(material, tmp_path, capsys):
    rows = [{"prompt": "word " * 58, "completion": " a"}, {"prompt": "short", "completion": " b"}] * 4
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = material | {"demonstrations": str(file)}
    own = samples(execute("sft", config_of("sft", given, epochs=1), tmp_path / "r", quiet=True))
    assert {row["question"] for row in own} == {"short"}
    file.write_text(json.dumps(rows[0]) + "\n")
    out = execute("sft", config_of("sft", given, epochs=1), tmp_path / "none", quiet=True)
    assert samples(out) == []
    assert "samples.jsonl stays empty" in capsys.readouterr().err


def test_a_large_reference_is_let_go_and_that_is_noted(material, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "KEPT", 10)
    out = run("dpo", material, tmp_path / "r")
    assert samples(out)
    assert not any("log_ratio" in row for row in samples(out))
    (event,) = (e for e in read_lines(out / "events.jsonl")[0] if e["event"] == "reference_let_go")
    assert event["bytes"] > event["limit"] == 10
    lora = run("dpo", material, tmp_path / "lora", model__lora={"rank": 2})
    assert all("log_ratio" in row for row in samples(lora))  # adapters off: the reference costs nothing


def test_an_answer_fits_a_reference_that_reads_less_than_the_policy(material, tmp_path):
    small = tmp_path / "small"
    shutil.copytree(material["policy"], small)
    context = read_run(run("dpo", material, tmp_path / "plain", epochs=0.3, probes=0))["facts"]["render"]["longest"] + 9
    settings = json.loads((small / "config.json").read_text())
    assert settings["max_position_embeddings"] > context
    (small / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": context}))
    rows = samples(run("dpo", material, tmp_path / "r", epochs=0.3, reference=str(small)))
    renderer = Renderer.of(open_policy(Model(name=material["policy"])).tokenizer, Batch(max_length=64))
    fed = [len(renderer.render_prompt((Message("user", row["question"]),))) for row in rows]
    cut = [
        number + len(row["tokens"]["text"]) for number, row in zip(fed, rows, strict=True) if row["stop"] == "length"
    ]
    assert max(cut) == context
    assert all("log_ratio" in row for row in rows)


def test_token_texts_add_up_to_the_answer_where_characters_have_several_tokens(material):
    renderer = Renderer.of(open_policy(Model(name=material["policy"])).tokenizer, Batch(max_length=64))
    text = " naïve 🙂 “quoted” end"
    rendered = renderer.render("Say it:", text)
    texts = probes.token_texts(renderer, rendered.prompt_ids, rendered.completion_ids)
    assert "".join(texts[:-1]) == text
    assert "" in texts  # a token that is only part of a character
    assert texts[-1] == renderer.encoder.tokenizer.eos_token
