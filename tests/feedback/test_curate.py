"""Snapshots: what gets in, what never does, the account of the rest, and the same bytes for the same input."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.collectors.planted import plant, planted_annotator, planted_panel
from trueup.collectors.simulated import MemoryQueue, collect_answers
from trueup.data.read import read_demonstrations, read_labelled, read_pairs, read_ranked
from trueup.errors import UsageError
from trueup.feedback.exchange.formats import write_out
from trueup.feedback.quality.agreement_report import agreement_report
from trueup.feedback.quality.consensus import METHODS
from trueup.feedback.quality.people import annotator_report
from trueup.feedback.snapshot.candidates import SnapshotSettings
from trueup.feedback.snapshot.curate import curate
from trueup.feedback.snapshot.selection import select_rows
from trueup.feedback.store.records import ItemRow, Judged, JudgmentRow, ResponseRow

ODD = (
    planted_annotator("spam-random", habit="random"),
    planted_annotator("spam-left", habit="left"),
    planted_annotator("spam-fast", habit="fast"),
)


def simulated(seed, odd=(), items=250):
    world = plant(items, seed=seed, repeats=0.1)
    memory = MemoryQueue(world.rows, overlap=4, seed=seed)
    collect_answers(planted_panel(8, seed=seed, odd=odd), memory, worth=world.worth, seed=seed)
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
    final = {"q": {"preferred": "q-a", "strength": 1}}
    (row,) = rows(curate(project(items, votes), None, tmp_path / "t", adjudicated=final))["train"]
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
    signs = {row.annotator: row.signs for row in annotator_report(simulated(1, ODD, 300)).annotators}
    assert {name for name, found in signs.items() if found} == {one.name for one in ODD}
    wrong = sum(bool(row.signs) for s in range(3) for row in annotator_report(simulated(s)).annotators)
    assert wrong <= 1


def test_one_category_is_words_not_a_number():
    items = [item("q"), item("r", prompt="2")]
    report = agreement_report(project(items, [vote(n, w, "a") for n in "qr" for w in "uv"]))
    assert report.rows[0].alpha.value is None
    assert report.rows[0].alpha.reason == "undefined: only one category used"
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("aaaa", "ab", "fewer than five shared items: two annotators share 2 at most"),
        ("aaaa", "aa", "fewer than five shared items: two annotators share 2 at most"),
        ("aaaaab", "aaaaa", "undefined: only one category used by any two who share five items"),
        ("aaaaaa", "aaaaa", "undefined: only one category used by any two who share five items"),
        ("aaabbb", "aabbb", ""),
        ("aaa", "aaa", "undefined: only one category used"),
        ("aaa", "", "no item was judged by two annotators"),
    ],
)
def test_kappa_says_why_it_is_undefined(first, second, said):
    items = [item(f"q{n}", prompt=str(n)) for n in range(6)]
    votes = [vote(f"q{n}", who, side) for who, sides in (("u", first), ("v", second)) for n, side in enumerate(sides)]
    kappa = agreement_report(project(items, votes)).rows[0].kappa
    assert kappa.reason == said
    assert (kappa.value is None) == bool(said)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("aab", "aa", "undefined: only one category used on items that two or more judged"),
        ("aaa", "aa", "undefined: only one category used"),
        ("ab", "", "no item was judged by two annotators"),
    ],
)
def test_alpha_says_why_it_is_undefined(first, second, said):
    items = [item(f"q{n}", prompt=str(n)) for n in range(6)]
    votes = [vote(f"q{n}", who, side) for who, sides in (("u", first), ("v", second)) for n, side in enumerate(sides)]
    assert agreement_report(project(items, votes)).rows[0].alpha.reason == said


def answered(name, kind, who, answer, responses):
    return JudgmentRow(f"j-{name}-{who}", name, who, {"kind": kind, **answer}, responses, "2026-01-31T12:00:00Z")


def of_kind(name, kind, texts, prompt=None):
    responses = tuple(ResponseRow(f"{name}-{n}", text) for n, text in enumerate(texts))
    return ItemRow(name, kind, "main", "train", f"p-{name}", prompt or f"Q {name}?", responses)


def test_yes_and_no_become_labels_that_trainers_read(tmp_path):
    items = [of_kind(name, "binary", [f"answer {name}"]) for name in ("good", "bad", "split")]
    said = {"good": (True, True, True), "bad": (False, False, True), "split": (True, False)}
    cast = [
        answered(name, "binary", who, {"response": f"{name}-0", "acceptable": yes}, (f"{name}-0",))
        for name, verdicts in said.items()
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


EVERY_METHOD = sorted(METHODS)


def tie(name, who, both_bad=False, number=0):
    answer = {"kind": "pairwise", "preferred": None, "strength": 0, "both_bad": both_bad}
    return replace(vote(name, who, "a", number), answer=answer)


def skip(name, who, number=0):
    return replace(vote(name, who, "a", number), answer=None, skip_reason="other")


CAST = st.sampled_from(["a", "b", "tie", "bad", "skip"])


@settings(max_examples=25, deadline=None)
@given(
    table=st.lists(st.lists(CAST, min_size=1, max_size=4), min_size=1, max_size=6),
    side=st.lists(st.booleans(), min_size=24, max_size=24),
    method=st.sampled_from(EVERY_METHOD),
)
def test_no_method_writes_a_side_that_nobody_chose(table, side, method):
    """Whatever people answer, in whatever order the sides stood: what is written as chosen was chosen by somebody."""
    items = [item(f"q{n}", f"yes {n}", f"no {n}", prompt=f"P{n}") for n in range(len(table))]
    cast = []
    for n, verdicts in enumerate(table):
        for k, said in enumerate(verdicts):
            make = {"tie": tie, "bad": lambda *a: tie(*a, both_bad=True), "skip": skip}.get(said)
            row = make(f"q{n}", "uvwx"[k]) if make else vote(f"q{n}", "uvwx"[k], said)
            cast.append(replace(row, shown=row.shown if side[4 * n + k] else row.shown[::-1]))
    done = select_rows(project(items, cast), SnapshotSettings(method=method))
    said = {f"q{n}": set(verdicts) for n, verdicts in enumerate(table)}
    for row in done.rows["train"]:
        assert ("a" if row["chosen"].startswith("yes") else "b") in said[row["item"]]
        assert row["strength"] > 0.5
    reasons = dict(done.dropped)
    for name, verdicts in said.items():
        if not verdicts & {"a", "b"}:
            assert reasons[name] == "no answer" if verdicts == {"skip"} else reasons[name] in ("a tie", "both bad")
    assert len(done.dropped) + len(done.rows["train"]) == len(items)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_ties_and_both_bad_are_counted_and_never_become_pairs(method, tmp_path):
    """Here a crowd that prefers what stands left would make a side of every tie."""
    items = [item(f"q{n}", f"yes {n}", f"no {n}", prompt=f"P{n}") for n in range(30)]
    cast = [vote(f"q{n}", who, "a") for n in range(24) for who in "uvw"]
    cast += [tie(f"q{n}", who) for n in range(24, 27) for who in "uvw"]
    cast += [tie(f"q{n}", who, both_bad=True) for n in range(27, 30) for who in "uvw"]
    cast.append(skip("q29", "x"))
    done = curate(project(items, cast), None, tmp_path / "s", method=method)
    assert {row["item"] for row in rows(done)["train"]} == {f"q{n}" for n in range(24)}
    assert done.manifest["pairs_dropped"] == {"a tie": 3, "both bad": 3}
    card = json.loads((done.path / "card.json").read_text())
    assert card["verdicts"]["a side chosen"] == 72
    assert (card["verdicts"]["a tie"], card["verdicts"]["both bad"], card["verdicts"]["skipped"]) == (9, 9, 1)
    assert "9 both bad" in (done.path / "card.html").read_text()


def test_a_reversed_annotator_alone_on_a_pair_is_left_out_not_turned_round():
    """Dawid and Skene's model would write the other side; nobody chose it."""
    items = [item(f"q{n}", f"yes {n}", f"no {n}", prompt=f"P{n}") for n in range(41)]
    cast = [vote(f"q{n}", who, "ab"[n % 2]) for n in range(40) for who in "uvw"]
    cast += [vote(f"q{n}", "x", "ba"[n % 2]) for n in range(41)]
    for method in ("ability", "dawid_skene"):
        done = select_rows(project(items, cast), SnapshotSettings(method=method))
        assert dict(done.dropped)["q40"] == "the method names a side that nobody chose"


def test_yes_and_no_labels_too_need_somebody_who_gave_them():
    items = [of_kind(f"k{n}", "binary", [f"answer {n}"]) for n in range(41)]

    def say(n, who, yes):
        return answered(f"k{n}", "binary", who, {"response": f"k{n}-0", "acceptable": yes}, (f"k{n}-0",))

    cast = [say(n, who, n % 2 == 0) for n in range(40) for who in "uvw"] + [say(n, "x", n % 2 == 1) for n in range(41)]
    for method in EVERY_METHOD:
        done = select_rows(project(items, cast), SnapshotSettings("kto", method))
        label = {row["item"]: row["label"] for row in done.rows["train"]}
        assert label.get("k40") in (None, False)


def test_adjudicated_ties_are_ties_and_dropped_adjudicators_do_not_count():
    items = [item("q"), item("settle", stream="adjudication", repeat_of="q")]
    votes = [*(vote("q", who, "a") for who in "uvw"), tie("settle", "judge", number=9)]
    done = select_rows(project(items, votes), SnapshotSettings())
    assert (done.rows["train"], dict(done.dropped)["q"]) == ((), "a tie")
    (row,) = select_rows(project(items, votes), SnapshotSettings(drop_annotators=("judge",))).rows["train"]
    assert (row["chosen"], row["adjudicated"]) == ("yes", False)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_one_annotator_alone_gives_the_verdicts_and_is_told_so(method, tmp_path):
    items = [item(f"q{n}", f"yes {n}", f"no {n}", prompt=f"P{n}") for n in range(20)]
    cast = [vote(f"q{n}", "w", "a" if n % 3 else "b") for n in range(20)]
    done = curate(project(items, cast), None, tmp_path / "s", method=method)
    found = rows(done)["train"]
    assert all(row["chosen"].startswith("yes" if int(row["item"][1:]) % 3 else "no") for row in found)
    if method != "bradley_terry":
        assert {row["strength"] for row in found} == {1.0}
        assert done.manifest["aggregation"]["method"] == "majority"
    (note,) = done.manifest["notes"]
    assert note.startswith("Only one annotator judged")
    assert "Only one annotator judged" in (done.path / "card.html").read_text()


def test_people_who_share_no_pair_are_told_apart_from_a_crowd():
    items = [item(f"q{n}", f"yes {n}", f"no {n}", prompt=f"P{n}") for n in range(20)]
    apart = [vote(f"q{n}", "uv"[n % 2], "a") for n in range(20)]
    done = select_rows(project(items, apart), SnapshotSettings())
    assert done.method == "majority"
    assert done.notes[0].startswith("No pair was judged by two people")
    mixed = [
        *(vote(f"q{n}", who, "a") for n in range(10) for who in "uv"),
        *(vote(f"q{n}", "w", "a") for n in (11, 12)),
    ]
    done = select_rows(project(items, mixed), SnapshotSettings())
    assert (done.method, done.notes[0][:46]) == ("ability", "1 of 3 annotators share no pair with others, s")
    together = [vote(f"q{n}", who, "a") for n in range(10) for who in "uv"]
    assert select_rows(project(items, together), SnapshotSettings()).notes == ()


def test_a_ranking_states_no_order_that_nobody_stated():
    names = [f"r-{n}" for n in range(3)]
    items = [of_kind("r", "ranking", ["best", "middle", "worst"])]

    def ranks(*orders):
        cast = [answered("r", "ranking", "uvw"[n], {"tiers": order}, tuple(names)) for n, order in enumerate(orders)]
        done = select_rows(project(items, cast), SnapshotSettings("ranking"))
        return [row["ranks"] for row in done.rows["train"]]

    # The first two were only ever tied; a win of one over the third does not put it above the other.
    assert ranks([["r-0", "r-1"]], [["r-0"], ["r-2"]]) == [[0, 0, 1]]
    assert ranks([["r-0"], ["r-1"]], [["r-1"], ["r-2"]]) == [[0, 1, 2]]  # a chain states the rest
    assert ranks([["r-0"], ["r-1"], ["r-2"]], [["r-0", "r-1"], ["r-2"]]) == [[0, 1, 2]]
    assert ranks([["r-0", "r-1", "r-2"]], [["r-0", "r-1", "r-2"]]) == []


def test_an_export_for_trainers_says_what_its_labels_rest_on_and_writes_weights(tmp_path):
    items = [item(f"q{n}", f"yes {n}", f"no {n}", prompt=f"P{n}") for n in range(4)]
    alone = write_out(project(items, [vote(i.id, "w", "a") for i in items]), tmp_path / "one.jsonl", "preference")
    assert alone.notes[0].startswith("Only one annotator judged")
    first = json.loads((tmp_path / "one.jsonl").read_text().splitlines()[0])
    assert (first["strength"], first["weight"]) == (1.0, 1.0)
    both = [vote(i.id, who, "a") for i in items for who in "uv"]
    assert write_out(project(items, both), tmp_path / "two.jsonl", "preference").notes == ()
