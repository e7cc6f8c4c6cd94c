"""``trueup score``: files and words of the command line to a reward, rows and tables back."""

import csv
import json

import pytest
from typer.testing import CliRunner

from tests.recipes.conftest import _kernels, material  # noqa: F401
from trueup.commands.app import app
from trueup.errors import TrueupError

BREVITY = "tests.rewards.scorers:Favourite"  # counts the letter e
HAIKU = "Lines of logic flow, / Algorithms come alive, / Bugs fear the debugger."
PROSE = "Coding is fun and interesting. I like to code."


def trueup(*line):
    done = CliRunner().invoke(app, ["score", *map(str, line)])
    if done.exception is not None and isinstance(done.exception, TrueupError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_two_haikus_of_the_seed(material):  # noqa: F811
    line = [material["judge"], "--prompt", "Write a haiku about coding", "--text", HAIKU, "--text", PROSE]
    rows = [json.loads(row) for row in trueup(*line, "--json").splitlines()]
    assert [row["answer"] for row in rows] == [HAIKU, PROSE]
    assert len({row["reward"] for row in rows}) == 2
    shown = trueup(*line).splitlines()
    assert len(shown) == 3
    best = max(rows, key=lambda row: row["reward"])
    assert shown[0].strip().startswith(f"{best['reward']:+.2f}  {best['answer'][:60]}")
    assert "2 answers: mean" in shown[2]


def test_a_command_line_and_python_say_the_same(material):  # noqa: F811
    import trueup as package

    line = [material["judge"], "--prompt", "How?", "--text", "So.", "--json"]
    scorer = package.open_reward(material["judge"])
    assert json.loads(trueup(*line))["reward"] == pytest.approx(scorer.score("How?", "So.")[0])


def test_rows_of_prompt_and_answer_the_highest_and_lowest_and_files(tmp_path):
    answers = [f"{'e' * i}x" for i in range(10)]
    data = written(tmp_path / "d.jsonl", [{"prompt": f"Q{i}", "completion": a} for i, a in enumerate(answers)])
    shown = trueup(BREVITY, "--data", data, "--top", 2, "--out", tmp_path / "o.csv")
    assert shown.splitlines()[0] == "highest"
    assert [line.split() for line in shown.splitlines()[1:3]] == [["+9.00", answers[9]], ["+8.00", answers[8]]]
    assert [line.split() for line in shown.splitlines()[4:6]] == [["+1.00", answers[1]], ["+0.00", answers[0]]]
    with open(tmp_path / "o.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["line"], row["prompt"], row["answer"], float(row["reward"])) for row in rows] == [
        (str(i + 1), f"Q{i}", a, float(i)) for i, a in enumerate(answers)
    ]
    trueup(BREVITY, "--data", data, "--limit", 3, "--out", tmp_path / "deep" / "o.json")
    assert len(json.loads((tmp_path / "deep" / "o.json").read_text())) == 3


def test_columns_of_other_names_and_plain_texts(tmp_path):
    (tmp_path / "d.csv").write_text("question,reply\nWhy?,see\nHow?,no\n")
    columns = ["--column", "prompt=question", "--column", "completion=reply"]
    rows = [json.loads(row) for row in trueup(BREVITY, "--data", tmp_path / "d.csv", *columns, "--json").splitlines()]
    assert [(row["prompt"], row["reward"]) for row in rows] == [("Why?", 2), ("How?", 0)]
    data = written(tmp_path / "t.jsonl", [{"text": "eee"}])
    assert json.loads(trueup(BREVITY, "--data", data, "--json")) == {
        "line": 1, "prompt": "", "answer": "eee", "reward": 3
    }  # fmt: skip


def test_a_file_with_parts_gives_each_part(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"reward:\n  - {{source: '{BREVITY}', weight: 2, name: es}}\n  - {{kind: length, per: 1}}\n"
        "  - {source: 'tests.rewards.scorers:fails_on_e', on_error: drop}\n"
    )
    rows = [json.loads(r) for r in trueup(recipe, "--text", "e e", "--text", "no it", "--json").splitlines()]
    assert rows[0]["reward"] is None
    assert rows[1]["reward"] == -1
    assert rows[1]["parts"]["length"] == {"raw": -2, "weighted": -2}
    shown = trueup(recipe, "--text", "e e", "--text", "no it")
    assert "none  e e" in shown
    assert "1 could not be scored" in shown
    trueup(recipe, "--text", "no it", "--out", tmp_path / "o.csv")
    assert "length weighted" in (tmp_path / "o.csv").read_text()


def test_pairs_say_what_the_reward_leans_on(tmp_path, material):  # noqa: F811
    rows = [
        {"prompt": f"Q{i}?", "chosen": "e" * (i % 5 + 2) + " yes. And so on.", "rejected": "not. Ok"} for i in range(24)
    ]
    data = written(tmp_path / "p.jsonl", rows)
    shown = trueup(BREVITY, "--pairs", data)
    assert "24 pairs: 1.000" in shown
    assert "the first sentence" in shown
    measured = json.loads(trueup(BREVITY, "--pairs", data, "--json"))
    assert measured["canary"]["flipped"] is False
    assert measured["calibration"] is None  # always right: no scale is the best
    own = json.loads(trueup(material["judge"], "--pairs", data, "--json"))
    assert own["calibration"]["known"] is True


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ([BREVITY], "given: none of them"),
        ([BREVITY, "--text", "a", "--data", "d.jsonl"], "given: --data, --text"),
        ([BREVITY, "--text", "a", "--out", "o.xlsx"], "ends in '.xlsx'"),
        (["nothing.yaml", "--text", "a"], "nothing.yaml"),
        (["empty.yaml", "--text", "a"], "there is no reward"),
        ([BREVITY, "--data", "gone.jsonl"], "gone.jsonl"),
        ([BREVITY, "--data", "d.jsonl", "--column", "x"], "--column"),
    ],
)
def test_wrong_use_says_what_is_right(line, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.yaml").write_text("steps: 3\n")
    with pytest.raises(TrueupError) as error:
        trueup(*line)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        ("3", "found 3; expected a list"),
        ("{kind: length}", "expected a list"),
        ("[{kind: length, per: 0}]", "reward.0.per (r.yaml:2)"),
        ("[{kind: lenght}]", "did you mean 'length'"),
        ("[{kind: ensemble, members: []}]", "found []; expected at least 2 of them"),
        ("[]", "an empty list rewards nothing"),
    ],
)
def test_a_mistake_in_a_file_of_parts_is_named_with_file_and_line(reward, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(f"steps: 3\nreward: {reward}\n")
    with pytest.raises(TrueupError) as error:
        trueup("r.yaml", "--text", "a")
    assert says in str(error.value)
    assert "r.yaml:2" in str(error.value)


def test_a_mistake_in_a_part_is_named_with_the_line_of_that_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text("reward:\n  - {kind: repetition}\n  - kind: length\n    per: 0\n")
    with pytest.raises(TrueupError, match=r"reward\.1\.per \(r\.yaml:4\)"):
        trueup("r.yaml", "--text", "a")
