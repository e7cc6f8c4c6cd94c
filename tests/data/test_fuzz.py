"""Any value in any column: every reader gives items or an error that names the line, never another exception."""

import contextlib
import csv
import gzip
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueup.data.check import check_file
from trueup.data.read import KINDS, Reading
from trueup.data.verdicts import SIDES, VERDICTS
from trueup.errors import DataError

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "good"}]
TREE = {
    "role": "prompter",
    "text": "Hi",
    "message_id": "m",
    "replies": [{"role": "assistant", "text": t, "rank": n, "replies": []} for n, t in enumerate("ab")],
}
SOUND = [
    {"prompt": "p", "chosen": "a", "rejected": "b", "strength": 0.9, "pair_id": "i", "origin": ["o"], "system": "s"},
    {"prompt": TURNS[:1], "chosen": TURNS, "rejected": [TURNS[0], {"role": "assistant", "content": "bad"}]},
    {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    {"conversations": [{"from": "human", "value": "Hi"}], "chosen": "a", "rejected": "b"},
    {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 3], "origin": "o"},
    {"prompt": "p", "responses": ["a", "b"], "ratings": [{"x": 1}, {"x": {"Rating": "2"}}]},
    {
        "instruction": "p",
        "completions": [{"response": "a", "annotations": {"x": {"Rating": "1"}}}, {"text": "b", "score": 2}],
    },
    {"prompt": "p", "completion": "a", "rating": 1},
    {"prompt": TREE},
    {"prompt": "p", "output_1": "a", "output_2": "b", "label": 2, "pair_id": 0},
    {"prompt": "p", "responses": ["a", "b"], "winner": "a"},
    {
        "conversation_a": TURNS,
        "conversation_b": [TURNS[0], {"role": "assistant", "content": "bad"}],
        "winner": "model_a",
    },
    {"instruction": "p", "response1": "a", "response2": "b", "annotator1": 1, "annotator2": 2},
    {"instruction": "p", "input": "i", "output": "o", "history": [["q", "a"]], "system": "s", "context": "c"},
    {"instruction": "p", "instances": [{"input": "i", "output": "o"}]},
    {"question": "q", "answer": "a", "context": "c"},
    {"prompt": "p", "completion": "c", "label": True},
    {"prompt": "p", "completion_a": "a", "completion_b": "b", "a_acceptable": 1, "b_acceptable": "no"},
    {"messages": [*TURNS[:1], {"role": "assistant", "content": [{"type": "text", "text": "x"}]}], "kto_tag": False},
    {"text": "t"},
    {"turns": ["t"]},
]
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(
        [10**400, -(10**400), 1e308, 1e400, float("nan"), -0.0, 0.5, "", " ", "0", "1.0", "tie", "[]", "[{", "nan"]
    ),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["\ud83d", "a\udc00b", "\x00", "<|im_start|>", "[['a', 'b']]", "\n\nHuman: a", "assistant", "A"]),
)
field = st.sampled_from(
    ["role", "content", "from", "value", "text", "rank", "replies", "response", "annotations", "\ud83d", "x"]
)
anything = st.recursive(
    odd, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(field, inner, max_size=3)), max_leaves=8
)


def within(draw, value):
    """``value`` with one thing in it, however deep, exchanged for anything."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        return value | {name: within(draw, value[name])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], within(draw, value[at]), *value[at + 1 :]]
    return draw(anything)


@st.composite
def rows(draw):
    row = draw(st.sampled_from(SOUND))
    for _ in range(draw(st.integers(1, 2))):
        row = within(draw, row) if draw(st.integers(0, 9)) else {**row, draw(st.sampled_from(NAMES)): draw(anything)}
        if not isinstance(row, dict) or not row:
            return row
    return row


NAMES = sorted({name for row in SOUND for name in row} | set(VERDICTS) | {side for two in SIDES for side in two})
quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def read_all(path):
    """Whether everything that reads the file gives items or says what is wrong, and where."""
    for kind in KINDS:
        for on_bad in ("error", "skip"):
            try:
                loaded = Reading(path, kind, on_bad=on_bad).load()
            except DataError as error:
                said = [error.where, str(error)]
            else:
                assert loaded.items
                said = [str(path), json.dumps(loaded.report.to_dict(), ensure_ascii=False), *loaded.report.remarks()]
            assert said[0].startswith(str(path)), said
            "".join(said).encode()
    with contextlib.suppress(DataError):
        report = check_file(path)
        report.format_text().encode()
        json.dumps(report.to_dict(), ensure_ascii=False).encode()


@quick
@given(given=st.lists(rows(), min_size=1, max_size=3))
def test_json_lines(tmp_path_factory, given):
    path = tmp_path_factory.mktemp("fuzz") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    read_all(path)


@quick
@given(given=st.lists(rows(), min_size=1, max_size=3), indent=st.sampled_from([None, 1]), cut=st.integers(0, 40))
def test_arrays_whole_and_cut(tmp_path_factory, given, indent, cut):
    path = tmp_path_factory.mktemp("fuzz") / "rows.json"
    whole = json.dumps(given, indent=indent)
    path.write_text(whole[: len(whole) - cut] if cut < 20 else whole)
    read_all(path)


@quick
@given(given=st.lists(rows(), min_size=1, max_size=3), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_csv(tmp_path_factory, given, quoting):
    path = tmp_path_factory.mktemp("fuzz") / "rows.csv"
    names = sorted({str(name) for row in given if isinstance(row, dict) for name in row}) or ["prompt"]
    written = io.StringIO()
    table = csv.writer(written, quoting=quoting)
    table.writerow(names)
    for row in given:
        cells = [row.get(name) for name in names] if isinstance(row, dict) else [row]
        table.writerow([json.dumps(c) if isinstance(c, (list, dict)) else c for c in cells])
    path.write_bytes(written.getvalue().encode("utf-8", "surrogatepass"))
    read_all(path)


@quick
@given(given=st.lists(rows(), min_size=1, max_size=3))
def test_parquet(tmp_path_factory, given):
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.Table.from_pylist([row for row in given if isinstance(row, dict)])
        path = tmp_path_factory.mktemp("fuzz") / "rows.parquet"
        pq.write_table(table, path)
    except (pa.ArrowException, OverflowError, UnicodeError, ValueError, TypeError):
        return  # no table can hold it
    read_all(path)


@quick
@given(data=st.binary(max_size=60), flips=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3))
def test_bytes_that_are_no_rows(tmp_path_factory, data, flips):
    whole = bytearray(json.dumps(SOUND[0]).encode() + b"\n" + data)
    for at, byte in flips:
        whole[at % len(whole)] = byte
    folder = tmp_path_factory.mktemp("fuzz")
    for name, content in (("a.jsonl", whole), ("a.json", b"[" + whole), ("a.csv", whole), ("a.txt", data or b"x")):
        (folder / name).write_bytes(bytes(content))
        read_all(folder / name)
    zipped = bytearray(gzip.compress(bytes(whole)))
    for at, byte in flips:
        zipped[at % len(zipped)] = byte
    (folder / "a.jsonl.gz").write_bytes(bytes(zipped))
    read_all(folder / "a.jsonl.gz")


@pytest.mark.parametrize("depth", [50, 2000, 100_000])
def test_deep_values(tmp_path, depth):
    path = tmp_path / "deep.jsonl"
    path.write_text('{"prompt": ' + "[" * depth + "]" * depth + ', "chosen": "a", "rejected": "b"}\n')
    read_all(path)
    path.write_text('{"prompt": "p", "chosen": "a", "rejected": "b", "more": ' + "[" * depth + "]" * depth + "}\n")
    read_all(path)
