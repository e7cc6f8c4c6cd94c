"""Training files in and out of the store, with the real ones beside the repository."""

import csv
import gzip
import json
from itertools import combinations
from pathlib import Path

import pytest

from trueup.errors import DataError
from trueup.feedback.exchange.formats import read_in, write_out
from trueup.feedback.exchange.landing import land
from trueup.feedback.reading import read_project

DATA = Path(__file__).parents[4] / "shared" / "data"
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


def _lines(name):
    with gzip.open(DATA / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@real
@pytest.mark.real_data
def test_three_real_annotators_keep_their_agreement_on_the_way_through(store, tmp_path):
    """The reference values beside the data were made with other libraries."""
    path = tmp_path / "pandalm.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["item", "kind", "prompt", "responses", "annotator", "answer"])
        refused = 0
        for row in _lines("annotators/pandalm_three_annotators.jsonl.gz"):
            texts = [row["response1"], row["response2"]]
            refused += 3 * (len(set(texts)) < 2 or not all(text.strip() for text in texts))
            for name in ("annotator1", "annotator2", "annotator3"):
                said = row[name]
                answer = {"preferred": said - 1, "strength": 2} if said else {"strength": 0}
                prompt = "\n".join((row["instruction"], row["input"]))
                table.writerow([row["idx"], "pairwise", prompt, json.dumps(texts), name, json.dumps(answer)])
    found = read_in(path, "csv")
    assert len(found.votes) + len(found.rejected) == 3 * 595
    assert len(found.rejected) == refused
    assert 3 * len(found.rows) == len(found.votes)
    landed = land(store, found, "pandalm")
    out = read_in(write_out(read_project(store, landed.project), tmp_path / "out", "label-studio").path, "label-studio")
    assert out.rejected == []
    by_item = {}
    for said in out.votes:
        by_item.setdefault(said.item, []).append(-1 if said.answer["preferred"] is None else said.answer["preferred"])
    assert len(by_item) == len(found.rows)
    unanimous = sum(len(set(told)) == 1 for told in by_item.values())
    assert unanimous / len(by_item) == pytest.approx(0.882353, abs=0.02)  # of all 595, some of which cannot be judged


@real
@pytest.mark.real_data
def test_real_rankings_come_in_with_all_their_pairs(store, tmp_path):
    groups = []

    def walk(node, before):
        said = (*before, {"role": "user" if node["role"] == "prompter" else "assistant", "content": node["text"]})
        ranked = [reply for reply in node.get("replies", ()) if reply.get("rank") is not None]
        if len(ranked) > 1:
            groups.append(
                {"prompt": said, "responses": [r["text"] for r in ranked], "ranks": [r["rank"] for r in ranked]}
            )
        for reply in node.get("replies", ()):
            walk(reply, said)

    for tree in _lines("rankings/oasst_trees.jsonl.gz"):
        walk(tree["prompt"], ())
    path = tmp_path / "ranked.jsonl"
    path.write_text("".join(json.dumps(group) + "\n" for group in groups), encoding="utf-8")
    found = read_in(path, "ranking")
    assert len(found.rows) == 122
    assert found.rejected == []
    assert sum(len(list(combinations(said.answer["tiers"], 2))) for said in found.votes) == 446
    landed = land(store, found, "oasst")
    done = write_out(read_project(store, landed.project), tmp_path / "out", "ranking")
    again = read_in(done.path, "ranking")
    order = {(r.prompt, r.responses): v.answer["tiers"] for r, v in zip(found.rows, found.votes, strict=True)}
    for row, said in zip(again.rows, again.votes, strict=True):
        assert order[row.prompt, row.responses] == said.answer["tiers"]
    assert len(again.rows) + len(done.left_out) == 122
    assert len(done.left_out) < 5
