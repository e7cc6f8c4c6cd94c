"""What is recorded beside a run's path of reward over KL: whose it is, and what cannot be read."""

import json
import math

import pytest

from tests.web.explorer.planted import plant
from trueup.commands.live.runs import Runs

NOTHING = {"gold": [], "evaluated": [], "best_of_n": None, "problems": []}


def evaluation(folder, models, **values):
    """An evaluation of the reference, with three answers to each of two prompts, and of other models."""
    folder.mkdir(parents=True)
    rows = []
    for prompt in ("a", "b"):
        for name in models:
            for n in range(3 if name == "sft" else 1):
                row = {"model": name, "prompt_id": prompt, "prompt": prompt, "completion": str(n), "reward": float(n)}
                rows.append(row | {"kl": 0.0 if name == "sft" else 2.0} | values)
    (folder / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "evaluation.json").write_text(json.dumps({"models": models}))
    return folder


def plane(root, name="a"):
    return Runs(root).describe(name)["plane"]


def test_a_run_of_which_nothing_is_recorded_has_nothing(tmp_path):
    plant(tmp_path / "a")
    assert plane(tmp_path) == NOTHING
    plant(tmp_path / "offline", values=lambda step: {"loss": 1.0}, kind="sft")
    assert plane(tmp_path, "offline") is None


def test_an_evaluation_gives_a_point_and_the_best_of_n_of_the_reference(tmp_path):
    plant(tmp_path / "a")
    evaluation(tmp_path / "eval", {"sft": "elsewhere/sft/final", "mine": str(tmp_path / "a" / "final")}, gold=0.5)
    (tmp_path / "a" / "final").mkdir()
    told = plane(tmp_path)
    assert told["evaluated"] == [{"source": "eval", "kl": 2.0, "reward": 0.0, "gold": 0.5}]
    points = told["best_of_n"]["points"]
    assert [one["n"] for one in points] == [1, 2, 3]
    assert [one["kl"] for one in points] == pytest.approx([math.log(n) - (n - 1) / n for n in (1, 2, 3)])
    assert [one["reward"] for one in points] == pytest.approx([1, 5 / 3, 2])
    assert [one["gold"] for one in points] == pytest.approx([0.5] * 3)
    assert Runs(tmp_path / "a").describe("a")["plane"]["evaluated"] == told["evaluated"]


@pytest.mark.parametrize("path", ["runs/b/final", "a/b", "runs/ba/final", "{there}"])
def test_an_evaluation_of_another_run_is_not_its_own(path, tmp_path):
    plant(tmp_path / "a")
    (tmp_path / "there" / "a").mkdir(parents=True)  # a model of the same name that is another one
    evaluation(tmp_path / "eval", {"sft": "s", "a": path.format(there=tmp_path / "there" / "a")})
    assert plane(tmp_path) == NOTHING


def test_an_evaluation_from_another_computer_belongs_by_the_last_folders(tmp_path):
    plant(tmp_path / "ppo" / "seed-1")
    plant(tmp_path / "ppo" / "seed-2")
    evaluation(tmp_path / "eval", {"sft": "s", "x": "/there/runs/ppo/seed-1/final"})
    assert len(plane(tmp_path, "ppo/seed-1")["evaluated"]) == 1
    assert plane(tmp_path, "ppo/seed-2") == NOTHING


def test_the_newest_reading_counts_and_a_damaged_one_is_told(tmp_path):
    plant(tmp_path / "a")
    folder = evaluation(tmp_path / "eval", {"sft": "s", "a": "x/a"})
    runs = Runs(tmp_path)
    assert runs.describe("a")["plane"]["evaluated"][0]["reward"] == 0.0
    text = (folder / "eval.jsonl").read_text()
    (folder / "eval.jsonl").write_text(text.replace('"reward": 0.0', '"reward": 0.25'))
    assert runs.describe("a")["plane"]["evaluated"][0]["reward"] == 0.25
    (folder / "eval.jsonl").write_text("{")
    told = runs.describe("a")["plane"]
    assert told["evaluated"] == []
    assert told["problems"][0].startswith("eval cannot be read: ")


def test_a_page_of_the_frontier_gives_gold_along_training(tmp_path):
    plant(tmp_path / "a")
    for name, summary in (
        ("other", {"points": "none"}),
        ("list", []),
        ("odd", {"points": [{"name": "a", "step": 0, "kl": "nan", "gold": [0.5]}]}),
        (
            "frontier",
            {
                "points": [
                    {"name": "a", "step": 0, "kl": 0.5, "gold": [0.4, 0.3, 0.5], "proxy": [1, 1, 1]},
                    {"name": "a", "step": None, "kl": 1.0, "gold": [0.6, 0.6, 0.6], "proxy": [1, 1, 1]},
                    {"name": "b", "step": 0, "kl": 9.0, "gold": [0.9, 0.9, 0.9], "proxy": [1, 1, 1]},
                ],
                "best_of_n": [{"n": 2, "kl": 0.19, "proxy": {"estimate": 3.0}, "gold": None}],
            },
        ),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    told = plane(tmp_path)
    assert told["gold"] == [{"step": 0, "kl": 0.5, "gold": 0.4}]
    best = {"source": "frontier", "points": [{"n": 2, "kl": 0.19, "reward": 3.0, "gold": None}]}
    assert told["best_of_n"] == best
    assert told["problems"] == []
