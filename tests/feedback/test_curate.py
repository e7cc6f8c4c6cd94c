"""Snapshots: what gets in, what never does, the account of the rest, and the same bytes for the same input."""

import hashlib
import json
from dataclasses import replace

import pytest

from trueup.data.read import read_pairs
from trueup.errors import UsageError
from trueup.feedback.curate import curate
from trueup.feedback.quality import report
from trueup.feedback.records import ItemRow, Judged, JudgmentRow, ResponseRow
from trueup.feedback.simulate import Memory, Planted, crowd, plant, work

ODD = (Planted("spam-random", spam="random"), Planted("spam-left", spam="left"), Planted("spam-fast", spam="fast"))


def simulated(seed, odd=(), items=250):
    world = plant(items, seed=seed, repeats=0.1)
    memory = Memory(world, overlap=4, seed=seed)
    work(world, crowd(8, seed=seed, odd=odd), memory, seed=seed)
    return memory.judged()


def item(name, a="yes", b="no", stream="main", split="train", prompt="Q?", repeat_of=None, gold=None):
    responses = (ResponseRow(f"{name}-a", a), ResponseRow(f"{name}-b", b))
    return ItemRow(name, "pairwise", stream, split, f"p-{prompt}", prompt, responses, repeat_of, gold)


def vote(name, who, side, number=0):
    answer = {"kind": "pairwise", "preferred": f"{name}-{side}", "strength": 2}
    return JudgmentRow(
        f"j-{name}-{who}", name, who, answer, (f"{name}-a", f"{name}-b"), f"2026-01-31T12:00:{number:02d}Z"
    )


def project(items, votes):
    return Judged("small", {one.id: one for one in items}, tuple(votes))


def rows(done):
    return {s: [json.loads(line) for line in p.read_text().splitlines()] for s, p in done.files.items()}


def test_the_same_input_gives_the_same_bytes_and_trainers_read_it(tmp_path):
    judged = simulated(1, ODD)
    one = curate(judged, None, tmp_path / "one", drop_annotators=["spam-left"])
    two = curate(judged, None, tmp_path / "two", drop_annotators=["spam-left"])
    for path in (p for p in one.path.rglob("*") if p.is_file()):
        assert path.read_bytes() == (two.path / path.relative_to(one.path)).read_bytes()
    assert not curate(judged, None, tmp_path / "one", drop_annotators=["spam-left"]).fresh
    with pytest.raises(UsageError, match="something else"):
        curate(judged, None, tmp_path / "one", method="majority")
    for entry in one.manifest["files"]:
        path = one.path / entry["path"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        pairs = read_pairs(str(path)).items
        assert [p.pair_id for p in pairs] == [r["pair_id"] for r in rows(one)[entry["split"]]]
    counts = one.manifest["counts"]
    assert counts["items"] == counts["items_used"] + sum(one.manifest["items_dropped"].values())
    assert counts["pairs"] == counts["rows"] + sum(one.manifest["pairs_dropped"].values())
    assert list(tmp_path.glob(".*")) == []
    main = {name for name, held in judged.items.items() if held.stream == "main"}
    assert {row["item"] for held in rows(one).values() for row in held} <= main


def test_hidden_doubled_and_straddling_rows_stay_out(tmp_path):
    items = [
        item("good", prompt="1"),
        item("key", prompt="2", stream="gold", gold={"preferred": "key-a"}),
        item("leak", prompt="2"),
        item("space", "same", "same ", prompt="3"),
        item("train", prompt="4"),
        item("held", "x", "y", prompt="4", stream="holdout"),
        item("again", prompt="1"),
        item("alone", prompt="5"),
    ]
    done = curate(project(items, [vote(i.id, "w", "a") for i in items if i.id != "alone"]), None, tmp_path / "s")
    found = rows(done)
    assert [r["item"] for r in found["train"]] == ["again"]  # the first id of two equal ones
    assert [r["item"] for r in found["test"]] == ["held"]
    reasons = {row["item"]: row["reason"] for row in done.manifest["dropped"]}
    assert reasons == {
        "key": "stream gold",
        "leak": "same texts as a hidden test item",
        "space": "same text on both sides",
        "train": "prompt is in the test split too",
        "good": "same texts as another item",
        "alone": "no answer",
    }


def test_an_adjudicated_answer_overrides_the_votes(tmp_path):
    items = [item("q"), item("settle", stream="adjudication", repeat_of="q")]
    votes = [*(vote("q", who, "a") for who in "uvw"), vote("settle", "judge", "b", 9)]
    (row,) = rows(curate(project(items, votes), None, tmp_path / "s"))["train"]
    assert (row["chosen"], row["strength"], row["adjudicated"]) == ("no", 1.0, True)
    assert row["origin"] == ["j-settle-judge"]
    given = {"q": {"preferred": "q-a", "strength": 1}}
    (row,) = rows(curate(project(items, votes), None, tmp_path / "t", adjudicated=given))["train"]
    assert row["chosen"] == "yes"


def test_the_card_escapes_and_loads_nothing(tmp_path):
    bad = "<script>alert(1)</script>"
    items = [item("q", bad, "no", prompt=bad)]
    votes = [replace(vote("q", bad, "a"), rationale=bad), vote("q", "v", "b")]
    votes.append(vote("q", "w", "a"))
    page = (curate(project(items, votes), None, tmp_path / "s").path / "card.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "object at 0x" not in page
    assert "src=" not in page
    assert "href=" not in page


def test_planted_spammers_are_found_and_a_clean_crowd_is_left_alone():
    """Measured over 20 clean crowds of 8: one annotator of 160 had a sign, no crowd a bias verdict."""
    signs = {a["annotator"]: a["signs"] for a in report.annotators(simulated(1, ODD, 300))["annotators"]}
    assert {name for name, found in signs.items() if found} == {one.name for one in ODD}
    wrong = sum(bool(a["signs"]) for s in range(3) for a in report.annotators(simulated(s))["annotators"])
    assert wrong <= 1


def test_one_category_is_words_not_a_number():
    items = [item("q"), item("r", prompt="2")]
    found = report.agreement(project(items, [vote(n, w, "a") for n in "qr" for w in "uv"]))
    assert found["rows"][0]["alpha"]["value"] is None
    assert found["rows"][0]["alpha"]["reason"] == "undefined: only one category used"
    json.dumps(found, allow_nan=False)
