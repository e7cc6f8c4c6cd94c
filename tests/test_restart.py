"""The program starts anew with a heap that can use its holes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trueup import __version__
from trueup.commands.restart import ONCE, SETTINGS, VARIABLE, _is_glibc, program, training_environment, with_tunables

needs_glibc = pytest.mark.skipif(not _is_glibc(), reason="the C library is not glibc")


def run(*command: str, stdin: str | None = None, fails: int = 0, **environment: str) -> list[str]:
    """The lines that a program prints which is started without our settings."""
    clean = {name: value for name, value in os.environ.items() if name not in (VARIABLE, ONCE)}
    words = [sys.executable, *command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=clean | environment, input=stdin or ""
    )
    assert done.returncode == fails, done.stderr
    return done.stdout.splitlines()


def test_settings_are_added_to_those_that_are_there_and_never_replace_them() -> None:
    ours = [f"{name}={value}" for name, value in SETTINGS.items()]
    assert with_tunables(None) == with_tunables("") == ":".join(ours)
    assert with_tunables("glibc.malloc.check=3") == ":".join(["glibc.malloc.check=3", *ours])
    assert with_tunables("glibc.malloc.tcache_count=7") == ":".join(["glibc.malloc.tcache_count=7", *ours[1:]])
    assert with_tunables(with_tunables("glibc.malloc.check=3")) == with_tunables("glibc.malloc.check=3")


PROGRAMS = [
    ("-m trueup dpo", ("module", "trueup")),
    ("-mtrueup dpo", ("module", "trueup")),
    ("-Im trueup", ("module", "trueup")),
    ("-W ignore -X dev -u -m trueup", ("module", "trueup")),
    ("-Wignore -m pdb -m trueup", ("module", "pdb")),
    ("-m ipykernel_launcher -f kernel.json", ("module", "ipykernel_launcher")),
    ("--check-hash-based-pycs always -m trueup", ("module", "trueup")),
    ("/usr/bin/trueup dpo", ("script", "/usr/bin/trueup")),
    ("-u train.py -m trueup", ("script", "train.py")),
    ("trueup.pyz dpo", ("script", "trueup.pyz")),
    ("-c code", ("other", "")),
    ("-Bc code -m trueup", ("other", "")),
    ("- dpo", ("other", "")),
    ("-i -m trueup", ("other", "")),
    ("", ("other", "")),
]


@pytest.mark.parametrize(("words", "expected"), PROGRAMS)
def test_what_python_was_told_to_run_is_read_from_its_command_line(words: str, expected: tuple[str, str]) -> None:
    assert program(["python", *words.split()]) == expected


WATCH = """
import os
print("VARIABLES", os.environ.get("GLIBC_TUNABLES"), flush=True)
if os.environ.get("TRUEUP_RESTARTED", "").startswith("{"):
    os._exit(2)  # started anew: seen enough
"""
TRAIN = ("sft", "--data", "nowhere.jsonl", "--quiet")


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """Each program that starts prints its variable first; the data that it is to read is not there."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


def starts(lines: list[str]) -> list[str]:
    return [line.removeprefix("VARIABLES ") for line in lines if line.startswith("VARIABLES")]


@needs_glibc
@pytest.mark.parametrize("command", [("-m", "trueup"), (str(Path(sys.executable).with_name("trueup")),)])
def test_a_training_command_starts_anew(command: tuple[str, ...], watched: dict[str, str]) -> None:
    assert starts(run(*command, *TRAIN, fails=2, **watched)) == ["None", with_tunables(None)]
    assert starts(run(*command, "--help", **watched)) == ["None"]


LAST = """
import atexit, os
atexit.register(lambda: print("LAST", os.environ.get("GLIBC_TUNABLES"), os.environ.get("TRUEUP_RESTARTED"), flush=True))
"""


@needs_glibc
@pytest.mark.slow
def test_a_program_that_was_started_anew_goes_on_and_hands_nothing_down(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LAST)
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    lines = run("-m", "trueup", *TRAIN, fails=2, **path)
    assert [line for line in lines if line.startswith("LAST")] == ["LAST None None"]


@needs_glibc
def test_a_benchmark_starts_anew_once_as_the_command_does(tmp_path: Path) -> None:
    (tmp_path / "timed.py").write_text(
        "import os, sys\nfrom trueup.commands.restart import restart\n"
        "print(os.environ.get('GLIBC_TUNABLES'), flush=True)\nrestart(any_program=True)\n"
        "print(sys.argv[1:], os.environ.get('GLIBC_TUNABLES'))"
    )
    assert run(str(tmp_path / "timed.py"), "dpo") == ["None", with_tunables(None), "['dpo'] None"]


@needs_glibc
def test_a_training_command_goes_on_where_that_is_turned_off(watched: dict[str, str]) -> None:
    assert starts(run("-m", "trueup", *TRAIN, fails=2, **watched, **{ONCE: "1"})) == ["None"]


MAIN = "import sys; sys.argv = ['trueup', 'version']; from trueup.__main__ import main; main()"
ASK = "from trueup.commands.restart import is_command; print(is_command())"


def test_the_command_works_wherever_python_has_its_program_from(tmp_path: Path) -> None:
    assert run("-", stdin=MAIN) == [__version__]
    assert run("-c", MAIN) == [__version__]
    (tmp_path / "wrapper.py").write_text(f"print('once')\n{MAIN}")
    assert run(str(tmp_path / "wrapper.py")) == ["once", __version__]
    as_module = "import runpy, sys; sys.argv = ['x', 'version']; runpy.run_module('trueup', None, '__main__', True)"
    assert run("-c", as_module) == [__version__]


def test_no_other_program_is_taken_for_the_command(tmp_path: Path) -> None:
    for name in ("train.py", "wrapper"):
        (tmp_path / name).write_text(ASK)
        assert run(str(tmp_path / name)) == ["False"]
    assert run("-", stdin=ASK) == ["False"]
    assert run("-c", ASK, "-m", "trueup") == ["False"]
    (tmp_path / "trueup").write_text(ASK)
    assert run("-i", str(tmp_path / "trueup"), stdin="") == ["False"]


@pytest.mark.slow
def test_training_in_a_program_from_standard_input_does_not_start_it_anew(watched: dict[str, str]) -> None:
    code = f"import sys; sys.argv = ['trueup', *{TRAIN!r}]; from trueup.commands.app import main; main()"
    assert starts(run("-", stdin=code, fails=2, **watched)) == ["None"]


RESTORED = """
import os
from trueup.commands.restart import training_environment, restore
os.environ.clear()
os.environ.update({given!r})
before = dict(os.environ)
os.environ.update(training_environment(os.environ))
restore()
print(dict(os.environ) == before)
"""


@pytest.mark.parametrize("given", [{}, {VARIABLE: "glibc.malloc.check=3"}, {ONCE: "1"}, {ONCE: "[]"}, {ONCE: "off"}])
def test_what_was_set_for_the_start_is_taken_back_for_other_programs(given: dict[str, str]) -> None:
    assert run("-c", RESTORED.format(given=given)) == ["True"]


def test_who_turned_it_off_has_it_off_for_programs_that_train_too() -> None:
    assert training_environment({ONCE: "1", "A": "b"}) == {ONCE: "1", "A": "b"}
