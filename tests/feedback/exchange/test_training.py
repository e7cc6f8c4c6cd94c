"""Training files in and out of the store, with the real ones beside the repository."""

import json
from pathlib import Path

import pytest

from trueup.errors import DataError
from trueup.feedback.exchange.formats import read_in, write_out
from trueup.feedback.exchange.landing import land
from trueup.feedback.reading import read_project

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the shared real data is not beside the repository")


@real
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("format", "name", "rows", "rejected"),
    [
        ("hh", "hh_harmless", 1193, {498: "a response is empty", 592: "a response is empty"}),
        ("preference", "dpo_demo_sharegpt", 297, {}),
        ("kto", "kto_demo_binary", 194, {}),
    ],
)
def test_real_files_come_in_whole(format, name, rows, rejected):
    found = read_in(DATA / "preference" / f"{name}.jsonl.gz", format)
    assert len(found.rows) + len(found.rejected) == rows
    assert {line for line, _ in found.rejected} == set(rejected)
    assert all(rejected[line] in why for line, why in found.rejected)
    assert len(found.votes) == len(found.rows)


@real
@pytest.mark.real_data
def test_a_real_file_goes_through_the_store_and_comes_out_the_same(store, tmp_path):
    source = DATA / "preference" / "hh_harmless.jsonl.gz"
    landed = land(store, read_in(source, "hh"), "harmless")
    judged = read_project(store, landed.project)
    done = write_out(judged, tmp_path / "out.jsonl", "hh")
    again = read_in(done.path, "hh")
    first = read_in(source, "hh")
    chosen = {(r.prompt, r.responses, v.answer["preferred"]) for r, v in zip(first.rows, first.votes, strict=True)}
    out = {(r.prompt, r.responses, v.answer["preferred"]) for r, v in zip(again.rows, again.votes, strict=True)}
    assert out <= chosen
    assert len(out) + len({name for name, _ in done.left_out}) == len(first.rows)
    assert len(done.left_out) < 10


def test_a_wrong_row_is_counted_with_its_line(tmp_path):
    path = tmp_path / "pairs.jsonl"
    good = {"prompt": "Q?", "chosen": "yes", "rejected": "no"}
    path.write_text("\n".join([json.dumps(good), "", "{", json.dumps(good | {"rejected": "yes"})]))
    found = read_in(path, "preference")
    assert [line for line, _ in found.rejected] == [3, 4]
    assert found.rows[0].responses == ("no", "yes")
    assert found.votes[0].answer == {"preferred": 1, "strength": 2}


def test_a_file_that_is_no_text_is_one_error(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b'{"a": 1}\n\xff\xfe')
    with pytest.raises(DataError, match="line 2") as caught:
        read_in(path, "preference")
    assert str(path) in caught.value.where
    assert caught.value.expected
    assert caught.value.fix
