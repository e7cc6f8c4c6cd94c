import json
import os
import subprocess
import sys

import pytest

from trueup.errors import RunError, UsageError
from trueup.ledger import Run, StreamError, metric_rows, move_aside, one_writer, read_lines, read_run, whole_folder
from trueup.ledger import run as ledger


def start(path, **changes):
    given = {"kind": "dpo", "config": {"beta": 0.1}, "inputs": {"pairs": "abc"}, "quiet": True} | changes
    return Run.start(path, **given)


def test_a_run_records_what_it_is_and_how_it_ended(tmp_path):
    with start(tmp_path / "r") as run:
        run.log(0, {"loss": 0.5})
        assert read_run(run.path)["status"] == "running"
    record = read_run(tmp_path / "r")
    assert record["status"] == "done"
    assert record["config"] == {"beta": 0.1}
    assert metric_rows(tmp_path / "r") == [{"step": 0, "loss": 0.5}]


def test_a_failure_is_recorded(tmp_path):
    def fail():
        with start(tmp_path / "r"):
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    assert read_run(tmp_path / "r")["status"] == "failed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"beta": 0.2}}, r"config\.beta was 0\.1, now 0\.2"),
        ({"inputs": {"pairs": "other"}}, "inputs"),
        ({"kind": "ppo"}, "kind"),
        ({"resume": False}, "a run is here already"),
    ],
)
def test_resuming_with_something_else_is_refused(tmp_path, change, message):
    start(tmp_path / "r").__exit__(None, None, None)
    with pytest.raises(UsageError, match=message):
        start(tmp_path / "r", **change)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        start(tmp_path)


def test_unknown_metric_is_a_programming_error(tmp_path):
    with start(tmp_path / "r") as run, pytest.raises(KeyError, match="losss"):
        run.log(0, {"losss": 1.0})


def test_nan_is_a_typed_gap_and_valid_json(tmp_path):
    with start(tmp_path / "r") as run:
        run.log(0, {"loss": float("nan"), "kl": float("inf")})
    row = json.loads((tmp_path / "r" / "metrics.jsonl").read_text())
    assert row == {"step": 0, "loss": "nan", "kl": "inf"}


def test_reader_leaves_a_torn_line_for_later(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 0}\n{"ste')
    rows, offset = read_lines(file)
    assert rows == [{"step": 0}]
    with file.open("ab") as handle:
        handle.write(b'p": 1}\n')
    assert read_lines(file, offset)[0] == [{"step": 1}]


def test_pinned_identity_cannot_change(tmp_path):
    with start(tmp_path / "r") as run:
        run.pin("reference", "aaa")
        run.pin("reference", "aaa")
        with pytest.raises(RunError, match="reference changed"):
            run.pin("reference", "bbb")


def test_two_writers_are_refused_and_a_dead_one_is_recognised(tmp_path):
    code = (
        "import sys,time; from trueup.ledger import Run;"
        f"Run.start({str(tmp_path / 'r')!r}, kind='dpo', config={{'beta':0.1}}, inputs={{'pairs':'abc'}}, quiet=True);"
        "print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline().strip() == "held"
    with pytest.raises(RunError, match=f"pid {holder.pid}"):
        start(tmp_path / "r")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with start(tmp_path / "r") as run:
        assert run.path.exists()


def test_a_full_disk_never_stops_a_step_and_loses_no_row(tmp_path, capsys):
    with start(tmp_path / "r") as run:
        run.log(0, {"loss": 1.0})
        (tmp_path / "r" / "metrics.jsonl").rename(tmp_path / "aside")
        (tmp_path / "r" / "metrics.jsonl").mkdir()
        run.log(1, {"loss": 2.0})
        run.log(2, {"loss": 3.0})
        (tmp_path / "r" / "metrics.jsonl").rmdir()
        (tmp_path / "aside").rename(tmp_path / "r" / "metrics.jsonl")
        run.log(3, {"loss": 4.0})
    assert [row["step"] for row in metric_rows(tmp_path / "r")] == [0, 1, 2, 3]
    assert "cannot be written" in capsys.readouterr().err


SMALL_DISK = """
import resource, sys
from trueup.ledger import Run
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with Run.start(sys.argv[1], kind="dpo", config={}, inputs={}, quiet=True) as run:
    for step in range(60):
        if step == 5:  # the file may not grow any more, and the limit is in the middle of a line
            resource.setrlimit(resource.RLIMIT_FSIZE, (2999, hard))
        if step == int(sys.argv[2]):
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        run.log(step, {"loss": step / 7, "margin": -step / 3})
        for number in range(3):
            run.pair(step, f"pair-{number}" * 9, 0.25, 0.5)
"""


def on_a_small_disk(path, room_again_at):
    command = [sys.executable, "-c", SMALL_DISK, str(path), str(room_again_at)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("room_again_at", [30, 59])
def test_a_full_disk_that_has_room_again_holds_every_line_whole(tmp_path, room_again_at):
    ran = on_a_small_disk(tmp_path / "r", room_again_at)
    assert ran.returncode == 0, ran.stderr
    assert [row["step"] for row in metric_rows(tmp_path / "r")] == list(range(60))
    pairs = [json.loads(line) for line in (tmp_path / "r" / "pairs.jsonl").read_text().splitlines()]
    assert [(row["step"], row["pair_id"][:6]) for row in pairs] == [
        (s, f"pair-{n}") for s in range(60) for n in range(3)
    ]
    assert ran.stderr.count("rows are kept in memory") == ran.stderr.count("is written again; no row was lost")
    assert read_run(tmp_path / "r")["status"] == "done"


def test_a_run_that_ends_with_rows_that_the_disk_refused_is_not_done(tmp_path):
    ran = on_a_small_disk(tmp_path / "r", 99)
    assert ran.returncode == 1
    assert "rows of pairs.jsonl" in ran.stderr
    assert read_run(tmp_path / "r")["status"] != "done"
    for name in ("metrics", "pairs"):  # what is there is whole lines
        assert (tmp_path / "r" / f"{name}.jsonl").read_bytes().endswith(b"}\n")


def test_the_error_of_a_failed_run_is_not_hidden_by_a_full_disk(tmp_path, monkeypatch, capsys):
    def full(path, value):
        raise OSError(28, "No space left on device")

    def fail():
        with start(tmp_path / "r"):
            monkeypatch.setattr(ledger, "write_json", full)
            raise RunError("the checkpoint of step 4 could not be written")

    with pytest.raises(RunError, match="the checkpoint of step 4"):
        fail()
    assert "run.json does not say 'failed': the disk is full" in capsys.readouterr().err


def test_a_run_cannot_end_as_done_when_run_json_cannot_say_so(tmp_path, monkeypatch):
    def full(path, value):
        raise OSError(28, "No space left on device")

    run = start(tmp_path / "r")
    monkeypatch.setattr(ledger, "write_json", full)
    with pytest.raises(RunError, match=r"run\.json cannot be written: the disk is full"):
        run.__exit__(None, None, None)


def test_lines_that_another_program_cut_are_missed_and_nothing_is_glued(tmp_path, capsys):
    with start(tmp_path / "r") as run:
        run.log(0, {"loss": 1.0})
        run.log(1, {"loss": 2.0})
        os.truncate(run.path / "metrics.jsonl", 30)
        run.log(2, {"loss": 3.0})
    assert [row["step"] for row in metric_rows(tmp_path / "r")] == [0, 2]
    assert "lost" in capsys.readouterr().err


@pytest.mark.parametrize("place", [0, 11, 40, -2])
def test_a_changed_byte_of_a_log_is_found_when_the_run_goes_on(tmp_path, place):
    with start(tmp_path / "r") as run:
        for step in range(3):
            run.log(step, {"loss": 0.5})
        known = run.sync()
    file = tmp_path / "r" / "metrics.jsonl"
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(bytes(data))
    before = file.read_bytes()
    with start(tmp_path / "r") as run:
        with pytest.raises(StreamError, match=r"metrics\.jsonl"):
            run.rewind(3, known)
        assert file.read_bytes() == before


def test_a_log_that_is_shorter_than_the_checkpoint_knew_stops_the_resume_before_anything_is_cut(tmp_path):
    with start(tmp_path / "r") as run:
        run.log(0, {"loss": 0.5})
        run.pair(0, "p", 0.1, 0.2)
        known = run.sync()
        run.log(1, {"loss": 0.5})
    os.truncate(tmp_path / "r" / "pairs.jsonl", 5)
    before = (tmp_path / "r" / "metrics.jsonl").read_bytes()
    with start(tmp_path / "r") as run:
        with pytest.raises(StreamError, match=r"only 5 of \d+ bytes are left"):
            run.rewind(1, known)
        run.accept_damage = True
        run.rewind(1, known)
        assert (run.path / "pairs.jsonl").read_bytes() == b""  # half a line is no line
        run.pair(1, "q", 0.1, 0.2)
    assert (tmp_path / "r" / "metrics.jsonl").read_bytes() != before
    assert "damage_accepted" in (tmp_path / "r" / "events.jsonl").read_text()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[1]", "not an object but list"),
        (b'{"step": "one"}', "step is 'one'"),
        (b'{"step": -1}', "step is -1"),
        (b'{"step": 1', "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"step": ' + b"9" * 5000 + b"}", "4300"),
        (b"[" * 100000, "nested too deep"),
    ],
)
def test_a_damaged_line_is_named_or_left_out_by_wish(tmp_path, line, problem):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 0}\n' + line + b'\n{"step": 2}\n{"ste')
    with pytest.raises(RunError, match=problem) as caught:
        read_lines(file)
    assert f"{file}:2" in str(caught.value)
    damaged = []
    rows, _ = read_lines(file, damaged=damaged)
    assert [row["step"] for row in rows] == [0, 2]
    assert [d.line for d in damaged] == [2]


@pytest.mark.parametrize(
    "content",
    [b"", b'{"kind": "dp', b"[1]", b'{"name": "of another tool"}', b"\xff\x00", b'{"kind": 3}', b"[" * 100000,
     b'{"kind": "dpo", "config": {}, "inputs": {"data": 3}, "status": "done"}'],
)  # fmt: skip
def test_a_damaged_or_foreign_run_json_is_refused_with_its_name(tmp_path, content):
    start(tmp_path / "r").__exit__(RunError, RunError("x"), None)
    (tmp_path / "r" / "run.json").write_bytes(content)
    for attempt in (lambda: read_run(tmp_path / "r"), lambda: start(tmp_path / "r")):
        with pytest.raises(RunError, match=r"(?s)run\.json.*--fresh"):
            attempt()
    assert move_aside(tmp_path / "r").name == "r.old-1"


def test_a_run_without_its_run_json_is_not_taken_for_a_new_one(tmp_path):
    with start(tmp_path / "r") as run:
        run.log(0, {"loss": 1.0})
    (tmp_path / "r" / "run.json").unlink()
    with pytest.raises(RunError, match=r"run\.json is missing, though metrics\.jsonl"):
        start(tmp_path / "r", config={"beta": 9})
    (tmp_path / "r" / ".lock").unlink()
    with pytest.raises(RunError, match=r"run\.json is missing"):
        start(tmp_path / "r", config={"beta": 9})


def test_a_run_that_failed_before_its_first_step_is_started_anew_with_other_settings(tmp_path, capsys):
    start(tmp_path / "r").__exit__(RunError, RunError("prompts are too long"), None)
    with start(tmp_path / "r", config={"beta": 0.3}) as run:
        run.log(0, {"loss": 1.0})
    assert read_run(tmp_path / "r")["config"] == {"beta": 0.3}
    assert "never took a step; started anew: config.beta was 0.1, now 0.3" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--fresh"):
        start(tmp_path / "r", config={"beta": 0.4})


def test_a_setting_that_is_newer_than_the_run_is_no_change_while_it_has_its_default(tmp_path):
    with start(tmp_path / "r") as run:
        run.log(0, {"loss": 1.0})
    new = {"config": {"beta": 0.1, "shape": {"a": 1}}, "defaults": {"shape": {"a": 1}}}
    start(tmp_path / "r", **new).__exit__(None, None, None)
    with pytest.raises(UsageError, match="shape"):
        start(tmp_path / "r", **{**new, "config": {"beta": 0.1, "shape": {"a": 2}}})


def test_going_on_under_other_versions_is_said_in_one_line(tmp_path, capsys):
    start(tmp_path / "r").__exit__(RunError, RunError("x"), None)
    file = tmp_path / "r" / "run.json"
    record = json.loads(file.read_text())
    record["versions"] |= {"torch": "1.0", "trueup": "0.0.1"}
    file.write_text(json.dumps(record))
    capsys.readouterr()
    start(tmp_path / "r").__exit__(None, None, None)
    (line,) = capsys.readouterr().err.splitlines()
    assert "trueup 0.0.1, now" in line
    assert "torch 1.0, now" in line
    capsys.readouterr()
    start(tmp_path / "s").__exit__(RunError, RunError("x"), None)
    start(tmp_path / "s").__exit__(None, None, None)
    assert capsys.readouterr().err == ""


def test_leftovers_of_killed_writes_go_and_nothing_else(tmp_path):
    start(tmp_path / "r").__exit__(RunError, RunError("x"), None)
    ours = [".run.json.7.tmp", "checkpoints/.latest.7.tmp", "checkpoints/.step-00000002.7.tmp/state.json",
            "cache/reference-0af3.tmp", "final/.scale.json.7.tmp", ".final.7.tmp/config.json",
            ".final.7.old.tmp/config.json"]  # fmt: skip
    others = [".notes.tmp", "mine.tmp", "checkpoints/notes.tmp", ".report.html.7.tmp", "final/model.tmp"]
    for name in (*ours, *others):
        (tmp_path / "r" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "r" / name).write_text("x")
    with pytest.raises(UsageError):
        start(tmp_path / "r", resume=False)
    start(tmp_path / "r").__exit__(None, None, None)
    assert [name for name in ours if (tmp_path / "r" / name).exists()] == []
    assert [name for name in others if not (tmp_path / "r" / name).exists()] == []


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.json", "checkpoints", "final", "cache", ".lock"])
def test_a_file_where_a_directory_belongs_and_the_reverse_are_refused_at_the_start(tmp_path, name):
    start(tmp_path / "r").__exit__(RunError, RunError("x"), None)
    place = tmp_path / "r" / name
    if place.is_file():
        place.unlink()
    if "." in name:
        place.mkdir()
    else:
        place.write_text("x")
    with pytest.raises(RunError, match=r"belongs|expected: a"):
        start(tmp_path / "r")


def test_a_file_in_the_way_of_the_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        start(tmp_path / "file")
    with pytest.raises(RunError, match="a part of the path is a file"):
        start(tmp_path / "file" / "r")


@pytest.mark.parametrize(("number", "says"), [(28, "the disk is full"), (30, "read-only"), (13, "no permission")])
def test_a_disk_that_cannot_be_written_is_said_at_the_start(tmp_path, monkeypatch, number, says):
    def refused(path, value):
        raise OSError(number, "x", str(path))

    monkeypatch.setattr(ledger, "write_json", refused)
    with pytest.raises(RunError, match=says):
        start(tmp_path / "r")


def test_a_second_writer_is_refused_though_the_lock_file_was_deleted(tmp_path):
    with start(tmp_path / "r") as run:
        (run.path / ".lock").unlink()
        with pytest.raises(RunError, match="another process"):
            start(tmp_path / "r")
        with pytest.raises(RunError, match="another process"):
            move_aside(tmp_path / "r")
    with one_writer(tmp_path / "r"):
        pass


def test_a_run_moved_aside_gets_a_new_name_whatever_the_clock_says(tmp_path):
    for number in (1, 2):
        start(tmp_path / "r").__exit__(None, None, None)
        assert move_aside(tmp_path / "r") == tmp_path / f"r.old-{number}"
    assert move_aside(tmp_path / "r") is None
    assert read_run(tmp_path / "r.old-1")["status"] == "done"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(UsageError, match="holds no run"):
        move_aside(tmp_path / "thesis")


def test_a_moved_aside_symbolic_link_keeps_pointing_to_the_large_disk(tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "r").symlink_to(tmp_path / "large")
    start(tmp_path / "r").__exit__(None, None, None)
    assert move_aside(tmp_path / "r") == tmp_path / "large.old-1"
    start(tmp_path / "r").__exit__(None, None, None)
    assert (tmp_path / "large" / "run.json").exists()


def test_a_folder_takes_its_name_when_it_is_whole_and_not_before(tmp_path):
    place = tmp_path / "final"
    with whole_folder(place) as folder:
        (folder / "a").write_text("first")
        assert not place.exists()

    def half():
        with whole_folder(place) as folder:
            (folder / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert (place / "a").read_text() == "first"
    with whole_folder(place) as folder:
        (folder / "b").write_text("second")
    assert [p.name for p in place.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["final"]
