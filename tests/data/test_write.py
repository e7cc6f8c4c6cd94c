"""Writing: whole or not at all, and read back the same."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.data.read import read_pairs
from trueup.data.write import pair_from_json, pair_to_json, write_jsonl, write_pairs
from trueup.errors import DataError
from trueup.types import Message, PreferencePair

said = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
turn = st.builds(Message, st.just("user"), said)
prompts = st.one_of(said, st.lists(turn, min_size=1, max_size=3).map(tuple))


@st.composite
def pairs(draw):
    chosen = draw(said)
    rejected = draw(said.filter(lambda t: t != chosen))
    strength = draw(st.floats(0.5, 1.0, exclude_min=True))
    origin = tuple(draw(st.lists(st.text("abc:", min_size=1, max_size=5), max_size=2)))
    return PreferencePair(draw(prompts), chosen, rejected, strength, origin, draw(st.sampled_from(["", "p-7"])))


@settings(max_examples=50, deadline=None)
@given(items=st.lists(pairs(), min_size=1, max_size=4))
def test_pairs_come_back_as_they_were_written(tmp_path_factory, items):
    path = write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", items)
    loaded = read_pairs(path)
    assert list(loaded.items) == items
    assert loaded.report.unused_columns == ()
    assert [pair_from_json(pair_to_json(p)) for p in items] == items


def test_folders_are_made_and_text_stays_readable(tmp_path):
    path = write_jsonl(tmp_path / "new" / "rows.jsonl", [{"prompt": "naïve 日本"}, {"prompt": "b"}])
    assert path.read_text(encoding="utf-8") == '{"prompt": "naïve 日本"}\n{"prompt": "b"}\n'


@pytest.mark.parametrize("bad", [math.nan, math.inf, "\ud800", {1, 2}])
def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path, bad):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"x": 1}])
    with pytest.raises(DataError, match="row 2 cannot be written") as caught:
        write_jsonl(path, [{"x": 2}, {"x": bad}])
    assert caught.value.where == str(path)
    assert json.loads(path.read_text()) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_failing_source_of_rows_leaves_the_old_file(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"x": 1}])

    def rows():
        yield {"x": 2}
        raise RuntimeError("torn")

    with pytest.raises(RuntimeError, match="torn"):
        write_jsonl(path, rows())
    assert json.loads(path.read_text()) == {"x": 1}


def test_a_pair_without_its_fields_is_refused():
    with pytest.raises(DataError, match="fields are missing: rejected"):
        pair_from_json({"prompt": "p", "chosen": "c"})


@pytest.mark.parametrize(("given", "name"), [(None, None), ("", None), ("x", "x"), (0, "0")])
def test_a_pair_from_json_has_the_name_that_a_reader_would_give_it(given, name):
    pair = pair_from_json({"prompt": "p", "chosen": "c", "rejected": "r", "pair_id": given})
    assert pair.pair_id == (name or pair.key)
    with pytest.raises(DataError, match=r"is 1\.5, a number"):
        pair_from_json({"prompt": "p", "chosen": "c", "rejected": "r", "pair_id": 1.5})
