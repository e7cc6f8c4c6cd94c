"""Training files in and out of the store, of our own and real ones where they lie beside the repository."""

import csv
import json
from itertools import combinations

import pytest

from tests.published import SOURCES, path, rows
from trueup.errors import DataError
from trueup.feedback.exchange.formats import read_in, write_out
from trueup.feedback.exchange.landing import land
from trueup.feedback.store.reading import read_project

EMPTY = "is empty"


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("format", "name", "own", "real"),
    [
        ("hh", "hh_harmless", {8: EMPTY, 21: EMPTY}, {498: EMPTY, 592: EMPTY}),
        ("preference", "dpo_demo_sharegpt", {}, {}),
        ("kto", "kto_demo_binary", {}, {}),
    ],
)
def test_files_come_in_whole(format, name, own, real, source, tmp_path):
    rejected = own if source == "own" else real
    found = read_in(path(source, f"preference/{name}", tmp_path), format)
    assert len(found.rows) + len(found.rejected) == len(rows(source, f"preference/{name}"))
    assert {line for line, _ in found.rejected} == set(rejected)
    assert all(rejected[line] in why for line, why in found.rejected)
    assert len(found.votes) == len(found.rows)


@pytest.mark.parametrize("source", SOURCES)
def test_a_file_goes_through_the_store_and_comes_out_the_same(source, store, tmp_path):
    file = path(source, "preference/hh_harmless", tmp_path)
    landed = land(store, read_in(file, "hh"), "harmless")
    judged = read_project(store, landed.project)
    done = write_out(judged, tmp_path / "out.jsonl", "hh")
    again = read_in(done.path, "hh")
    first = read_in(file, "hh")
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


@pytest.mark.parametrize("source", SOURCES)
def test_three_annotators_keep_their_agreement_on_the_way_through(source, store, tmp_path):
    """The reference values beside the real data were made with other libraries."""
    judged = rows(source, "annotators/pandalm_three_annotators")
    file_in = tmp_path / "pandalm.csv"
    with open(file_in, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["item", "kind", "prompt", "responses", "annotator", "answer"])
        refused = 0
        for row in judged:
            texts = [row["response1"], row["response2"]]
            refused += 3 * (len(set(texts)) < 2 or not all(text.strip() for text in texts))
            for name in ("annotator1", "annotator2", "annotator3"):
                said = row[name]
                answer = {"preferred": said - 1, "strength": 2} if said else {"strength": 0}
                prompt = "\n".join((row["instruction"], row["input"]))
                table.writerow([row["idx"], "pairwise", prompt, json.dumps(texts), name, json.dumps(answer)])
    found = read_in(file_in, "csv")
    assert len(found.votes) + len(found.rejected) == 3 * len(judged)
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
    whole = sum(len({row[f"annotator{k}"] for k in (1, 2, 3)}) == 1 for row in judged) / len(judged)
    assert unanimous / len(by_item) == pytest.approx(whole, abs=0.02)  # of all rows, some of which cannot be judged
    assert source == "own" or whole == pytest.approx(0.882353, abs=1e-6)


@pytest.mark.parametrize("source", SOURCES)
def test_rankings_come_in_with_all_their_pairs(source, store, tmp_path):
    count, pairs = (12, 24) if source == "own" else (122, 446)
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

    for tree in rows(source, "rankings/oasst_trees"):
        walk(tree["prompt"], ())
    file = tmp_path / "ranked.jsonl"
    file.write_text("".join(json.dumps(group) + "\n" for group in groups), encoding="utf-8")
    found = read_in(file, "ranking")
    assert len(found.rows) == count
    assert found.rejected == []
    assert sum(len(list(combinations(said.answer["tiers"], 2))) for said in found.votes) == pairs
    landed = land(store, found, "oasst")
    done = write_out(read_project(store, landed.project), tmp_path / "out", "ranking")
    again = read_in(done.path, "ranking")
    order = {(r.prompt, r.responses): v.answer["tiers"] for r, v in zip(found.rows, found.votes, strict=True)}
    for row, said in zip(again.rows, again.votes, strict=True):
        assert order[row.prompt, row.responses] == said.answer["tiers"]
    assert len(again.rows) + len(done.left_out) == count
    assert len(done.left_out) < 5
