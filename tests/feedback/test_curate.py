"""Snapshots: what gets in, what never does, the account of the rest, and the same bytes for the same input."""

import hashlib
import json
from dataclasses import replace

import pytest

from trueup.data.read import read_demonstrations, read_labelled, read_pairs, read_ranked
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


def answered(name, kind, who, answer, responses):
    return JudgmentRow(f"j-{name}-{who}", name, who, {"kind": kind, **answer}, responses, "2026-01-31T12:00:00Z")


def of_kind(name, kind, texts, prompt=None):
    responses = tuple(ResponseRow(f"{name}-{n}", text) for n, text in enumerate(texts))
    return ItemRow(name, kind, "main", "train", f"p-{name}", prompt or f"Q {name}?", responses)


def test_yes_and_no_become_labels_that_trainers_read(tmp_path):
    items = [of_kind(name, "binary", [f"answer {name}"]) for name in ("good", "bad", "split")]
    given = {"good": (True, True, True), "bad": (False, False, True), "split": (True, False)}
    cast = [
        answered(name, "binary", who, {"response": f"{name}-0", "acceptable": yes}, (f"{name}-0",))
        for name, verdicts in given.items()
        for who, yes in zip("uvw", verdicts, strict=False)
    ]
    done = curate(project(items, cast), None, tmp_path / "s", format="kto", method="majority")
    rows_by_item = {row["item"]: row for row in rows(done)["train"]}
    assert {name: row["label"] for name, row in rows_by_item.items()} == {"good": True, "bad": False}
    assert rows_by_item["good"]["strength"] == 1.0
    assert rows_by_item["bad"]["strength"] == pytest.approx(2 / 3)
    assert done.manifest["pairs_dropped"] == {"a tie": 1}
    read = read_labelled(str(done.files["train"])).items
    assert {(one.completion, one.desirable) for one in read} == {("answer good", True), ("answer bad", False)}


def test_rankings_become_one_order_that_trainers_read(tmp_path):
    items = [of_kind("r", "ranking", ["best", "middle", "worst"]), of_kind("flat", "ranking", ["a", "b", "c"])]
    tiers = {
        "r": ([["r-0"], ["r-1"], ["r-2"]], [["r-0"], ["r-2"], ["r-1"]], [["r-0", "r-1"], ["r-2"]]),
        "flat": ([["flat-0", "flat-1", "flat-2"]],),
    }
    cast = [
        answered(name, "ranking", who, {"tiers": order}, tuple(f"{name}-{n}" for n in range(3)))
        for name, orders in tiers.items()
        for who, order in zip("uvw", orders, strict=False)
    ]
    done = curate(project(items, cast), None, tmp_path / "s", format="ranking")
    (row,) = rows(done)["train"]
    assert (row["responses"], row["ranks"], row["n_votes"]) == (["best", "middle", "worst"], [0, 1, 2], 3)
    assert done.manifest["pairs_dropped"] == {"a tie": 1}
    (read,) = read_ranked(str(done.files["train"])).items
    assert [read.responses[n] for n in sorted(range(3), key=lambda n: read.ranks[n])] == ["best", "middle", "worst"]


def test_edits_become_demonstrations_that_trainers_read(tmp_path):
    items = [of_kind("e", "edit", ["a rough answer"]), of_kind("same", "edit", ["kept as it was"])]
    cast = [
        answered("e", "edit", "u", {"response": "e-0", "text": "a good answer"}, ("e-0",)),
        answered("same", "edit", "u", {"response": "same-0", "text": "kept as it was "}, ("same-0",)),
    ]
    done = curate(project(items, cast), None, tmp_path / "s", format="sft")
    (row,) = rows(done)["train"]
    assert row["completion"] == "a good answer"
    assert done.manifest["pairs_dropped"] == {"same text on both sides": 1}
    (read,) = read_demonstrations(str(done.files["train"])).items
    assert (read.prompt, read.completion) == ("Q e?", "a good answer")
