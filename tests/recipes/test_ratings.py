"""Ratings: one output for each column of numbers, on one trunk, and each of them a reward by its name."""

import csv
import json
import math
import statistics

import pytest
import torch

from tests.golden import ANIMALS
from tests.recipes.test_processes import launch
from tests.recipes.test_recipes import config_of, digest
from trueup.commands.pipeline import _resolve, references
from trueup.data.rated_formats import read_rated
from trueup.errors import ConfigError, DataError, ModelError
from trueup.ledger import metric_rows, read_lines, read_run
from trueup.recipes.registry import execute, resolve
from trueup.reports.criteria import criteria
from trueup.reports.logs import read_log
from trueup.rewards.registry import identify, open_reward
from trueup.types import Completion, StopReason

COLUMNS = ("warmth", "length")
ANSWERS = ["The {} likes warm milk and a nap.", "The {} likes milk.", "Milk.", "No idea, go away {}."]
WARMTH = [4.0, 3.0, 2.0, 0.0]


def rows(change=lambda number, row: None):
    """Four answers for each animal; ``change`` may alter a row."""
    made = []
    for animal in ANIMALS:
        for answer, warmth in zip(ANSWERS, WARMTH, strict=True):
            text = answer.format(animal)
            row = {"prompt": f"What of the {animal}?", "response": text, "warmth": warmth, "length": len(text) * 10}
            change(len(made), row)
            made.append(row)
    return made


def written(path, made):
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)


def config(material, data, validation=None, columns=COLUMNS, **changes):
    made = config_of("reward", material, objective__kind="ratings", objective__columns=columns, **changes)
    return made.model_copy(update={"data": data, "validation": validation})


def trained(material, data, out, validation=None, columns=COLUMNS, **changes):
    return execute("reward", config(material, data, validation, columns, **changes), out, quiet=True)


def texts(*answers):
    return [Completion(answer, (), StopReason.EOS) for answer in answers]


@pytest.fixture(scope="module")
def run(material, tmp_path_factory):
    """A run in which every fifth warmth is missing."""
    folder = tmp_path_factory.mktemp("ratings")
    data = written(folder / "r.jsonl", rows(lambda n, row: row.update(warmth=None) if n % 5 == 0 else None))
    return trained(material, data, folder / "run", data, epochs=10, batch__size=8)


def test_both_columns_are_learned_in_their_own_units(run):
    last = metric_rows(run)[-1]
    assert last["heldout_loss"] < 0.5 < metric_rows(run)[0]["loss"]
    for name in COLUMNS:
        assert last[f"heldout/{name}/rmse"] < 0.7 * last[f"heldout/{name}/mean_rmse"]
        assert last[f"heldout/{name}/r2"] > 0.5
        assert last[f"heldout/{name}/pearson"] > 0.7
    (measured,) = read_lines(run / "eval.jsonl")[0][-1:]
    low, high = measured["intervals"]["heldout/length/r2"]
    assert low < last["heldout/length/r2"] < high
    assert measured["heldout/warmth/ratings"] < measured["heldout/length/ratings"] == 4 * len(ANIMALS)


def test_a_missing_rating_is_counted_and_plays_no_part(run):
    record = read_run(run)
    gaps = record["facts"]["read"]["doubts"]
    count = len(range(0, 4 * len(ANIMALS), 5))
    assert [n["count"] for why, n in gaps.items() if "warmth" in why] == [count]
    there = [WARMTH[n % 4] for n in range(4 * len(ANIMALS)) if n % 5]
    head = record["facts"]["heads"][0]
    assert head["mean"] == pytest.approx(statistics.fmean(there))
    assert head["std"] == pytest.approx(statistics.pstdev(there))


def test_the_loss_of_the_first_step_is_the_mean_over_the_ratings_that_are_there(material, tmp_path):
    made = rows(lambda n, row: row.pop("warmth") if n % 3 == 0 else None)
    made[1]["weight"] = 3.0
    data = written(tmp_path / "r.jsonl", made)
    out = trained(material, data, tmp_path / "run", data, epochs=1, batch__size=len(made), probes=len(made))
    probes = [row for row in read_lines(out / "samples.jsonl")[0] if row["step"] == 0]
    asked = {(row["prompt"], row["completion"]): row["ratings"] for row in probes}
    heads, total, count = read_run(out)["facts"]["heads"], 0.0, 0.0
    for row in made:
        for head in heads:
            if row.get(head["name"]) is not None:
                weight = row.get("weight", 1.0)
                gap = (asked[row["prompt"], row["response"]][head["name"]] - row[head["name"]]) / head["std"]
                total, count = total + weight * gap**2, count + weight
    assert metric_rows(out)[0]["loss"] == pytest.approx(total / count, rel=1e-3)


def test_hugging_face_opens_it_with_the_columns_as_labels(run):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(run / "final").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "final")
    assert model.config.id2label == {0: "warmth", 1: "length"}
    assert model.config.problem_type == "regression"
    prompt, answer = f"What of the {ANIMALS[0]}?", "Milk."
    ids = [*tokenizer(prompt + answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    for number, head in enumerate(read_run(run)["facts"]["heads"]):
        score = open_reward(f"{run}/final#label={head['name']}").score([prompt], texts(answer))
        assert float(score[0]) == pytest.approx(head["mean"] + head["std"] * float(logits[number]), rel=1e-4, abs=1e-4)


def test_the_card_and_the_report_say_how_well_each_column_is_rated(run):
    card = (run / "final" / "README.md").read_text()
    assert "trained on ratings (`warmth`, `length`)" in card
    assert 'trueup.open_reward(name + "#label=warmth").score(...)' in card
    assert "| heldout/length/r2 |" in card
    found = {c.name: c for c in criteria(read_log(run), [])}
    assert found["length is rated better than by its mean"].outcome == "met"
    assert "beside" in found["length is rated better than by its mean"].words
    assert len(found) == 2


def test_a_stage_is_named_with_its_output():
    staged = {"reward": [{"source": "@rm#label=warmth"}, {"source": "@other/final"}, {"source": "runs/a#label=b"}]}
    assert references(staged) == {"rm", "other"}
    one = _resolve(staged, lambda name: f"runs/{name}")
    assert [part["source"] for part in one["reward"]] == ["runs/rm#label=warmth", "runs/other/final", "runs/a#label=b"]


def test_a_label_names_the_reward_and_without_one_the_labels_are_named(run):
    with pytest.raises(ModelError, match=r"warmth, length[\s\S]*final#label=warmth"):
        open_reward(f"{run}/final")
    with pytest.raises(ConfigError, match="did you mean 'warmth'"):
        open_reward(f"{run}/final#label=warmht")
    with pytest.raises(ConfigError, match="text"):
        open_reward(f"{run}/final#text=answer")
    one, two = (open_reward(f"{run}/final#label={name}") for name in COLUMNS)
    assert one.fingerprint == identify(f"{run}/final#label=warmth") != two.fingerprint
    prompts = [f"What of the {ANIMALS[0]}?"] * 2
    answers = texts(ANSWERS[0].format(ANIMALS[0]), ANSWERS[3].format(ANIMALS[0]))
    warm, cold = one.score(prompts, answers).tolist()
    assert warm > cold + 1
    parts = [{"source": f"{run}/final#label={name}", "weight": w} for name, w in zip(COLUMNS, (0.7, 0.01), strict=True)]
    both = 0.7 * one.score(prompts, answers) + 0.01 * two.score(prompts, answers)
    assert torch.allclose(open_reward(parts).score(prompts, answers), both, atol=1e-4)


def test_a_reward_model_with_one_output_has_no_labels(material):
    with pytest.raises(ConfigError, match="one output"):
        open_reward(f"{material['judge']}#label=warmth")


def test_one_column_needs_no_label_and_its_probe_is_a_reward(material, tmp_path):
    data = written(tmp_path / "r.jsonl", rows())
    out = trained(material, data, tmp_path / "run", columns=("length",), epochs=1, batch__size=24, probes=2)
    score = open_reward(str(out / "final")).score([f"What of the {ANIMALS[0]}?"], texts(ANSWERS[0].format(ANIMALS[0])))
    last = read_lines(out / "samples.jsonl")[0][-2]
    assert last["label"] == f"length {rows()[0]['length']}"
    assert last["reward"] == last["ratings"]["length"] == pytest.approx(float(score[0]), abs=1e-2)


def test_a_policy_is_trained_against_one_of_the_outputs(run, material, tmp_path):
    given = material | {"judge": f"{run}/final#label=warmth"}
    out = execute("rloo", config_of("rloo", given, steps=1), tmp_path / "rloo", quiet=True)
    assert math.isfinite(metric_rows(out)[-1]["score"])


def test_adapters_learn_and_open_with_every_output(material, tmp_path):
    data = written(tmp_path / "r.jsonl", rows())
    out = trained(material, data, tmp_path / "run", epochs=1, batch__size=24, model__lora={"rank": 2})
    asked = [f"What of the {ANIMALS[0]}?"], texts("Milk.")
    for name in COLUMNS:
        whole, adapter = (open_reward(f"{out}/{folder}#label={name}").score(*asked) for folder in ("final", "adapter"))
        assert torch.allclose(whole, adapter, rtol=1e-3, atol=1e-3)


def test_a_reward_model_can_be_the_start(material, tmp_path):
    data = written(tmp_path / "r.jsonl", rows())
    given = config(material, data, epochs=1, batch__size=24)
    given = given.model_copy(update={"model": given.model.model_copy(update={"name": material["judge"]})})
    out = execute("reward", given, tmp_path / "run", quiet=True)
    assert len(read_run(out)["facts"]["heads"]) == 2


def test_killed_and_resumed_gives_the_same_bytes(material, tmp_path, monkeypatch):
    from trueup.ledger import Run

    data = written(tmp_path / "r.jsonl", rows())
    given = config(material, data, data, epochs=1, batch__size=8, save_every=2, evaluate_every=3)
    whole = execute("reward", given, tmp_path / "whole", quiet=True)
    log = Run.log

    def dying(self, step, *groups, **more):
        if step == 3:
            raise KeyboardInterrupt
        log(self, step, *groups, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", dying)
        with pytest.raises(KeyboardInterrupt):
            execute("reward", given, tmp_path / "cut", quiet=True)
    again = execute("reward", given, tmp_path / "cut", quiet=True)
    for name in ("metrics.jsonl", "eval.jsonl", "samples.jsonl"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    assert digest(again) == digest(whole)


def test_two_processes_do_what_one_does(material, tmp_path):
    data = written(tmp_path / "r.jsonl", rows(lambda n, row: row.update(warmth=None) if n % 5 == 0 else None))
    given = config(material, data, data, epochs=1, batch__size=8)
    one = metric_rows(execute("reward", given, tmp_path / "one", quiet=True))
    launch(tmp_path / "job", [("reward", given, tmp_path / "two")])
    two = metric_rows(tmp_path / "two")
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert set(a) == set(b)
        for name in set(a) - {"ids"}:
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-4), name


# Data that cannot be used -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda row: row.update(warmth="lovely"), r"r\.jsonl:6[\s\S]*'warmth'[\s\S]*'lovely'[\s\S]*finite number"),
        (lambda row: row.update(warmth=float("nan")), r"r\.jsonl:6[\s\S]*NaN[\s\S]*null"),
        (lambda row: row.update(warmth=float("inf")), r"r\.jsonl:6[\s\S]*inf"),
        (lambda row: row.update(warmth=True), r"r\.jsonl:6[\s\S]*True"),
        (lambda row: row.update(warmth=[3]), r"r\.jsonl:6[\s\S]*\[3\]"),
    ],
)
def test_what_is_no_number_is_refused_by_its_line(change, what, tmp_path):
    data = written(tmp_path / "r.jsonl", rows(lambda n, row: change(row) if n == 5 else None))
    with pytest.raises(DataError, match=what):
        read_rated(data, COLUMNS)
    loaded = read_rated(data, COLUMNS, on_bad="skip")
    assert len(loaded) == 4 * len(ANIMALS) - 1
    assert loaded.report.skipped["warmth is not a number"].count == 1


def test_a_column_that_no_row_has_is_refused_with_the_nearest(tmp_path):
    data = written(tmp_path / "r.jsonl", rows())
    with pytest.raises(DataError, match=r"no column 'warmht'[\s\S]*did you mean 'warmth'"):
        read_rated(data, ("length", "warmht"))
    assert read_rated(data, ("warmht",), columns={"warmht": "warmth"}).items[0].ratings == (4.0,)


def test_rows_without_any_rating_are_left_out_and_counted(tmp_path):
    def change(number, row):
        if number < 3:
            row.update(warmth=None, length=None)

    loaded = read_rated(written(tmp_path / "r.jsonl", rows(change)), COLUMNS)
    assert loaded.report.left_out["a response without any of the ratings"].count == 3
    with pytest.raises(DataError, match="none of its 48 rows gives rated responses"):
        read_rated(written(tmp_path / "n.jsonl", rows(lambda _, row: row.update(warmth=None))), ("warmth",))


def test_constant_and_missing_columns_are_refused_before_the_first_step(material, tmp_path):
    same = written(tmp_path / "same.jsonl", rows(lambda _, row: row.update(warmth=3)))
    with pytest.raises(DataError, match=r"all 48 ratings in 'warmth' are 3[\s\S]*leave 'warmth' out"):
        trained(material, same, tmp_path / "same")
    none = written(tmp_path / "none.jsonl", rows(lambda _, row: row.update(warmth=None)))
    with pytest.raises(DataError, match="no response has a rating in 'warmth'"):
        trained(material, none, tmp_path / "none")


def test_an_output_without_held_out_ratings_is_said_and_not_measured(material, tmp_path, capsys):
    data = written(tmp_path / "r.jsonl", rows())
    held = written(tmp_path / "h.jsonl", rows(lambda _, row: row.update(warmth=None, length=40)))
    out = trained(material, data, tmp_path / "run", held, epochs=1, batch__size=24)
    assert "nothing is measured of that output" in capsys.readouterr().err
    last = metric_rows(out)[-1]
    assert "heldout/warmth/rmse" not in last
    assert "heldout/length/rmse" in last


def test_a_table_with_empty_cells_has_gaps(tmp_path):
    made = rows(lambda n, row: row.update(warmth="") if n == 2 else None)
    with (tmp_path / "r.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["prompt", "response", "warmth", "length"])
        table.writeheader()
        table.writerows(made)
    loaded = read_rated(tmp_path / "r.csv", COLUMNS)
    assert [item.ratings[0] for item in loaded.items[:4]] == [4.0, 3.0, None, 0.0]


@pytest.mark.parametrize(
    ("sets", "what"),
    [
        (["objective.columns=[]"], "columns"),
        (["objective.columns=[a, a]"], "2 times"),
        (["objective.columns=['a,b']"], "cannot be the name"),
        (["objective.columns=['a/b']"], "cannot be the name"),
        (["objective.columns=[a]", "margin=1"], "ratings have none"),
        (["objective.columns=[a]", "centre=0.5"], "ratings say themselves"),
    ],
)
def test_settings_that_make_no_sense_are_refused(sets, what):
    flags = {"data": "r.jsonl", "model.name": "m"}
    with pytest.raises(ConfigError, match=what):
        resolve("reward", None, flags, ["objective.kind=ratings", *sets])
