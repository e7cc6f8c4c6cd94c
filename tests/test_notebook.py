"""The notebook of the course's activity: it is what its cells' file says, it was run, and its answers are measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import trueup
from notebooks.build import NOTEBOOK, SOURCE, cells

COMMITTED = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
CODE = [cell for cell in COMMITTED["cells"] if cell["cell_type"] == "code"]


def test_the_committed_notebook_is_what_its_file_of_cells_gives():
    written = [(cell["cell_type"], "".join(cell["source"])) for cell in COMMITTED["cells"]]
    assert written == cells(SOURCE.read_text(encoding="utf-8")), "run `make notebook`"
    assert [cell["id"] for cell in COMMITTED["cells"]] == [f"cell-{number:02d}" for number in range(len(written))]


def test_it_was_run_from_top_to_bottom_and_is_small():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert sum("image/svg+xml" in output.get("data", {}) for output in outputs) == 2
    assert "size default" in json.dumps(CODE[2]["outputs"])
    assert NOTEBOOK.stat().st_size < 500_000


def test_cells_are_split_at_their_marks():
    assert cells("# %% [markdown]\n# # Title\n#\n# text\n\n# %%\n# a comment\nx = 1\n") == [
        ("markdown", "# Title\n\ntext"),
        ("code", "# a comment\nx = 1"),
    ]
    with pytest.raises(ValueError, match="does not begin with a cell"):
        cells("x = 1\n# %%\n")


def helpers():
    """The names of the cell that words conclusions."""
    (source,) = ("".join(cell["source"]) for cell in CODE if "def versus" in "".join(cell["source"]))
    names = {"Any": object}
    exec(compile(source, "helpers", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 0.3, "Gold is higher with PPO than with SFT: 0.200 (0.100 to 0.300)."),
        (-0.1, 0.3, "Gold: no difference shown between PPO and SFT: 0.200 (-0.100 to 0.300)."),
        (0.0, 0.3, "Gold: no difference shown between PPO and SFT: 0.200 (0.000 to 0.300)."),
        (-0.3, -0.1, "Gold is lower with PPO than with SFT: 0.200 (-0.300 to -0.100)."),
        (None, None, "Gold: no difference shown between PPO and SFT: 0.200 (no interval)."),
    ],
)
def test_a_conclusion_follows_from_its_interval(low, high, said):
    assert helpers()["versus"]("Gold", "PPO", "SFT", {"estimate": 0.2, "low": low, "high": high}) == said


def test_a_difference_turned_round():
    reverse = helpers()["reverse"]
    assert reverse({"estimate": 0.2, "low": 0.1, "high": 0.4}) == {"estimate": -0.2, "low": -0.4, "high": -0.1}
    assert reverse({"estimate": 0.2, "low": None, "high": 0.4}) == {"estimate": -0.2, "low": -0.4, "high": None}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_cells_run_and_its_answers_have_the_figures_of_the_run(tmp_path):
    script, out = tmp_path / "cells.py", tmp_path / "out"
    script.write_text("\n\n".join("".join(cell["source"]) for cell in CODE), encoding="utf-8")
    environment = os.environ | {"TRUEUP_NOTEBOOK": "smoke", "TRUEUP_NOTEBOOK_OUT": str(out)}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads((out / "answers.json").read_text(encoding="utf-8"))
    assert len(answers) == 6
    better, preferences, behaviour, gamed, whose, improve = answers.values()
    shown = helpers()["interval"]
    judges = {
        judge["label"]: judge["models"]
        for judge in json.loads((out / "evaluation" / "summary.json").read_text())["comparison"]["judges"]
    }
    assert shown(helpers()["reverse"](judges["gold"]["base"]["difference"])) in better
    for name in ("reward", "gold", "length"):
        assert shown(judges[name]["ppo"]["difference"]) in behaviour
    ppo, reward, sft = (trueup.Run(out / name) for name in ("ppo", "reward", "sft"))
    assert f"{ppo.metrics()['kl'][-1]:.2f} nats" in behaviour
    accuracy = reward.evaluations()["heldout_accuracy"][-1]
    assert f"It orders {accuracy:.3f} (" in preferences
    assert f"orders {accuracy:.1%} of held-out pairs right" in improve
    assert all(sentence in gamed for sentence in trueup.hacking(ppo.path).hacking.sentences)
    seconds = sum(sum(run.timing()["seconds"]) for run in (sft, reward, ppo))
    assert f"of {seconds:.0f} s)" in improve
    assert "decide 0." in whose
    assert "runs are in" in done.stdout
    assert "Writing model shards" not in done.stderr
