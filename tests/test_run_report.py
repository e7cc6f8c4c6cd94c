"""``trueup report RUN``: signs of reward hacking, and which pairs to trace."""

from __future__ import annotations

import json
import subprocess
import sys

from typer.testing import CliRunner

from tests.reports.test_reports import HOSTILE, Page
from tests.test_comparing_runs import trained
from trueup.commands.api.hacking import hacking
from trueup.commands.app import app
from trueup.ledger import Run

MARGINS = {"sure": (0.0, 2.0), "wrong": (0.1, -1.5), HOSTILE: (0.0, -0.5)}


def reported(run):
    """The page, its Markdown and its summary, by the command."""
    result = CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    files = [run / name for name in ("report.html", "report.md", "summary.json")]
    return files[0].read_text(), files[1].read_text(), json.loads(files[2].read_text())


def on_pairs(path):
    config = {"data": "pairs.jsonl"}
    with Run.start(path, kind="dpo", config=config, inputs={"data": "d" * 8}, defaults=config, quiet=True) as run:
        for step in range(2):
            run.log(step, {"loss": 0.5})
            run.time(step, 1.0)
            for name, margins in MARGINS.items():
                run.pair(step, name, margins[step], 0.0)
    return path


def test_an_online_run_has_what_hacking_says_of_it(tmp_path):
    run = trained(tmp_path / "run", beta=0.0)  # its KL goes to 20 nats
    html, markdown, summary = reported(run)
    found = hacking(run)
    assert found.hacking.verdict != "none"
    assert summary["hacking"]["verdict"] == found.hacking.verdict
    text = " ".join(" ".join(Page(html).text).split())
    assert text.index("More below, under reward hacking.") < text.index("What is asked of it")
    assert all(" ".join(sentence.split()) in text for sentence in found.hacking.sentences)
    assert "## Reward hacking" in markdown
    assert (run / "figures" / "hacking.svg").exists()
    assert Page(html).stack == []


def test_a_run_without_signs_says_so_below_and_not_on_top(tmp_path):
    html, _, summary = reported(trained(tmp_path / "run", beta=0.9))
    assert summary["hacking"]["verdict"] == "none"
    assert "No sign that the reward is being gamed." in html
    assert "More below" not in html


def test_one_scored_step_and_damaged_samples_are_said(tmp_path):
    assert "signs show from two on" in reported(trained(tmp_path / "short", steps=1))[0]
    run = trained(tmp_path / "run")
    with (run / "samples.jsonl").open("a") as file:
        file.write('{"step": tr\n')
    html, _, summary = reported(run)
    assert "Not looked for" in html
    assert "hacking" not in summary


def test_a_run_on_pairs_lists_what_the_model_contradicts_most(tmp_path):
    run = on_pairs(tmp_path / "dpo")
    html, markdown, summary = reported(run)
    assert summary["trained_on"] == {
        "pairs": 3,
        "contradicted_most": [
            {"name": name, "steps": 2, "first": MARGINS[name][0], "last": MARGINS[name][1]}
            for name in ("wrong", HOSTILE, "sure")
        ],
    }
    assert "agreed with 1 of the labels" in html
    assert f"trueup trace wrong {run}" in markdown
    assert HOSTILE not in html
    assert HOSTILE not in markdown
    assert "Reward hacking" not in html


def test_labelled_responses_count_by_their_label_and_damaged_lines_are_named(tmp_path):
    with Run.start(tmp_path / "kto", kind="kto", config={}, inputs={}, defaults={}, quiet=True) as run:
        run.log(0, {"loss": 0.5})
        run.time(0, 1.0)
        for key, desirable, reward in (("a", True, 0.5), ("b", False, 0.4), ("c", False, -0.3)):
            run.response(0, key, desirable, reward)
        run.response(0, "d", True, float("nan"))
    with (tmp_path / "kto" / "pairs.jsonl").open("a") as file:
        file.write("not json\n")
    html, _, summary = reported(tmp_path / "kto")
    assert [one["name"] for one in summary["trained_on"]["contradicted_most"]] == ["b", "c", "a"]
    assert "agreed with 2 of the labels" in html
    assert "the line is left out" in html
    assert "1 lines whose margin is no number" in html


def test_a_run_without_a_reward_is_reported_without_torch(tmp_path):
    code = (
        "import sys; from trueup.commands.run_report import write_run_report as w;"
        f"w({str(on_pairs(tmp_path / 'dpo'))!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
