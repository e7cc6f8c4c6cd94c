"""A reward that is Python code: what it may give, what stops a run, and what makes it the same reward."""

import importlib
import json
import math
import sys

import numpy as np
import pytest
import torch

from tests.recipes.conftest import _kernels, material  # noqa: F401
from tests.recipes.test_recipes import config_of
from trueup.commands.comparison import compare_models
from trueup.commands.panel import Panel
from trueup.config import Sampling
from trueup.engine import processes
from trueup.errors import ConfigError, DataError, ModelError, NonFiniteError, RunError, ShapeError, UsageError
from trueup.ledger import metric_rows, read_lines, read_run
from trueup.recipes.registry import execute
from trueup.rewards import registry
from trueup.rewards.protocol import Reader, cut_by, prompt_for, windows_of
from trueup.rewards.python import PythonReward
from trueup.rewards.registry import identify, open_reward
from trueup.types import Completion, Message, StopReason

PROMPTS = ["Why?", (Message("user", "How?"),)]
ANSWERS = [Completion("Because it SHINES.", (1, 2, 3), StopReason.EOS), Completion("Slowl", (4, 5), StopReason.LENGTH)]
SCORERS = "tests.rewards.scorers"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that can be imported; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(text, name="my_rewards"):
        file = tmp_path / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def scored(function):
    return PythonReward(function, "my:reward", "f").score(PROMPTS, ANSWERS)


@pytest.mark.parametrize(
    "values",
    [
        [1, 0],
        (1.0, 0.0),
        [True, False],
        np.array([1, 0]),
        np.array([True, False]),
        [np.float64(1), np.int32(0)],
        torch.tensor([1.0, 0.0], requires_grad=True),
        torch.tensor([1, 0], dtype=torch.bfloat16),
        [torch.tensor(1.0), torch.tensor(0)],
    ],
    ids=str,
)
def test_one_number_for_each_answer_in_any_usual_form(values):
    scores_B = scored(lambda prompts, completions: values)
    assert scores_B.tolist() == [1.0, 0.0]
    assert scores_B.dtype is torch.float32
    assert not scores_B.requires_grad


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [1.0, 2.0, 3.0],
        [],
        None,
        1.0,
        "ab",
        {0: 1.0, 1: 2.0},
        (x for x in (1.0, 2.0)),
        np.ones((2, 1)),
        np.ones((1, 2)),
        torch.ones(3),
        np.float64(1),
    ],
    ids=lambda values: type(values).__name__,
)
def test_anything_but_one_value_for_each_answer_is_refused(values):
    with pytest.raises(ShapeError, match="my:reward: the reward gave") as error:
        scored(lambda prompts, completions: values)
    assert "2 numbers, one for each answer" in str(error.value)


@pytest.mark.parametrize("value", ["good", None, [1.0], 1j, {}, np.array([1.0]), b"1"], ids=repr)
def test_a_value_that_is_no_number_names_its_answer(value):
    with pytest.raises(UsageError, match="answer 'Slowl': the reward gave"):
        scored(lambda prompts, completions: [1.0, value])


def test_an_array_of_objects_or_words_is_refused_too():
    for array in (np.array(["1", "2"]), np.array([1.0, None], dtype=object), torch.tensor([1j, 2j])):
        with pytest.raises(UsageError, match="expected: a number"):
            scored(lambda prompts, completions, array=array: array)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e39, 10**400, 10**5000, np.float32("nan")], ids=lambda v: type(v).__name__
)
def test_what_is_not_finite_in_float32_names_its_answer(value):
    with pytest.raises(NonFiniteError, match=r"prompt 'Why\?', answer 'Because"):
        scored(lambda prompts, completions: [value, 1.0])


def test_an_exception_names_the_answer_that_causes_it_and_is_never_a_number():
    def strict(prompts, completions):
        return [{"Because it SHINES.": 1.0}[c.text] for c in completions]

    with pytest.raises(RunError, match="raised KeyError: 'Slowl'") as error:
        scored(strict)
    assert "prompt 'user: How?', answer 'Slowl'" in str(error.value)
    assert isinstance(error.value.__cause__, KeyError)


def test_an_exception_of_the_batch_as_a_whole_says_so():
    def spread(prompts, completions):
        if len(completions) > 1:
            raise ZeroDivisionError
        return [0.0]

    with pytest.raises(RunError, match="and 1 others, together"):
        scored(spread)


def test_ctrl_c_is_no_failure_of_the_reward():
    def slow(prompts, completions):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored(slow)


def test_a_function_sees_text_ids_and_whether_the_answer_ended():
    seen = []

    def look(prompts, completions):
        seen.extend(zip(prompts, completions, strict=True))
        prompts.clear()  # its lists are its own
        return [float(c.ended) for c in completions]

    assert scored(look).tolist() == [1.0, 0.0]
    assert seen == list(zip(PROMPTS, ANSWERS, strict=True))


@pytest.mark.parametrize(
    ("name", "scores"),
    [("brevity", [-3 / 8, -2 / 8]), ("Favourite", [2, 0]), ("Shouting", [7, 1]), ("favourite", [1, 0])],
)
def test_functions_classes_and_objects(name, scores):
    assert open_reward(f"{SCORERS}:{name}").score(PROMPTS, ANSWERS).tolist() == scores


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (f"{SCORERS}:brevty", "did you mean 'brevity'"),
        (f"{SCORERS}:Needy", "made without arguments"),
        (f"{SCORERS}:number", "int cannot be called|source is in no file"),
        ("tests.rewards.nowhere:brevity", "no module tests.rewards.nowhere"),
        ("nowhere_at_all.deep:brevity", "no module nowhere_at_all"),
        ("math:sqrt", "source is in no file"),
        ("my-module:brevity", "neither a path that exists nor the name of Python code"),
        ("rewards.py:brevity:", "neither a path"),
        (":brevity", "neither a path"),
    ],
)
def test_what_cannot_be_opened_says_why(source, says):
    with pytest.raises(ConfigError, match=says):
        open_reward(source)


def test_a_module_that_cannot_be_imported_says_why(module):
    name = module("import missing_dependency\n", "needs_more")
    with pytest.raises(ConfigError, match="needs_more imports missing_dependency, which is not installed"):
        open_reward(f"{name}:score")
    name = module("1 / 0\n", "breaks")
    with pytest.raises(ConfigError, match="breaks cannot be imported: ZeroDivisionError"):
        open_reward(f"{name}:score")


def test_modules_of_the_current_directory_are_known(tmp_path, monkeypatch):
    (tmp_path / "beside_the_run.py").write_text("def score(prompts, completions):\n    return [0.5] * len(prompts)\n")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.chdir(tmp_path)
    assert open_reward("beside_the_run:score").score(PROMPTS, ANSWERS).tolist() == [0.5, 0.5]
    sys.modules.pop("beside_the_run")


def test_a_path_with_a_colon_that_exists_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my:model").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        open_reward("my:model")


SCORE = "def score(prompts, completions):\n    return [{}] * len(prompts)\n"


def test_the_fingerprint_is_that_of_the_source(module):
    def fingerprint(text, name, function="score"):
        written = f"{module(text, name)}:{function}"
        assert open_reward(written).fingerprint == identify(written)
        sys.modules.pop(name)
        return identify(written)

    first = fingerprint(SCORE.format(1), "alpha")
    assert fingerprint(SCORE.format(1), "alpha") == first
    assert fingerprint(SCORE.format(2), "alpha") != first
    assert fingerprint(SCORE.format(1), "beta") != first  # another name may be another relative import
    both = SCORE.format(1) + SCORE.format(2).replace("score", "other")
    assert fingerprint(both, "alpha") != fingerprint(both, "alpha", "other")


def test_a_function_from_elsewhere_is_hashed_where_it_is_written(module):
    source = f"{module('from inner import score', 'outer')}:score"
    prints = []
    for value in (1, 2):
        module(SCORE.format(value), "inner")
        for name in ("inner", "outer"):
            sys.modules.pop(name, None)
        prints.append(identify(source))
    assert prints[0] != prints[1]


def test_a_decorator_does_not_hide_the_source(module):
    module("import functools\n" + SCORE.format(1) + "score = functools.cache(score)\n", "cached")
    assert identify("cached:score").startswith("python:")


def test_ppo_trains_on_it_and_goes_on_with_the_same_source_only(material, module, tmp_path):  # noqa: F811
    source = f"{module(SCORE.format('len(completions[0].ids)'))}:score"
    config = config_of("ppo", material | {"judge": source}, steps=2)
    out = execute("ppo", config, tmp_path / "r", quiet=True)
    assert read_run(out)["inputs"]["reward"] == identify(source)
    assert {row["score_cut"] for row in metric_rows(out)} == {0.0}
    module(SCORE.format("-len(completions[0].ids)"))
    importlib.reload(sys.modules["my_rewards"])
    with pytest.raises(UsageError, match="reward"):
        execute("ppo", config, tmp_path / "r", quiet=True)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("raise ValueError('no')", RunError),
        ("return [float('nan')] * len(prompts)", NonFiniteError),
        ("return 1.0", ShapeError),
        ("return ['x'] * len(prompts)", UsageError),
    ],
)
def test_a_reward_that_fails_stops_the_run_before_any_update(body, error, material, module, tmp_path):  # noqa: F811
    source = f"{module(f'def score(prompts, completions):{chr(10)}    {body}{chr(10)}')}:score"
    with pytest.raises(error, match="my_rewards:score"):
        execute("ppo", config_of("ppo", material | {"judge": source}), tmp_path / "r", quiet=True)
    assert read_run(tmp_path / "r")["status"] == "failed"
    assert metric_rows(tmp_path / "r") == []


def test_evaluate_and_sample_take_it_too(material, tmp_path):  # noqa: F811
    reward, sampling = open_reward(f"{SCORERS}:brevity"), Sampling(max_new_tokens=8)
    report = compare_models(
        [material["policy"]], material["prompts"], reward, tmp_path / "e", sampling=sampling, limit=3
    )
    rows, _ = read_lines(tmp_path / "e" / "eval.jsonl")
    assert [row["reward"] for row in rows] == [-row["tokens"] / 8 for row in rows]
    assert f"--reward {SCORERS}:brevity" in report.markdown.read_text()
    (answer,) = Panel([material["policy"]], reward=reward).ask("What does the cat like?", sampling, seed=0)
    assert answer.reward == -answer.tokens / 8


def test_a_reward_without_a_template_reads_whatever_it_is_given():
    reward = open_reward(f"{SCORERS}:brevity")
    assert not isinstance(reward, Reader)
    assert windows_of(reward, None, 8, fix="") == []
    assert cut_by(reward) == 0
    assert prompt_for(reward, "Why?", PROMPTS[1]) == PROMPTS[1]


def test_a_new_kind_is_its_own_file_and_one_line(material, module, monkeypatch, tmp_path):  # noqa: F811
    module(
        "import torch\n"
        "class Constant:\n"
        "    def __init__(self, source): self.name, self.value = source, float(source.split('=')[1])\n"
        "    fingerprint = 'constant'\n"
        "    def score(self, prompts, completions): return torch.full((len(prompts),), self.value)\n"
        "def takes(source): return source.startswith('constant=')\n"
        "def identify(source): return source\n"
        "def load(source, beside, batch=None): return Constant(source)\n",
        "constant_kind",
    )
    monkeypatch.setattr(registry, "KINDS", {"constant": "constant_kind"} | registry.KINDS)
    out = execute("ppo", config_of("ppo", material | {"judge": "constant=3"}, steps=1), tmp_path / "r", quiet=True)
    assert [row["score"] for row in metric_rows(out)] == [3.0]
    assert read_run(out)["inputs"]["reward"] == "constant=3"


def test_an_error_in_the_first_process_is_raised_in_the_others(monkeypatch):
    sent = []
    monkeypatch.setattr(processes, "world", lambda: 2)
    monkeypatch.setattr(processes, "gathered", lambda values: sent.extend(values) or [sent[0]])
    for rank in (0, 1):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        with pytest.raises(DataError, match="not here"):
            processes.from_first(lambda rank=rank: refuse(rank))
    assert sent[1] is None  # the second process did not ask


def refuse(rank):
    assert rank == 0
    raise DataError("not here")


def test_the_json_form_of_a_run_names_the_reward(material, tmp_path):  # noqa: F811
    out = execute(
        "ppo", config_of("ppo", material | {"judge": f"{SCORERS}:brevity"}, steps=1), tmp_path / "r", quiet=True
    )
    record = json.loads((out / "run.json").read_text())
    assert record["config"]["reward"] == f"{SCORERS}:brevity"
    assert record["pinned"]["reward"] == record["inputs"]["reward"]
