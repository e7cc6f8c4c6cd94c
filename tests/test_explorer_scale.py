"""The index beside samples.jsonl is never wrong: whatever happens to the file, it says what reading all of it would."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.web.explorer.planted import CONFIG
from trueup.commands.live import pool, sample_index, sample_reader
from trueup.commands.live.pool import Pool
from trueup.commands.live.sample_index import load, stamp_of
from trueup.commands.live.samples import Samples, prompt_key
from trueup.ledger import Run, read_lines
from trueup.ledger.columns import Columns

STEPS, PROMPTS = 12, ("user: First?", "user: Zwölf \u212a?", 'user: "Third"\n?')


def answer(step, number):
    """A row of samples: unequal lengths, text that JSON escapes, a score that some lack."""
    row = {
        "prompt": PROMPTS[number],
        "completion": f'At {step} said {number}:\t"STRASSE" Straße \\ ' + "x" * (step % 5),
    }
    return row | ({"score": step - number} if number else {}) | ({"log_ratio": 0.5 * step} if number == 2 else {})


def write(run, steps):
    """Answers at some steps, one prompt twice."""
    for step in steps:
        for number in (0, 1, 2, 1):
            run.sample(step, **answer(step, number))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(sample_index, "PART", 500)
    monkeypatch.setattr(sample_reader, "PART", 500)
    monkeypatch.setattr(sample_index, "_said", threading.Event())


@pytest.fixture
def folder(tmp_path):
    with Run.start(tmp_path / "r", kind="ppo", config=CONFIG, inputs={}, quiet=True) as run:
        write(run, range(STEPS))
    return tmp_path / "r"


def index_of(folder):
    return folder / "cache" / "samples.index"


def fresh(folder):
    samples = Samples(folder)
    samples.refresh()
    return samples


def expected(folder):
    """(step, prompt, turn, text) of every whole line, read plainly."""
    turns, listed = {}, []
    for row in read_lines(folder / "samples.jsonl", damaged=[])[0]:
        if "completion" in row:
            key = (row["step"], prompt_key(row))
            turns[key] = turns.get(key, -1) + 1
            listed.append((*key, turns[key], row["completion"]))
    return sorted(listed)


def shown(samples):
    """The same by the pages of each step."""
    rows = [row for step in samples.steps for row in samples.page(step, limit=1000)["rows"]]
    return sorted((row["step"], row["prompt"], row["turn"], row["text"]) for row in rows)


def test_a_second_reader_takes_the_index_and_parses_only_the_rest(folder, monkeypatch):
    whole = fresh(folder)
    assert shown(whole) == expected(folder)
    parsed = []
    plain = sample_index._record
    monkeypatch.setattr(sample_index, "_record", lambda *line: parsed.append(line) or plain(*line))
    again = fresh(folder)
    assert len(parsed) < 12
    assert shown(again) == expected(folder)
    assert again.summary() == whole.summary()
    parsed.clear()
    again.refresh()
    assert parsed == []  # nothing is new: nothing is read


def test_paging_loses_and_doubles_nothing(folder):
    samples = fresh(folder)
    for sort in ("probe", "reward", "typical", "kl-low", "length"):
        for limit in (1, 3, 100):
            pages = [samples.page(5, sort=sort, offset=at, limit=limit)["rows"] for at in range(0, 4, limit)]
            rows = [(row["prompt"], row["turn"]) for page in pages for row in page]
            assert len(rows) == len(set(rows)) == samples.page(5)["total"] == 4
    for key in {row[1] for row in expected(folder)}:
        own = [row for row in expected(folder) if row[1] == key]
        for limit in (1, 5, 100):
            pages = [samples.history(key, offset=at, limit=limit) for at in range(0, len(own), limit)]
            assert {page["total"] for page in pages} == {len(own)}
            rows = [row for page in pages for row in page["rows"]]
            assert [(row["step"], key, row["turn"], row["text"]) for row in rows] == own
            assert [row["before"]["step"] for row in rows if row["step"]] == [row[0] - 1 for row in own if row[0]]
            assert {(row["start"]["step"], row["start"]["turn"] - row["turn"]) for row in rows if row["step"]} == {
                (0, 0)
            }
        assert samples.history(key, offset=len(own))["rows"] == []


@pytest.mark.parametrize(
    "text", ["said 1", "STRASSE", "strasse", "straße", '"STR', "\\", "\t", "12", "zwölf k", "no", ""]
)
def test_a_search_finds_what_casefolding_all_texts_finds(folder, text):
    rows = [(step, number) for step in range(STEPS) for number in (0, 1, 2, 1)]
    texts = [f"{answer(*row)['prompt']}\n{answer(*row)['completion']}".casefold() for row in rows]
    count = sum(text.casefold() in one for one in texts)
    result = fresh(folder).search(text, limit=1000)
    assert (result["total"], len(result["rows"])) == (count, count)
    steps = [row["step"] for row in result["rows"]]
    assert steps == sorted(steps, reverse=True)
    assert len(fresh(folder).search(text, limit=2)["rows"]) == min(count, 2)


def test_a_search_reads_lines_that_another_program_wrote(folder):
    with open(folder / "samples.jsonl", "a", encoding="ascii") as handle:
        handle.write(json.dumps({"step": 99, "prompt": "ü", "completion": "Éa"}, separators=(",", ":")) + "\n")
    samples = fresh(folder)
    assert [row["step"] for row in samples.search("éA")["rows"]] == [99]
    assert [row["step"] for row in samples.search("Ü")["rows"]] == [99]


def append(folder):
    with open(folder / "samples.jsonl", "a") as handle:
        for step in range(STEPS, STEPS + 6):
            handle.write(json.dumps({"step": step, "prompt": "new", "completion": f"later {step}"}) + "\n")


def truncate(folder):
    lines = (folder / "samples.jsonl").read_bytes().splitlines(keepends=True)
    os.truncate(folder / "samples.jsonl", sum(map(len, lines[: len(lines) // 2])))


def torn(folder):
    with open(folder / "samples.jsonl", "a") as handle:
        handle.write('{"step": 50, "prompt": "p", "comple')


def rewrite(folder, where=0.5, replace=False, times=None):
    """Other bytes of the same number in one answer: the last one, or that which stands at this share of the file."""
    file = folder / "samples.jsonl"
    data, now = file.read_bytes(), file.stat().st_mtime_ns
    times = times or (now + 10**9, now + 10**9)  # the clock of a file system may stand still between two writings
    place = data.rindex(b"said") if where == 1 else data.index(b"said", int(len(data) * where))
    other = data[:place] + b"SAID" + data[place + 4 :]
    if replace:
        (folder / "other").write_bytes(other)
        os.replace(folder / "other", file)
    else:
        with open(file, "r+b") as handle:
            handle.write(other)
    os.utime(file, ns=times)


def reorder(folder):
    file = folder / "samples.jsonl"
    file.write_bytes(b"".join(reversed(file.read_bytes().splitlines(keepends=True))))
    os.utime(file, (1e9, 1e9))


def rewind(folder):
    """What a resume does: it cuts the file, writes other answers, and says so in events.jsonl."""
    truncate(folder)
    with open(folder / "events.jsonl", "a") as handle:
        handle.write('{"event": "rewind", "step": 3}\n')
    with open(folder / "samples.jsonl", "a") as handle:
        handle.writelines(json.dumps({"step": 7 + n, **answer(n, 0)}) + "\n" for n in range(60))


def damage(folder):
    with open(folder / "samples.jsonl", "ab") as handle:
        handle.write(b'{"step": 60\n\n[]\n' + json.dumps({"step": 61, "completion": "good"}).encode() + b"\n")


def remove(folder):
    (folder / "samples.jsonl").unlink()


CHANGES = {
    "append": append,
    "truncate": truncate,
    "torn": torn,
    "rewrite": rewrite,
    "rewrite the first part": lambda folder: rewrite(folder, 0.0),
    "rewrite the tail": lambda folder: rewrite(folder, 1),
    "replace": lambda folder: rewrite(folder, replace=True),
    "rewrite and append": lambda folder: (rewrite(folder, 1), append(folder)),
    "reorder": reorder,
    "rewind": rewind,
    "damage": damage,
    "remove": remove,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_by_who_has_read_and_by_who_takes_the_index(folder, change):
    running = fresh(folder)
    before = running.steps
    CHANGES[change](folder)
    for samples in (running, fresh(folder)):
        samples.refresh()
        assert shown(samples) == expected(folder)
    assert change in ("torn", "rewrite", "rewrite the first part", "rewrite the tail", "replace", "reorder") or (
        running.steps != before or len(expected(folder)) != 4 * STEPS
    )
    assert running.left_out == fresh(folder).left_out == (2 if change == "damage" else 0)


def test_a_rewrite_with_the_time_of_before_is_seen_where_the_file_is_another(folder):
    status = (folder / "samples.jsonl").stat()
    fresh(folder)
    rewrite(folder, replace=True, times=(status.st_atime_ns, status.st_mtime_ns))
    assert shown(fresh(folder)) == expected(folder)


def test_a_time_of_writing_is_relied_on_only_once_it_has_settled(folder):
    fresh(folder)
    assert load(index_of(folder), folder / "samples.jsonl").stamp is None
    old = (folder / "samples.jsonl").stat().st_mtime_ns - 10**10
    os.utime(folder / "samples.jsonl", ns=(old, old))
    fresh(folder)
    assert load(index_of(folder), folder / "samples.jsonl").stamp == stamp_of(folder / "samples.jsonl")


def test_a_torn_line_is_waited_for(folder):
    samples = fresh(folder)
    torn(folder)
    samples.refresh()
    assert samples.left_out == 0
    with open(folder / "samples.jsonl", "a") as handle:
        handle.write('tion": "whole now"}\n')
    samples.refresh()
    assert samples.page(50)["rows"][0]["text"] == "whole now"
    assert shown(samples) == shown(fresh(folder)) == expected(folder)


def test_what_followed_a_cut_alone_is_read_anew(folder, monkeypatch):
    samples = fresh(folder)
    truncate(folder)
    parsed = []
    plain = sample_index._record
    monkeypatch.setattr(sample_index, "_record", lambda *line: parsed.append(line) or plain(*line))
    samples.refresh()
    assert 0 < len(parsed) < 12
    assert shown(samples) == expected(folder)


@pytest.mark.parametrize("cut", [0, 10, 300, -1])
def test_half_an_index_is_none(folder, cut):
    fresh(folder)
    data = index_of(folder).read_bytes()
    for spoiled in (data[:cut], data[:-3] + b"\x00\x01\x02", data.replace(b'"format": 2', b'"format": 9')):
        index_of(folder).write_bytes(spoiled)
        assert load(index_of(folder), folder / "samples.jsonl").parts == ()
        assert shown(fresh(folder)) == expected(folder)
        assert index_of(folder).read_bytes() != spoiled


def test_no_single_damaged_byte_of_an_index_is_believed(folder):
    fresh(folder)
    data = index_of(folder).read_bytes()
    for at in range(0, len(data), 37):
        index_of(folder).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert load(index_of(folder), folder / "samples.jsonl").parts == ()
    assert shown(fresh(folder)) == expected(folder)


def test_two_that_build_at_once_agree(folder):
    index, results = index_of(folder), []

    def build():
        for _ in range(5):
            index.unlink(missing_ok=True)
            results.append(shown(fresh(folder)))

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected(folder)] * 10
    assert shown(fresh(folder)) == expected(folder)


KILLED = """
import os, signal, sys
from pathlib import Path
from trueup.commands.live import sample_index, sample_reader
from trueup.commands.live.samples import Samples
sample_index.PART = sample_reader.PART = 500
sample_reader._EVERY = 2
os.replace = lambda old, new: os.kill(os.getpid(), signal.SIGKILL)
Samples(Path(sys.argv[1])).refresh()
"""


def test_a_kill_in_the_middle_leaves_no_index_that_is_read(folder):
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    (left,) = (folder / "cache").glob(".samples.index.*.tmp")
    assert not index_of(folder).exists()
    assert shown(fresh(folder)) == expected(folder)
    assert index_of(folder).exists()
    assert left.exists()  # another server may be writing it
    os.utime(left, (0, 0))
    index_of(folder).unlink()
    fresh(folder)
    assert not left.exists()


def test_a_directory_that_cannot_be_written_is_read_all_the_same_and_that_is_said_once(folder, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(sample_index, "write_atomic", refuse)
    samples = fresh(folder)
    append(folder)
    samples.refresh()
    assert shown(samples) == shown(fresh(folder)) == expected(folder)
    said = capsys.readouterr().err
    assert said.count("the disk is read-only") == 1
    assert "kept in memory" in said


def test_a_long_reading_goes_on_behind(folder, monkeypatch):
    go = threading.Event()
    plain = sample_index._record
    monkeypatch.setattr(sample_reader, "PATIENCE", 0.0)
    monkeypatch.setattr(sample_index, "_record", lambda *line: go.wait(60) and plain(*line))
    samples = Samples(folder)
    assert not samples.look()
    assert samples.steps == []
    go.set()
    samples.refresh()
    assert shown(samples) == expected(folder)


def test_a_run_that_is_not_written_is_not_read_again_even_when_its_numbers_were_let_go(tmp_path, monkeypatch):
    folders = {}
    for number in range(4):
        with Run.start(tmp_path / str(number), kind="ppo", config=CONFIG, inputs={}, quiet=True) as run:
            for step in range(30):
                run.log(step, {"score": float(step), "kl": 1.0})
        folders[str(number)] = tmp_path / str(number)
    monkeypatch.setattr(pool, "MOST_BYTES", 1)
    monkeypatch.setattr(pool, "LEAST", 2)
    runs = Pool()
    stands = {name: runs.standing(name, folder, {"kind": "ppo", "config": CONFIG}) for name, folder in folders.items()}
    assert list(runs._held) == ["2", "3"]
    read = []
    monkeypatch.setattr(pool, "Reading", lambda folder: read.append(folder))
    assert {
        name: runs.standing(name, folder, {"kind": "ppo", "config": CONFIG}) for name, folder in folders.items()
    } == stands
    assert read == []


def test_metrics_that_come_together_share_their_steps_and_others_do_not():
    columns, plain = Columns(), {}
    for step in range(60):
        row = {"a": float(step), "b": 2, "ids": ["x"]}
        row |= {"c": "nan"} if step % 3 == 0 else {}
        row |= {"d": 1.0} if step > 30 else {}
        row = {name: value for name, value in row.items() if name != "b" or step % 7}
        columns.append({"step": step, **row})
        for name, value in row.items():
            if name != "ids":
                plain.setdefault(name, []).append((step, str(float(value))))
    assert {name: [(s, str(v)) for s, v in columns.pairs(name)] for name in columns.names} == plain
    together = Columns()
    for step in range(1000):
        together.append({"step": step, **dict.fromkeys("abcdefgh", 1.0)})
    assert together.bytes == 8 * 1000 * 9
