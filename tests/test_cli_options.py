"""Options of every command: given twice they are refused, and numbers out of their range are explained, code 2."""

from __future__ import annotations

import json
import math

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from trueup.commands.app import app
from trueup.errors import TrueupError

REQUIRED = {
    ("sample",): ["m", "--prompt", "hi"],
    ("evaluate",): ["m", "--data", "d", "--reward", "r", "--out", "o"],
    ("curate",): ["p", "--db", "nowhere.db", "--out", "o"],
    ("plan",): ["nowhere.yaml"],
    ("exploit",): ["nowhere", "--data", "nowhere.jsonl"],
    ("score",): ["nowhere", "--text", "a"],
    ("hacking",): ["nowhere"],
    ("constitution", "label"): ["nowhere.jsonl", "--judge", "m", "--out", "o"],
    ("constitution", "run"): ["nowhere.yaml"],
    ("why",): ["nowhere", "--prompt", "hi"],
    ("compare",): ["nowhere"],
    ("sweep",): ["nowhere.yaml"],
    ("explore",): ["nowhere"],
    ("rollouts",): ["nowhere"],
    ("watch",): ["nowhere"],
    ("mirror",): ["nowhere", "--to", "tensorboard"],
    ("data", "sandbox"): ["--smoke", "--out", "/dev/null/nowhere"],
    ("quickstart",): ["--smoke", "--out", "/dev/null/nowhere"],
    ("serve",): ["--host", "999.1.1.1"],
    ("constitution", "audit"): ["nowhere"],
    ("constitution", "review"): ["nowhere.jsonl", "--db", "nowhere.db", "--project", "p"],
}
"""What a command needs beside its numbers; none of it exists, so nothing is ever run."""


def commands(group=None, path=()):
    """Every command with its path."""
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


OPTIONS = [
    pytest.param(path, option, id=" ".join((*path, option.opts[0])))
    for path, command in commands()
    for option in command.params
    if option.param_type_name == "option" and option.name != "help"
]
NUMBERS = {
    ("sample", "--max-new-tokens"): [0, -1],
    ("sample", "--temperature"): [-1, -1e-9],
    ("sample", "--top-p"): [2, 0, -0.1, 1.0001],
    ("sample", "--top-k"): [-1],
    ("sample", "--repetition-penalty"): [0, -1, 0.99],
    ("sample", "--seed"): [-1],
    ("data", "sandbox", "--seed"): [-1],
    ("score", "--top"): [0, -1],
    ("hacking", "--kl-limit"): [-1, -1e-9],
    ("score", "--limit"): [0, -1],
    ("rollouts", "--step"): [-1],
    ("plan", "--gpus"): [0, -1],
    ("plan", "--rows"): [0, -1],
    ("plan", "--tokens"): [2, 0, -1],
    ("plan", "--efficiency"): [0, -1, 1.01],
    ("constitution", "label", "--limit"): [0, -1],
    ("constitution", "review", "--limit"): [0, -1],
    ("constitution", "run", "--rounds"): [0, -1],
    ("constitution", "run", "--seed"): [-1],
    ("why", "--top"): [0, -1],
    ("why", "--blocks"): [0, -1],
    ("evaluate", "--limit"): [0, -1],
    ("evaluate", "--max-new-tokens"): [0, -5],
    ("evaluate", "--temperature"): [-1],
    ("evaluate", "--seed"): [-1],
    ("evaluate", "--samples"): [0, -1],
    ("evaluate", "--votes"): [0, -1],
    ("compare", "--samples"): [-1],
    ("sweep", "--jobs"): [0, -1],
    ("explore", "--port"): [-1, 65536],
    ("explore", "--votes"): [0, -1],
    ("watch", "--votes"): [0, -1],
    ("rollouts", "--limit"): [0, -1],
    ("curate", "--min-votes"): [0, -1],
    ("curate", "--min-strength"): [0.49, 1.01, -1],
    ("exploit", "--limit"): [1, 0, -1],
    ("exploit", "--rounds"): [-1],
    ("exploit", "--tries"): [0, -1],
    ("exploit", "--searched"): [0, -1],
    ("exploit", "--samples"): [1, 0, -1],
    ("exploit", "--max-new-tokens"): [0, -1],
    ("exploit", "--seed"): [-1],
    ("plan", "--steps"): [2, 0, -1],
    ("quickstart", "--seed"): [-1],
    ("serve", "--port"): [-1, 65536],
    ("constitution", "audit", "--size"): [9, 501],
    ("constitution", "audit", "--seed"): [-1],
    ("constitution", "review", "--overlap"): [0, -1],
}
"""Every option that takes a number, and values just outside its range."""
NONSENSE = ["nan", "inf", "-inf", "1e999", "-" + "9" * 30, "abc", "", "0x10", "1_0.5.2", "١٢x"]
WHOLE = sorted(path for path in NUMBERS if path[-1] not in ("--temperature", "--repetition-penalty", "--kl-limit"))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*words):
    """Exit code and all that was said, as ``main`` would say it."""
    found = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(found.exception, TrueupError):
        return found.exception.exit_code, str(found.exception)
    assert found.exception is None or isinstance(found.exception, SystemExit), repr(found.exception)
    return found.exit_code, found.output


@pytest.mark.parametrize(("path", "option"), OPTIONS)
def test_given_twice(path, option):
    word = option.opts[0]
    twice = [word, word] if option.is_flag else [word, "1", word, "2"]
    found = CliRunner().invoke(app, [*path, *twice, "--help"])  # so that what is allowed does not run
    said = str(found.exception)
    if option.multiple or option.is_flag:  # a list, or the same thing said again
        assert "is given 2 times" not in said
    else:
        assert f"{word} is given 2 times and takes one value" in said
        assert found.exception.exit_code == 2


def test_every_number_of_every_command_is_tried_here():
    """A new option that takes a number must be listed above."""
    takes = {
        (*path, option.opts[0])
        for path, command in commands()
        for option in command.params
        if (isinstance(option.default, (int, float)) and not isinstance(option.default, bool))
        or getattr(getattr(option, "type_descriptor", None), "annotation", None) in (int, float)
    }
    assert takes == set(NUMBERS)


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, values in NUMBERS.items() for value in (*values, *NONSENSE)]
)
def test_a_number_out_of_range(path, value):
    *command, word = path
    code, said = run(*command, *REQUIRED[tuple(command)], f"{word}={value}")
    assert code == 2, said
    assert word.lstrip("-").split("-")[0] in said.replace("_", "-")


@pytest.mark.parametrize("path", WHOLE)
def test_a_number_beyond_all_reason(path):
    *command, word = path
    code, said = run(*command, *REQUIRED[tuple(command)], f"{word}={'9' * 30}")
    assert code == 2, said


@pytest.mark.parametrize("name", ["float16", "", "auto", "int8"])
def test_a_precision_that_there_is_not(name):
    code, said = run("evaluate", *REQUIRED["evaluate",], f"--dtype={name}")
    assert code == 2
    assert "dtype" in said


def test_a_column_given_twice(tmp_path):
    file = tmp_path / "d.jsonl"
    file.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    code, said = run("data", "check", file, "--column", "prompt=a", "--column", "prompt=b")
    assert code == 2
    assert "given twice" in said


def test_numbers_in_range_are_as_they_were_said(monkeypatch):
    from trueup.commands import panel, scoring

    asked = []

    class Panel:
        def __init__(self, models, **more):
            asked.append((list(models), more))

        def check(self, texts, sampling):
            asked.append(sampling)

        def ask(self, text, sampling, seed):
            asked.append(seed)
            return []

    monkeypatch.setattr(panel, "Panel", Panel)
    monkeypatch.setattr(scoring, "open_source", lambda source: f"the reward {source}")
    code, said = run(
        "sample", "a", "b", "--prompt", "x", "--prompt", "y", "--top-p", "0.5", "--seed", "7", "--reward", "r"
    )
    assert code == 0, said
    assert asked[0] == (["a", "b"], {"reward": "the reward r", "reference": None})
    assert asked[1].top_p == 0.5
    assert asked[2:] == [7, 8]
    assert math.isclose(asked[1].temperature, 1.0)
