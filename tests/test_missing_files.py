"""A mistyped file is named, with what is near it; a database is made by who writes, never by who reads."""

import errno
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trueup.commands.app import app
from trueup.errors import DataError, ModelError, UsageError, near_file
from trueup.feedback.store.database import Store
from trueup.ledger import storage_problem, write_file
from trueup.models.files import look, names_file


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_what_is_near_is_named(tmp_path):
    for name in ("answers.jsonl", "pairs.jsonl", "notes.txt", ".hidden.jsonl"):
        (tmp_path / name).touch()
    assert near_file(tmp_path / "answer.jsonl") == f"did you mean {tmp_path / 'answers.jsonl'}?"
    assert near_file(tmp_path / "zzz.jsonl").endswith("there is answers.jsonl, pairs.jsonl")
    assert near_file(tmp_path / "zzz.csv").endswith("there is answers.jsonl, notes.txt, pairs.jsonl")
    assert near_file(tmp_path / "no" / "answers.jsonl") == f"check the path: there is no folder {tmp_path / 'no'}"
    (tmp_path / "empty").mkdir()
    assert near_file(tmp_path / "empty" / "x.db").endswith("there is no file")


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen2.5-0.5B", "runs/sft/final", "model.gguf", "a/b.v1", "tiny"])
def test_names_of_models_are_no_names_of_files(name):
    assert not names_file(name)


def test_an_audit_of_a_mistyped_file_says_that_it_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("answers.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    for words in (["answer.jsonl"], ["answers.jsonl", "--baseline", "answer.jsonl"]):
        told = run("constitution", "audit", *words).exception
        assert isinstance(told, DataError)
        assert told.what == "there is no such file"
        assert told.where == "answer.jsonl"
        assert told.fix == "did you mean answers.jsonl?"


def test_a_model_that_is_named_as_a_file_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rewards.yaml").touch()
    with pytest.raises(ModelError, match="there is no such file") as told:
        look("reward.yaml")
    assert told.value.fix == "did you mean rewards.yaml?"


@pytest.mark.parametrize(
    "words",
    [
        ["constitution", "review", "revision.jsonl", "--db", "f.db", "--project", "p"],
        ["score", "revision.yaml", "--text", "a"],
        ["score", "tests.rewards.scorers:brevity", "--data", "revision.jsonl"],
        ["feedback", "verify", "--db", "revision.db"],
        ["feedback", "upgrade", "--db", "revision.db"],
        ["feedback", "key", "change", "--db", "revision.db", "--stop"],
        ["feedback", "user", "password", "ada", "--db", "revision.db"],
        ["feedback", "export", "p", "--format", "kto", "--db", "revision.db", "--out", "o"],
        ["feedback", "import", "revision.jsonl", "--project", "p", "--db", "f.db"],
        ["curate", "p", "--db", "revision.db", "--out", "o"],
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_every_command_names_the_nearest_file_and_makes_nothing(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for ending in ("jsonl", "yaml", "db"):
        Path(f"revisions.{ending}").touch()
    told = run(*words).exception
    assert told.fix.startswith("did you mean revisions."), told
    assert told.exit_code == 2
    assert sorted(os.listdir()) == ["revisions.db", "revisions.jsonl", "revisions.yaml"]


def test_a_reader_of_a_mistyped_database_makes_no_folder_and_a_writer_does(tmp_path):
    where = tmp_path / "room" / "feedback.db"
    for how in ({"read_only": True}, {"must_exist": True}):
        with pytest.raises(UsageError, match="there is no such file") as told:
            Store(where, **how)
        assert str(where.parent) in told.value.fix
        assert not where.parent.exists()
    Store(where).close()
    for how in ({"read_only": True}, {"must_exist": True}):
        Store(where, **how).close()


def test_a_snapshot_and_a_watch_of_no_run_make_no_database(tmp_path):
    db = tmp_path / "room" / "feedback.db"
    told = run("explore", tmp_path, "--feedback", db, "--snapshot", tmp_path / "s.html").exception
    assert "there is no such file" in str(told)
    told = run("watch", tmp_path, "--feedback", db).exception
    assert "not a run directory" in str(told)
    assert not db.parent.exists()


def test_a_file_that_cannot_be_written_says_how_to_go_on(tmp_path):
    what, fix = storage_problem(OSError(errno.ENOENT, "No such file or directory"))
    assert "no such file or folder" in what
    assert fix
    write_file(tmp_path / "a" / "b" / "c.html", b"x", "the page")
    assert (tmp_path / "a" / "b" / "c.html").read_bytes() == b"x"
    with pytest.raises(UsageError, match="is a directory"):
        write_file(tmp_path / "a", b"x", "the page")
