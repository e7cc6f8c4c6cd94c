"""What compares and watches runs says what is damaged in them, and makes no number of it."""

from __future__ import annotations

import json
import shlex
import shutil
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.evaluation.test_evaluation import rows as evaluated
from tests.test_comparing_runs import GOLD, trained
from trueup.commands.api.hacking import hacking
from trueup.commands.app import app
from trueup.commands.comparison import _command
from trueup.commands.constitution_label import _same_work, review_lines
from trueup.commands.constitution_parts import piece
from trueup.commands.frontier_data import gather
from trueup.commands.hacking import _show
from trueup.commands.judges import parse_judges
from trueup.commands.measurements import compare_results, gold_of, read_results
from trueup.commands.run_groups import group_runs
from trueup.errors import DataError, RunError, TrueupError, UsageError, nearest
from trueup.evaluation.rows import write_rows
from trueup.evaluation.tradeoff import Point, front
from trueup.reports.logs import read_log


def change_rows(run, name, change):
    """Rewrite a log: ``change`` gets each row and gives a row or a text."""
    file = run / f"{name}.jsonl"
    rows = [change(json.loads(line)) for line in file.read_text().splitlines()]
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path):
    return trained(tmp_path / "run")


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


GAPS = [float("nan"), float("inf"), float("-inf"), "nan", "inf", "-inf"]
DAMAGED = ["[1, 2]", '{"step": "two", "kl": 1}', '{"step": 7, "kl": tr', "\x00\x01"]


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("name", ["kl", "score"])
def test_a_step_that_is_no_number_is_no_point_and_is_counted(run, gap, name):
    change_rows(run, "metrics", lambda row: {**row, name: gap} if row["step"] in (5, 6) else row)
    drawn = gather([str(run)], None, (), GOLD)
    assert len(drawn.paths[0].steps) == (5 if name == "kl" else 6)  # the probes of step 4 have the KL of step 5
    assert any("at 2 steps the KL or the score is no number" in note for note in drawn.notes)
    (run / "samples.jsonl").unlink()
    drawn = gather([str(run)], None, (), None)
    assert drawn.paths[0].kl_SK.shape == (1, 12)
    assert drawn.paths[0].steps[-1] == 23
    assert any("At 2 of 24 steps" in note for note in hacking(run).notes)


@pytest.mark.parametrize("kept", [0, 1])
def test_hacking_of_a_run_whose_kl_is_hardly_ever_a_number(run, kept):
    change_rows(run, "metrics", lambda row: row if row["step"] < kept else {**row, "kl": float("nan")})
    (run / "samples.jsonl").unlink()
    told = hacking(run)
    assert told.hacking.kl is None
    assert ("One step has a KL: whether it grew cannot be said." in told.notes) == (kept == 1)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null", '"good"'])
def test_a_rating_that_is_no_number_names_its_line(run, tmp_path, value):
    ratings = tmp_path / "ratings.jsonl"
    ratings.write_text(f'{{"step": 0, "quality": 1}}\n{{"step": 4, "quality": {value}}}\n')
    with pytest.raises(DataError, match=r"ratings\.jsonl:2"):
        hacking(run, quality=ratings)


def test_bare_gaps_are_those_that_runs_write(run):
    change_rows(run, "metrics", lambda row: {**row, "grad_norm": float("nan")})
    log = read_log(run)
    assert {row["grad_norm"] for row in log.metrics} == {"nan"}
    assert len(log.metrics) == 24


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_named_by_all_that_read_the_run(run, tmp_path, line):
    change_rows(run, "metrics", lambda row: line if row["step"] == 7 else row)
    assert "metrics.jsonl" in invoke("compare", run).stderr
    assert "warning: 1 damaged lines are left out" in invoke("watch", "--once", run).stderr
    assert any("metrics.jsonl" in note for note in gather([str(run)], None, (), None).notes)


def test_a_run_without_its_clock_has_no_time(run, tmp_path):
    whole = trained(tmp_path / "whole", beta=0.4, quality=0.5)
    (run / "timing.jsonl").unlink()
    shown = invoke("compare", run, whole).stdout
    rows = [line for line in shown.splitlines() if line.startswith(("run  ", "whole  ")) and "seeds" not in line]
    assert ["0:48" in row for row in rows] == [False, True] * 2
    assert "0:00" not in shown
    data = json.loads(invoke("compare", run, whole, "--json").stdout)
    assert [each["seconds"] for each in data["runs"]] == [None, 48]


def test_one_line_of_the_clock_that_is_lost_makes_the_time_unknown(run):
    change_rows(run, "timing", lambda row: "torn" if row["step"] == 3 else row)
    assert read_results("a", "0", {"ppo": run}, kinds={"ppo": "ppo"}, settings={}).seconds is None


@pytest.mark.parametrize("lose", [shutil.rmtree, lambda folder: (folder / "run.json").unlink()])
def test_a_lost_stage_is_not_replaced_by_the_one_before_it(tmp_path, lose):
    folders = {"sft": trained(tmp_path / "sft", "sft"), "ppo": trained(tmp_path / "ppo")}
    lose(folders["ppo"])
    lost = read_results("a", "0", folders, kinds={"sft": "sft", "ppo": "ppo"}, settings={})
    assert "ppo is gone" in lost.error
    assert not lost.values
    assert compare_results([lost], "a") is None


def test_nothing_to_draw_says_why(run):
    change_rows(run, "metrics", lambda row: "{")
    (run / "samples.jsonl").unlink()
    with pytest.raises(UsageError, match=r"nothing has KL and reward; .*metrics\.jsonl"):
        gather([str(run)], None, (), None)


def test_a_run_whose_only_probes_are_after_its_last_step_has_no_path(tmp_path):
    short = trained(tmp_path / "short", steps=1)
    with pytest.raises(UsageError, match="no step has a point of every seed"):
        gather([str(short)], None, (), None)


def raises(question, answer):
    raise KeyError("worth")


def gives_a_list(question, answer):
    return [1.0]


def gives_none(question, answer):
    return None


@pytest.mark.parametrize("name", ["raises", "gives_a_list", "gives_none"])
def test_gold_that_raises_names_prompt_and_answer(name):
    with pytest.raises(RunError, match=r"prompt 'What\?', answer 'So\.'"):
        gold_of(f"tests.test_damaged_runs:{name}")("What?", "So.")


def test_each_example_of_hacking_has_its_answer(run, capsys):
    told = hacking(run)
    assert len(told.examples) == 3
    _show(told)
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("    ")] == [
        example["completion"].split()[0] for example in told.examples
    ]


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0#"), min_size=1).filter(lambda t: t.strip() == t)


@given(WORDS, WORDS, st.integers(1, 500))
def test_the_command_of_an_evaluation_is_read_back_by_a_shell(path, data, limit):
    judge = SimpleNamespace(text="gold")
    line = _command({"a b": path}, [judge], None, {"data": data, "reference": None, "limit": limit})
    words = shlex.split(line)
    assert words == ["trueup", "evaluate", f"a b={path}", "--judge", "gold", "--data", data, "--limit", str(limit)]


def test_the_name_of_a_judge_stays_in_the_command():
    judges = parse_judges(["mine=reward:a b"])
    assert shlex.split(_command({"m": "p"}, judges, None, {}))[-2:] == ["--judge", judges[0].text]


def test_labels_of_another_judge_bind_only_where_there_are_labels(tmp_path):
    _same_work(tmp_path, {"judge": "one"})
    _same_work(tmp_path, {"judge": "two"})  # the first judge could not be reached
    piece(tmp_path / "parts" / "labels-0000.jsonl", lambda: [{"p": 1}])
    _same_work(tmp_path, {"judge": "two"})
    with pytest.raises(UsageError, match="differ in judge"):
        _same_work(tmp_path, {"judge": "one"})
    (tmp_path / "made-of.json").write_text('{"judge": ')
    with pytest.raises(RunError, match="damaged"):
        _same_work(tmp_path, {"judge": "two"})


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_piece_that_lost_its_end_is_not_read_as_a_shorter_one(tmp_path, cut):
    file = tmp_path / "audit.jsonl"
    rows = [{"n": n, "text": "some words"} for n in range(3)]
    assert piece(file, lambda: rows) == rows
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(RunError, match="cut off"):
        piece(file, lambda: rows)


@pytest.mark.parametrize("row", [{"prompt": "a", "chosen": "b"}, {"state": "revised"}, {}])
def test_a_review_of_another_file_names_what_it_lacks(tmp_path, row):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: has no .*original"):
        list(review_lines(file, tmp_path / "f.db", "p", constitution=None, overlap=1, limit=None))
    assert not (tmp_path / "f.db").exists()


def test_no_known_name_is_said_as_none():
    assert nearest("x", []) == "known: none"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pairs", "p.jsonl", "--out", "o.csv"], "no rows to write"),
        (["--data", "d.jsonl", "--out", "o.txt"], "ends in '.txt'"),
        (["--data", "d.jsonl", "--out", "folder.csv"], "is a folder"),
        (["--data", "d.jsonl", "--prompt", "Q"], "no answer to it"),
        (["--pairs", "p.jsonl", "--prompt", "Q"], "no answer to it"),
    ],
)
def test_score_refuses_what_it_could_not_do_before_it_opens_the_reward(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TrueupError, match=message):
        invoke("score", "there/is/no/reward", *words)


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"nan"', "true", "[1]"])
def test_a_probe_whose_score_is_no_number_is_named(run, value):
    change_rows(run, "samples", lambda row: row if row["prompt"] != "q2" else json.dumps({**row, "score": "@"}))
    file = run / "samples.jsonl"
    file.write_text(file.read_text().replace('"@"', value))
    for look in (hacking, lambda path: gather([str(path)], None, (), None), lambda path: invoke("compare", path)):
        with pytest.raises(RunError, match=r"samples\.jsonl:3: score is"):
            look(run)


def test_an_evaluation_of_none_of_the_runs_is_refused(run, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    write_rows(evaluated("stranger", [0.1, 0.2]), folder / "eval.jsonl")
    with pytest.raises(UsageError, match="measured none of these runs"):
        group_runs([str(run)], evaluations=[folder])
    with pytest.raises(UsageError, match="no runs that it measured"):
        gather([], tmp_path / "sweep", [folder], None)


@given(st.floats(-0.01, 0), st.floats(-1, 1))
def test_a_kl_below_zero_beats_no_reference(kl, quality):
    points = [Point("reference", 0.0, (quality,) * 3, None), Point("twin", kl, (quality,) * 3, None)]
    assert {point.name for point in front(points)} == {"reference", "twin"}
