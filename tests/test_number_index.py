"""The index beside the curves of a run is never wrong: whatever happens to a file, it says what reading all would."""

import errno
import json
import os
import threading

import pytest

from tests.web.explorer.planted import CONFIG
from trueup.commands.live import follow, number_index, sample_index
from trueup.commands.live.follow import Followed
from trueup.ledger import Run

STEPS = 40


def values(step):
    """Numbers of a step: one that only some steps have, one that may be a gap."""
    row = {"score": step / 8, "kl": float("nan") if step == 7 else 1.0}
    return row | ({"heldout_nll": 2.0} if step % 5 == 0 else {})


@pytest.fixture(autouse=True)
def any_length(monkeypatch):
    monkeypatch.setattr(follow, "LEAST", 1)
    monkeypatch.setattr(sample_index, "_said", threading.Event())


@pytest.fixture
def folder(tmp_path):
    with Run.start(tmp_path / "r", kind="ppo", config=CONFIG, inputs={}, quiet=True) as run:
        for step in range(STEPS):
            run.log(step, values(step), ids=[f"x{step}"])
            run.time(step, 2.0, tokens=100.0 * (step + 1))
    add(tmp_path / "r", b'{"step": \n')
    return tmp_path / "r"


def index_of(folder):
    return folder / number_index.NAME


def add(folder, data):
    with open(folder / "metrics.jsonl", "ab") as handle:
        handle.write(data)


def read(folder):
    """A reader that has read all there is, and whose index is written."""
    followed = Followed(folder)
    followed.refresh()
    if followed._writer is not None:
        followed._writer.join()
    return followed


def told(followed):
    """Everything that it says."""
    columns = [
        [c.rows, c.first_step, c.last_step, c.bytes, *((n, list(map(str, c.pairs(n)))) for n in c.names)]
        for c in (followed.metrics, followed.timing)
    ]
    return columns, followed.left_out, str(followed.refresh())


def plain(folder):
    """The same without an index."""
    index_of(folder).unlink(missing_ok=True)
    return told(read(folder))


def test_a_second_reader_parses_only_what_came_after_the_index_and_goes_on(folder, monkeypatch):
    first = told(read(folder))
    assert first[1] == 1
    parsed = []
    parse_line = follow.parse_line
    monkeypatch.setattr(follow, "parse_line", lambda line: parsed.append(line) or parse_line(line))
    second = read(folder)
    assert parsed == []
    assert told(second) == first
    add(folder, b'{"step": 40, "score": 9.0, "entropy": 1.0}\n{"step": 41, "score": 10.0, "kl": 2.0}\n{"ste')
    second.refresh()
    assert len(parsed) == 2
    assert told(second) == told(read(folder)) == plain(folder)
    assert second.metrics.last("entropy") == 1.0


def rewrite(folder, data=None):
    """Another number of as many bytes in one row."""
    file = folder / "metrics.jsonl"
    changed = (data or file.read_bytes()).replace(b'"score": 0.5', b'"score": 7.5')
    later = file.stat().st_mtime_ns + 10**9  # the clock of a file system may stand still between two writings
    file.write_bytes(changed)
    os.utime(file, ns=(later, later))


def rewind(folder):
    """What a resume does: it cuts the streams and says so in events.jsonl; here it writes the same bytes again."""
    with open(folder / "events.jsonl", "a") as handle:
        handle.write('{"event": "rewind", "step": 3}\n')


def another_run(folder):
    (folder / "events.jsonl").write_text('{"event": "start", "time": 1}\n')
    (folder / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0}\n')


CHANGES = {
    "append": lambda folder: add(folder, b'{"step": 90, "score": 1.0}\n'),
    "shorter": lambda folder: os.truncate(folder / "metrics.jsonl", 800),
    "rewrite": rewrite,
    "replace": lambda folder: rewrite(folder, b"".join((folder / "metrics.jsonl").read_bytes().splitlines(True)[9:])),
    "rewind": rewind,
    "another run": another_run,
    "remove": lambda folder: (folder / "metrics.jsonl").unlink(),
    "no timing": lambda folder: (folder / "timing.jsonl").unlink(),
}


@pytest.mark.parametrize("age", [0, 10**10])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_by_who_takes_the_index(folder, change, age):
    for name in ("metrics", "timing"):
        then = (folder / f"{name}.jsonl").stat().st_mtime_ns - age
        os.utime(folder / f"{name}.jsonl", ns=(then, then))
    before = told(read(folder))
    assert index_of(folder).exists()
    CHANGES[change](folder)
    now = told(read(folder))
    assert now == plain(folder)
    assert now != before


def test_a_damaged_index_or_one_of_another_version_is_none(folder):
    expected = told(read(folder))
    data = index_of(folder).read_bytes()
    spoiled = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(0, len(data), 61)]
    spoiled += [b"", data[:9], data[:-8], data + b"8 bytes!", b"[" * 5000, b"[]\n", b"7\n", b'{"numbers": []}\n']
    spoiled += [data.replace(b'"format": 1', b'"format": 9')]
    for other in spoiled:
        index_of(folder).write_bytes(other)
        assert told(read(folder)) == expected


def test_a_short_run_gets_no_index(folder, monkeypatch):
    monkeypatch.setattr(follow, "LEAST", 1 << 20)
    read(folder)
    assert not (folder / "cache").exists()


@pytest.mark.parametrize("how", ["read-only", "a file is called cache", "a folder is called as it"])
def test_an_index_that_cannot_be_written_is_said_once_and_the_numbers_are_there(folder, how, monkeypatch, capsys):
    expected = plain(folder)
    index_of(folder).unlink()
    if how == "read-only":

        def refuse(*_):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(sample_index, "write_atomic", refuse)
    elif how == "a file is called cache":
        (folder / "cache").rmdir()
        (folder / "cache").write_text("")
    else:
        index_of(folder).mkdir()
    assert told(read(folder)) == told(read(folder)) == expected
    said = capsys.readouterr().err
    assert said.count("the index cannot be written") == 1
    assert str(index_of(folder)) in said


def test_what_is_packed_is_what_is_unpacked_in_any_json(folder):
    followed = read(folder)
    for columns in (followed.metrics, followed.timing, follow.Columns()):
        head, body = columns.pack()
        again = follow.Columns.unpack(json.loads(json.dumps(head)), body)
        assert again.pack() == (head, body)
        for one in (again, columns):
            assert one.append({"step": 99, "score": 1.0, "new": 2})
        assert again.pack() == columns.pack()
