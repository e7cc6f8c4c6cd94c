"""Bad files: every row refused is named by its line and why; a file that is no such file is one error."""

import csv
import gzip
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from trueup.errors import DataError, UsageError
from trueup.feedback.exchange.formats import FORMATS, read_in, write_out
from trueup.feedback.exchange.raw import read_judged
from trueup.feedback.exchange.tables import COLUMNS
from trueup.feedback.store.records import ItemRow, Judged, JudgmentRow, ResponseRow

PAIR = {"prompt": "Q?", "chosen": "yes", "rejected": "no"}
LABEL = {"prompt": "Q?", "completion": "yes", "label": True}
RANK = {"prompt": "Q?", "responses": ["a", "b", "c"], "ranks": [1, 1, None]}
FIRST = "\n\nHuman: Q?\n\nAssistant: yes"
HH = {"chosen": FIRST, "rejected": "\n\nHuman: Q?\n\nAssistant: no"}
ULTRA = {
    "instruction": "Q?",
    "completions": [
        {"model": "m", "response": "a", "annotations": {"helpfulness": {"Rating": "4", "Rationale": "ok"}}},
        {"model": "n", "response": "b", "annotations": {"helpfulness": {"Rating": "N/A"}}},
    ],
}
ARGILLA = {
    "fields": {"prompt": "Q?", "response_1": "a", "response_2": "b"},
    "responses": {"preference": [{"value": "response_2", "user_id": "u1"}, {"value": "tie", "user_id": "u2"}]},
    "suggestions": {"preference": {"value": "response_1", "agent": "judge"}},
}
STUDIO = {
    "data": {"prompt": "Q?", "answer1": "a", "answer2": "b"},
    "annotations": [
        {
            "completed_by": 3,
            "created_at": "2026-01-02T03:04:05.678901Z",
            "lead_time": 1.5,
            "result": [
                {"type": "pairwise", "from_name": "pw", "to_name": "answer2,answer1", "value": {"selected": "left"}}
            ],
        }
    ],
}


def changed(row, **values):
    found = json.loads(json.dumps(row))
    for name, value in values.items():
        held = found
        *path, last = name.split("__")
        for part in path:
            held = held[int(part) if part.isdecimal() else part]
        held[int(last) if last.isdecimal() else last] = value
    return found


@pytest.mark.parametrize(
    ("format", "good", "bad", "why"),
    [
        ("preference", PAIR, {"prompt": "Q?", "chosen": "yes"}, "rejected: is missing"),
        ("preference", PAIR, changed(PAIR, prompt=" "), "prompt: is empty"),
        ("preference", PAIR, changed(PAIR, prompt=[{"role": "boss", "content": "x"}]), "prompt[0].role"),
        ("preference", PAIR, changed(PAIR, rejected="yes"), "are both 'yes'"),
        ("preference", PAIR, changed(PAIR, rejected=""), "rejected: is empty"),
        ("preference", PAIR, changed(PAIR, chosen="\ud800"), "half a character"),
        ("preference", PAIR, changed(PAIR, chosen="a\0"), "NUL"),
        ("preference", PAIR, changed(PAIR, split="holdout"), "did you mean 'test'"),
        ("preference", PAIR, {"chosen": "abc", "rejected": "xyz"}, "no common beginning"),
        ("preference", PAIR, [1], "found [1]"),
        ("kto", LABEL, changed(LABEL, label="perhaps"), "label: is 'perhaps'"),
        ("kto", LABEL, {"prompt": "Q?", "label": True}, "completion: is missing"),
        ("hh", HH, changed(HH, chosen="Human: Q?"), "chosen: ends with a turn by user"),
        ("hh", HH, changed(HH, chosen="\n\nHuman: other\n\nAssistant: yes"), "already differ before the last turn"),
        ("ranking", RANK, changed(RANK, ranks=[1, 2]), "ranks: is [1, 2]"),
        ("ranking", RANK, changed(RANK, ranks=[None, None, None]), "nothing was ranked"),
        ("ranking", RANK, changed(RANK, ranks=[1.5, 1, 1]), "ranks: is 1.5"),
        ("ultrafeedback", ULTRA, changed(ULTRA, completions=[]), "completions: is []"),
        (
            "ultrafeedback",
            ULTRA,
            changed(ULTRA, completions__0__annotations__helpfulness__Rating="much"),
            "completions.0.annotations.helpfulness.Rating: is 'much'",
        ),
        ("argilla", ARGILLA, changed(ARGILLA, fields={"response": "a"}), "fields: are ['response']"),
        ("argilla", ARGILLA, changed(ARGILLA, fields__response_1="b"), "the same text"),
        ("label-studio", STUDIO, changed(STUDIO, data={"answer1": "a"}), "data: has ['answer1']"),
        ("label-studio", STUDIO, changed(STUDIO, annotations=3), "annotations: is 3"),
    ],
)
def test_a_wrong_row_is_named_and_the_others_are_read(format, good, bad, why, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([json.dumps(good), "", json.dumps(bad), "{oops", json.dumps(good), '{"a": NaN}']))
    found = read_in(path, format)
    assert [line for line, _ in found.rejected] == [3, 4, 6]
    assert why in found.rejected[0][1]
    assert "not valid JSON" in found.rejected[1][1]
    whole = read_in(_file(tmp_path, good, good), format)
    assert whole.rejected == []
    assert (found.rows, found.votes) == (whole.rows, whole.votes)


def _file(tmp_path, *rows):
    path = tmp_path / "whole.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    return path


@pytest.mark.parametrize(
    ("format", "row", "why"),
    [
        ("argilla", changed(ARGILLA, responses__preference__0__value="response_9"), "answer of 'u1'"),
        ("argilla", changed(ARGILLA, responses__preference__0__value=4), "answer of 'u1'"),
        ("label-studio", changed(STUDIO, annotations__0__lead_time="long"), "annotations.0: lead_time"),
        ("label-studio", changed(STUDIO, annotations__0__created_at="today"), "annotations.0: created_at"),
        ("label-studio", changed(STUDIO, annotations__0__result__0__type="brush"), "annotations.0: result.0.type"),
        ("label-studio", changed(STUDIO, annotations__0__result__0__value={"selected": "up"}), "selected: is 'up'"),
    ],
)
def test_one_wrong_answer_does_not_take_the_others_along(format, row, why, tmp_path):
    path = tmp_path / "export.json"
    path.write_text(
        json.dumps([{"ARGILLA": ARGILLA}.get(format, ARGILLA), row] if format == "argilla" else [row], indent=1)
    )
    found = read_in(path, format)
    assert len(found.rejected) == 1
    line, told = found.rejected[0]
    assert why in told
    assert path.read_text().split("\n")[line - 1].strip() == "{"


def test_what_platforms_say_is_understood(tmp_path):
    found = read_in(_file(tmp_path, ARGILLA), "argilla")
    assert {v.annotator: v.answer["preferred"] for v in found.votes} == {"u1": 1, "u2": None, "suggestion:judge": 0}
    old = {
        "fields": {"instruction": "Q?", "text-1": "a"},
        "responses": [
            {"user_id": "u", "status": "submitted", "values": {"helpful": {"value": 4}, "ok": {"value": "yes"}}},
            {"user_id": "w", "status": "discarded", "values": None},
        ],
        "suggestions": [{"question_name": "helpful", "value": 5, "agent": None}],
    }
    found = read_in(_file(tmp_path, old), "argilla")
    assert found.rejected == []
    assert sorted(found.kinds) == ["binary", "rating"]
    assert {v.annotator for v in found.votes if v.answer is None} == {"w"}
    found = read_in(_file(tmp_path, STUDIO), "label-studio")
    (vote,) = found.votes
    assert (vote.answer["preferred"], vote.shown, vote.active_ms, vote.annotator) == (1, (1, 0), 1500, "3")
    assert vote.made_at == "2026-01-02T03:04:05.678901Z"


@pytest.mark.parametrize(
    "spelled", [json.dumps(PAIR), json.dumps([PAIR], indent=2), "\ufeff" + json.dumps(PAIR) + "\r\n"]
)
def test_lines_arrays_and_marks_are_read_alike(spelled, tmp_path):
    path = tmp_path / "pairs.json"
    path.write_bytes(spelled.encode())
    assert len(read_in(path, "preference").rows) == 1


@pytest.mark.parametrize(
    ("row", "prompt", "responses"),
    [
        ({"chosen": "Say hi. Hello", "rejected": "Say hi. Hm"}, "Say hi. H", ("ello", "m")),
        ({"chosen": "Q: A", "rejected": "Q: B"}, "Q:", (" A", " B")),
        (
            {
                "chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
                "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}],
            },
            "Q",
            ("A", "B"),
        ),
    ],
)
def test_a_prompt_within_the_responses_is_found_as_trl_does(row, prompt, responses, tmp_path):
    found = read_in(_file(tmp_path, row), "preference")
    (item,) = found.rows
    assert (item.prompt if isinstance(item.prompt, str) else item.prompt[0].content) == prompt
    assert item.responses == responses


@pytest.mark.parametrize(
    ("format", "data", "where"),
    [
        ("preference", b"", "line 1"),
        ("preference", b'{"a":1}\n\xff', "line 2"),
        ("argilla", b'[\n{"a": 1},\n{"b": \n', "line 4"),
        ("argilla", b'[{}]\n\n["more"]', "line 3"),
        ("csv", b'kind,prompt\npairwise,"open', "line 2"),
        ("csv", b"kind,prompt,kind\n", "line 1"),
        ("csv", b"question,answer\nQ?,A\n", "line 1"),
        ("csv", b"prompt,chosen\nQ?,A\n", "line 1, rejected"),
        ("parquet", b"no parquet", "file"),
        ("judgments", b'{"record":"item"}\n', "line 1"),
        ("hh", b"\x1f\x8bbroken", "rows"),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_one_error(format, data, where, tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_in(path, format)
    assert str(path) in caught.value.where
    assert where in caught.value.where
    assert caught.value.what
    assert caught.value.expected
    assert caught.value.fix


def test_an_unknown_format_and_a_missing_file_say_so(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'parquet'"):
        read_in(tmp_path / "x", "parket")
    with pytest.raises(DataError, match="cannot be read"):
        read_in(tmp_path / "x", "hh")


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ('pairwise,Q?,"[""a""]",,', "1 responses"),
        ('paired,Q?,"[""a"",""b""]",,', "did you mean 'pairwise'"),
        ("pairwise,Q?,oops,,", "responses: is 'oops'"),
        ('pairwise,Q?,"[""a"",""b""]",ada,"{""preferred"":2,""strength"":1}"', "names the response 2"),
        ('pairwise,Q?,"[""a"",""b""]",ada,', "there is no answer"),
        ("pairwise,Q?", "2 cells"),
    ],
)
def test_wrong_rows_of_a_csv_have_the_line_they_begin_in(cells, why, tmp_path):
    path = tmp_path / "rows.csv"
    good = 'pairwise,"two\nlines","[""a"",""b""]",ada,"{""preferred"":0,""strength"":1}"'
    path.write_text(
        "\n".join(["kind,prompt,responses,annotator,answer", good, cells, good.replace("ada", "bob")]) + "\n"
    )
    found = read_in(path, "csv")
    assert [line for line, _ in found.rejected] == [4]
    assert why in found.rejected[0][1]
    assert len(found.rows) == 1
    assert [v.annotator for v in found.votes] == ["ada", "bob"]


def test_tables_of_preferences_and_labels_are_read_too(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,chosen,rejected\nQ?,'=1,no\n")
    assert read_in(path, "csv").rows[0].responses == ("=1", "no")
    chat = [{"role": "user", "content": "Q?"}]
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.Table.from_pylist([{"prompt": chat, "completion": "yes", "label": True}]), path)
    found = read_in(path, "parquet")
    assert found.kind == "binary"
    assert found.rows[0].prompt[0].content == "Q?"


def small(stream="main"):
    item = ItemRow("i", "pairwise", stream, "train", "p", "Q?", (ResponseRow("a", "yes"), ResponseRow("b", "no")))
    answer = {"kind": "pairwise", "preferred": "a", "strength": 2, "both_bad": False}
    return Judged("small", {"i": item}, (JudgmentRow("j", "i", "ada", answer, (), "2026-01-31T12:00:00.000000Z"),))


@pytest.mark.parametrize("format", ["argilla", "label-studio"])
def test_surplus_leaves_only_where_it_is_marked(format, tmp_path):
    one = small()
    late = replace(one.judgments[0], id="k", annotator="bob", surplus=True)
    both = replace(one, judgments=(*one.judgments, late))
    alone, done = write_out(one, tmp_path / "a", format), write_out(both, tmp_path / "b", format)
    assert done.path.read_bytes() == alone.path.read_bytes()
    assert any("surplus" in why for _, why in done.left_out)
    marked = read_in(write_out(both, tmp_path / "c.csv", "csv").path, "csv")
    assert [(vote.annotator, vote.surplus) for vote in marked.votes] == [("ada", False), ("bob", True)]


def test_a_changed_file_of_judgments_is_refused_with_its_line(tmp_path):
    path = write_out(small(), tmp_path / "j.jsonl", "judgments").path
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:2], lines[2].replace('"preferred":"a"', '"preferred":"c"'), lines[2]]))
    with pytest.raises(DataError, match="line 3"):
        read_judged(path)
    found = read_in(path, "judgments")
    assert [line for line, _ in found.rejected] == [3]
    assert len(found.votes) == 1


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"csv", "parquet", "judgments"}))
def test_hidden_items_never_leave_in_a_format_without_streams(format, tmp_path):
    for stream in ("gold", "attention", "repeat", "calibration"):
        with pytest.raises(DataError, match="nothing is left"):
            write_out(small(stream), tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = write_out(small(), tmp_path / "out.jsonl", "preference").path
    held = path.read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("trueup.ledger.files.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_out(small(), path, "judgments")
    assert path.read_bytes() == held
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]
    monkeypatch.undo()
    with pytest.raises(UsageError, match="directory"):
        write_out(small(), tmp_path, "preference")


GOOD = {
    "preference": PAIR,
    "kto": LABEL,
    "hh": HH,
    "ranking": RANK,
    "ultrafeedback": ULTRA,
    "argilla": ARGILLA,
    "label-studio": STUDIO,
}
odd = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=3)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=3,
)


def places(value, path=()):
    """The path of everything inside."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from places(one, (*path, name))


@pytest.mark.parametrize("format", [*sorted(GOOD), "judgments"])
def test_any_value_in_any_place_is_taken_or_refused_with_its_line(format, tmp_path):
    lines = [json.dumps(GOOD[format])] if format in GOOD else None
    if lines is None:
        lines = write_out(small(), tmp_path / "good", format).path.read_text().splitlines()
    where = [(n, path) for n, line in enumerate(lines) for path in places(json.loads(line)) if n or format in GOOD]

    @given(spot=st.sampled_from(where), value=odd)
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def check(spot, value):
        number, path = spot
        assume(path or not isinstance(value, list))  # a list in the first line is an array of rows
        row = json.loads(lines[number])
        held = [row]
        for name in (0, *path)[:-1]:
            held = held[name]
        held[(0, *path)[-1]] = value
        wrong = [*lines[:number], json.dumps(row if path else value), *lines[number + 1 :]]
        (tmp_path / "wrong").write_text("\n".join(wrong))
        found = read_in(tmp_path / "wrong", format)
        assert all(1 <= line <= len(wrong) for line, _ in found.rejected)
        assert found.rows or found.rejected

    check()


@given(column=st.sampled_from(COLUMNS), cell=st.one_of(st.text(max_size=6), odd.map(json.dumps)))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cell_in_any_column_is_taken_or_refused(column, cell, tmp_path):
    row = {"kind": "pairwise", "prompt": "Q?", "responses": '["a","b"]', "annotator": "ada"}
    row |= {"answer": '{"preferred":0,"strength":1}', column: cell}
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        table = csv.DictWriter(file, row, lineterminator="\r\n")
        table.writeheader()
        table.writerow(row)
    try:
        found = read_in(tmp_path / "rows.csv", "csv")
    except DataError as error:
        if "UTF-8" not in str(error) and "CSV" not in str(error):
            raise
    else:
        assert len(found.rows) + len(found.rejected) >= 1
