"""The Python side: the page's blocks run, names are typed from outside, and what cannot be used is said."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

import trueup
from tests.golden import rows as golden_rows
from trueup.commands.api.runs import Columns, nested
from trueup.errors import ConfigError, DataError, Interrupted, RunError, ShapeError, UsageError
from trueup.metrics import METRICS

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
PAIRS = list(golden_rows("pairs"))


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Names that the page's blocks leave behind, run one after the other as a notebook would.

    One of them defines a metric; the table is as before when these tests are done, for others read it.
    """
    script = tmp_path_factory.mktemp("page") / "page.py"
    script.write_text("\n".join(BLOCKS), encoding="utf-8")
    names: dict[str, object] = {"__name__": "page"}
    before = dict(METRICS)
    exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), names)
    yield names
    METRICS.clear()
    METRICS.update(before)


@pytest.mark.slow
def test_every_block_of_the_page_runs(session):
    assert session["dpo"].status == "done"
    assert session["dpo"].settings["objective"]["tau"] == 0.2
    assert session["metrics"]["loss"][0] > 0
    assert session["page"].is_file()
    assert [len(answer.ids) <= 12 for answer in session["answers"]] == [True, True]
    assert all(value < 0 for value in session["ppo"].metrics()["reward"])
    assert session["counted"].metrics()["rows"] == [12.0]
    good, bad = session["scorer"].score(
        ["What does the owl like?"] * 2, ["The owl likes warm milk and a nap.", "No idea, go away owl."]
    )
    assert good > bad


def test_a_run_names_the_source_of_what_it_was_given(session):
    inputs = {name: session[name].record["inputs"] for name in ("ppo", "own", "counted")}
    assert inputs["ppo"]["reward"].startswith("python:")
    assert inputs["own"]["objective.call"].startswith("python:")
    assert inputs["counted"]["recipe"].startswith("python:")


def test_a_run_does_not_go_on_with_other_code(session, tmp_path):
    settings = {"data": PAIRS, "model": session["sft"].final, "batch.size": 4, "batch.max_length": 64}
    module = tmp_path / "my_objective.py"

    def write(factor):
        module.write_text(
            f"def loss(policy, reference, strength_B):\n    return {factor} * (policy.rejected_B - policy.chosen_B)\n"
        )
        sys.modules.pop("my_objective", None)

    sys.path.insert(0, str(tmp_path))
    try:
        settings["objective"] = {"kind": "python", "call": "my_objective:loss", "uses_reference": False}
        write(1.0)
        first = trueup.train("dpo", settings, out=tmp_path / "run", quiet=True)
        assert (
            trueup.train("dpo", settings, out=tmp_path / "run", quiet=True).metrics()["loss"] == first.metrics()["loss"]
        )
        write(2.0)
        with pytest.raises(UsageError, match=r"objective\.call"):
            trueup.train("dpo", settings, out=tmp_path / "run", quiet=True)
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
    ("objective", "error", "match"),
    [
        (lambda policy, reference, strength_B: 1 / 0, RunError, "raised ZeroDivisionError"),
        (lambda policy, reference, strength_B: policy.chosen_B.sum(), ShapeError, "one loss for each pair"),
        (lambda policy, reference, strength_B: [1.0], ShapeError, "gave list"),
    ],
)
def test_an_objective_that_fails_stops_the_run(session, tmp_path, objective, error, match):
    settings = {"data": PAIRS, "model": session["sft"].final, "batch.max_length": 64, "objective": objective}
    with pytest.raises(error, match=match):
        trueup.train("dpo", settings, out=tmp_path / "run", quiet=True)


def test_ctrl_c_is_no_failure_of_an_objective(session, tmp_path):
    def stopped(policy, reference, strength_B):
        raise Interrupted("asked to stop")

    with pytest.raises(Interrupted):
        trueup.train(
            "dpo",
            {"data": PAIRS, "model": session["sft"].final, "batch.max_length": 64, "objective": stopped},
            out=tmp_path / "run",
            quiet=True,
        )


class Margin:
    """An objective whose objects are called; made once for a run."""

    made = 0

    def __init__(self):
        Margin.made += 1

    def __call__(self, policy, reference, strength_B):
        return policy.rejected_B - policy.chosen_B


class Longer:
    """A judge whose objects are called."""

    def __call__(self, prompt, answer, other):
        return "a" if len(answer) > len(other) else "b"


def test_classes_stand_where_functions_do(session, tmp_path):
    settings = {"data": PAIRS, "model": session["sft"].final, "batch.max_length": 64, "batch.size": 4}
    Margin.made = 0
    run = trueup.train("dpo", settings | {"objective": Margin}, out=tmp_path / "run", quiet=True)
    assert (len(run.metrics()["loss"]), Margin.made) == (3, 1)
    for judge in (Longer, Longer(), "tests.test_python:Longer"):
        assert trueup.judge(["p"] * 3, ["long"] * 3, ["l"] * 3, judge).win_rate.rate.estimate == 1.0


def test_conversations_are_read_as_in_files(session):
    policy = session["policy"]
    (turns,) = policy.prompts([[{"from": "human", "value": "What does the cat like?"}]])
    assert (turns[0].role, turns[0].content) == ("user", "What does the cat like?")
    for turns, said in (
        ([{"role": "usr", "content": "x"}], "prompt 1: field 'conversation[0].role'"),
        ([{"content": "x"}], "prompt 1: field 'conversation[0]'"),
    ):
        with pytest.raises(DataError) as caught:
            policy.sample([turns])
        assert said in str(caught.value)


def test_rows_that_cannot_be_read_say_where():
    class Broken(list):
        def __iter__(self):
            yield PAIRS[0]
            raise ValueError("no picture library")

    with pytest.raises(DataError, match="rows row 2: cannot be read: no picture library"):
        trueup.read_pairs(Broken(PAIRS))


def test_rows_and_datasets_read_as_files_do(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    from_file = trueup.read_pairs(file)
    for source in (PAIRS, Dataset.from_list(PAIRS), iter(PAIRS)):
        loaded = trueup.read_pairs(source)
        assert [pair.key for pair in loaded.items] == [pair.key for pair in from_file.items]
    with pytest.raises(DataError, match="rows row 2"):
        trueup.read_pairs([PAIRS[0], {"prompt": "p", "chosen": 3, "rejected": "b"}])
    with pytest.raises(DataError, match="rows row 1"):
        trueup.read_pairs([3])
    with pytest.raises(DataError, match="text: there is no such file"):
        trueup.read_pairs(["text"])
    assert trueup.read_pairs([file, str(file)]).items == from_file.items  # the same file is read once
    assert trueup.read_pairs(DatasetDict(train=Dataset.from_list(PAIRS))).items == from_file.items


def test_settings_are_nested_or_dotted():
    assert nested({"model": "m", "model.dtype": "float32", "optim": {"eps": 1}, "optim.betas": (0, 1)}) == {
        "model": {"name": "m", "dtype": "float32"},
        "optim": {"eps": 1, "betas": (0, 1)},
    }
    for twice in ({"optim.eps": 1, "optim": {"eps": 2}}, {"model": "m", "model.name": "n"}):
        with pytest.raises(UsageError, match="given twice"):
            nested(twice)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda tmp: trueup.train("dop", {}, out=tmp), ConfigError, "did you mean 'dpo'"),
        (lambda tmp: trueup.train("no_such:Recipe", {}, out=tmp), ConfigError, "no module no_such"),
        (lambda tmp: trueup.train("json:dumps", {}, out=tmp), ConfigError, "no settings class"),
        (lambda tmp: trueup.train("sft", {"data": [], "model": "tiny"}, out=tmp), DataError, "no rows"),
        (lambda tmp: trueup.train("sft", {"data": [{1}], "model": "tiny"}, out=tmp), DataError, "data row 1"),
        (lambda tmp: trueup.train("sft", {"dta": "x"}, out=tmp), ConfigError, "did you mean 'data'"),
        (lambda tmp: trueup.train("dpo", {"data": "x", "objective": "@gone"}, out=tmp), ConfigError, "objective"),
        (lambda tmp: trueup.Run(tmp / "none"), UsageError, "run"),
        (lambda tmp: trueup.judge(["p"], ["a"], [], "x:y"), ShapeError, "1 prompts"),
        (lambda tmp: trueup.judge(["p"], ["a"], ["b"], lambda p, a, b: "maybe"), UsageError, "maybe"),
        (lambda tmp: trueup.judge(["p"], ["a"], ["b"], "judge"), UsageError, "names no code"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, call, error, match):
    with pytest.raises(error) as caught:
        call(tmp_path)
    assert match in str(caught.value)
    assert not list(tmp_path.rglob("*.json"))


def test_columns_say_which_there_are():
    columns = Columns([{"step": 0, "loss": 1.0}, {"step": 1, "accuracy": 0.5}])
    assert columns["loss"] == [1.0, None]
    assert dict(columns) == {"step": [0, 1], "loss": [1.0, None], "accuracy": [None, 0.5]}
    with pytest.raises(KeyError, match="did you mean 'loss'"):
        columns["los"]


def test_importing_is_cheap_and_every_name_is_there():
    code = (
        "import sys, trueup\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "for name in trueup.__all__: getattr(trueup, name)\n"
        "assert set(trueup.__all__) <= set(dir(trueup))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    stub = (Path(trueup.__file__).parent / "__init__.pyi").read_text()
    assert set(re.findall(r"^from \S+ import \w+ as (\w+)$", stub, re.M)) | {"__version__"} == set(trueup.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        trueup.no_such_name  # noqa: B018


@pytest.mark.slow
def test_the_package_is_typed_for_others(tmp_path):
    outside = tmp_path / "outside.py"
    outside.write_text(
        "import trueup\n"
        "run: trueup.Run = trueup.train('dpo', {'data': [{'prompt': 'p'}]}, out='runs/x')\n"
        "scores: list[float] = trueup.open_reward('m').score('p', ['a'])\n"
        "text: str = trueup.open_policy('m').sample('p')[0].text\n"
        "said: tuple[str, ...] = trueup.compare({'a': run}).sentences + trueup.sweep('s.yaml').sentences\n"
        "rewards: list[float] = trueup.score('m', [{'text': 't'}]).rewards\n"
        "reveal_type(run.metrics()['loss'])\n"
        "wrong: int = trueup.open_policy('m').logps('p', 'a')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--python-version", "3.11", str(outside)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("outside.py")]
    assert [line.split(": ", 1)[1] for line in lines] == [
        'note: Revealed type is "list[Any]"',
        'error: Incompatible types in assignment (expression has type "list[float]", variable has type "int")'
        "  [assignment]",
    ], done.stdout


def test_a_chain_runs_a_recipe_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "own_recipe.py").write_text(
        "from trueup.config import Settings\n"
        "import trueup\n"
        "class Count(Settings):\n"
        "    data: str\n"
        "def train(config, run):\n"
        "    run.log(0, {'tokens': float(len(trueup.read_pairs(config.data)))})\n"
    )
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    chain = tmp_path / "chain.yaml"
    chain.write_text("out: runs\nstages:\n  - kind: own_recipe:Count\n    data: pairs.jsonl\n")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        command = [sys.executable, "-m", "trueup", "run", str(chain)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "count: " in done.stdout
    assert trueup.Run("runs/count").metrics()["tokens"] == [12.0]
    chain.write_text("out: runs\nstages:\n  - kind: nowhere:Count\n    data: pairs.jsonl\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "no module nowhere" in done.stderr) == (2, True)
