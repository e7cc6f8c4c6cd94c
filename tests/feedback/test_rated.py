"""Ratings become pairs, labels and demonstrations: scales of their own, several axes, ties within the noise."""

import json
import random

import pytest

from trueup.commands.life import trace
from trueup.commands.life_text import format_text
from trueup.data.read import read_demonstrations, read_labelled, read_pairs
from trueup.errors import ConfigError, DataError, UsageError
from trueup.feedback.snapshot.candidates import SnapshotSettings
from trueup.feedback.snapshot.curate import curate
from trueup.feedback.snapshot.selection import select_rows
from trueup.feedback.store.database import Store
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.projects import NewItem, add_person, add_template, create_project
from trueup.feedback.store.records import ItemRow, Judged, JudgmentRow, ResponseRow

AT = "2026-01-05T09:00:00.000000Z"


def project(ratings, stream="main"):
    """``ratings``: prompt -> response text -> annotator -> {axis: point}."""
    items, cast = {}, []
    for prompt, responses in ratings.items():
        for text, given in responses.items():
            name = f"{prompt}/{text}"
            items[name] = ItemRow(name, "rating", stream, "train", prompt, prompt, (ResponseRow(f"{name}-r", text),))
            for who, scores in given.items():
                answer = {"kind": "rating", "response": f"{name}-r", "scores": scores}
                cast.append(JudgmentRow(f"j-{name}-{who}", name, who, answer, (f"{name}-r",), "2026-01-31T12:00:00Z"))
    return Judged("rated", items, tuple(cast))


def helpful(**points):
    return {who: {"helpful": point} for who, point in points.items()}


def written(judged, **settings):
    done = select_rows(judged, SnapshotSettings(**settings))
    return done, done.rows["train"]


def crowd(prompts=40, seed=0, habits=None, noise=0.4):
    """Three responses a prompt of quality 0, 1, 2; annotators see quality plus noise through habits of their own."""
    draw = random.Random(seed)
    habits = habits or {"strict": lambda q: 1 + q, "kind": lambda q: 3 + q, "wide": lambda q: 1 + 2 * q}
    return {
        f"P{n}": {
            f"quality {q} of {n}": {
                who: {"helpful": max(1, min(5, round(habit(q + draw.gauss(0, noise)))))}
                for who, habit in habits.items()
            }
            for q in range(3)
        }
        for n in range(prompts)
    }


def quality(text):
    return int(text.split()[1])


def test_pairs_of_ratings_follow_quality_and_have_margins_that_trainers_read(tmp_path):
    done = curate(project(crowd()), None, tmp_path / "s")
    found = [json.loads(line) for line in done.files["train"].read_text().splitlines()]
    right = [quality(row["chosen"]) > quality(row["rejected"]) for row in found]
    assert len(found) > 100
    assert sum(right) >= 0.98 * len(found)
    far, near = (
        [row["margin"] for row in found if quality(row["chosen"]) - quality(row["rejected"]) == gap] for gap in (2, 1)
    )
    assert sum(far) / len(far) > 1.5 * sum(near) / len(near)
    assert all(0.5 < row["strength"] <= 1 and row["weight"] == 0.5 and row["n_votes"] == 3 for row in found)
    pairs = read_pairs(str(done.files["train"])).items
    assert [(p.margin, p.weight, p.strength) for p in pairs] == [
        (r["margin"], r["weight"], r["strength"]) for r in found
    ]


def test_a_harsh_and_a_kind_annotator_who_rated_different_responses_are_compared_on_their_own_scales():
    """By plain means the kind one's worst answer (3) would beat the harsh one's best (3 of 1 to 3)."""
    ratings = crowd(prompts=12, habits={"harsh": lambda q: 1 + q, "kind": lambda q: 3 + q}, noise=0.0)
    ratings["X"] = {"quality 2 of X": helpful(harsh=3), "quality 0 of X": helpful(kind=3)}
    _, rows = written(project(ratings))
    (row,) = [row for row in rows if row["prompt"] == "X"]
    assert quality(row["chosen"]) == 2


def test_scales_that_are_not_known_are_not_compared():
    done, rows = written(project({"X": {"one": helpful(a=5), "other": helpful(b=1)}}, "main"))
    assert rows == ()
    apart = "no annotator rated both, and their scales are not known well enough"
    assert dict(done.pairs_dropped) == {apart: 1}
    few = {f"Z{n}": {f"only {n}": helpful(new=2)} for n in range(3)}
    few["X"] = {"one": helpful(new=5), "other": helpful(strict=1)}
    done, rows = written(project(crowd(prompts=10) | few))
    assert "X" not in {row["prompt"] for row in rows}
    assert done.pairs_dropped[apart] == 1


def test_differences_within_the_noise_are_ties():
    ratings = crowd(prompts=20, noise=0.8)
    ratings["even"] = {"x": helpful(strict=3, kind=3, wide=3), "y": helpful(strict=3, kind=3, wide=3)}
    ratings["split"] = {"x": helpful(strict=2, kind=4, wide=3), "y": helpful(strict=3, kind=3, wide=3)}
    # One of three sees a difference of a point: more than rounding makes of it, less than people differ here anyway.
    ratings["slight"] = {"x": helpful(strict=3, kind=4, wide=3), "y": helpful(strict=2, kind=4, wide=3)}
    done, rows = written(project(ratings))
    assert not {row["prompt"] for row in rows} & {"even", "split", "slight"}
    dropped = [reason for name, reason in done.dropped if name.startswith(("even", "split", "slight"))]
    assert dropped == ["ratings differ by no more than their noise"] * 3
    quiet = crowd(prompts=20, noise=0.0) | {"slight": ratings["slight"]}
    assert "slight" in {row["prompt"] for row in written(project(quiet))[1]}


def test_one_annotator_gives_hard_pairs_and_the_note_says_why():
    ratings = {f"P{n}": {"good": helpful(w=4), "bad": helpful(w=2), "also good": helpful(w=4)} for n in range(6)}
    done, rows = written(project(ratings))
    assert {(row["chosen"], row["rejected"], row["strength"]) for row in rows} == {
        ("good", "bad", 1.0),
        ("also good", "bad", 1.0),
    }
    assert done.pairs_dropped == {"ratings differ by no more than their noise": 6}
    assert done.notes[0].startswith("No response was rated by two people")


def test_axes_are_weighed_and_a_negative_weight_turns_one_round():
    ratings = {
        f"P{n}": {
            "useful but rude": {"w": {"helpful": 5, "rude": 4}},
            "polite but useless": {"w": {"helpful": 1, "rude": 1}},
        }
        for n in range(4)
    }
    judged = project(ratings)
    assert {row["chosen"] for row in written(judged, axes=(("helpful", 1.0),))[1]} == {"useful but rude"}
    assert {row["chosen"] for row in written(judged, axes=(("rude", -1.0),))[1]} == {"polite but useless"}
    heavy = written(judged, axes=(("helpful", 1.0), ("rude", -5.0)))[1]
    assert {row["chosen"] for row in heavy} == {"polite but useless"}
    with pytest.raises(UsageError, match="nobody rated 'helpfull'"):
        written(judged, axes=(("helpfull", 1.0),))
    with pytest.raises(ConfigError, match="weight other than 0"):
        written(judged, axes=(("rude", 0.0),))


def test_axes_that_one_response_lacks_are_left_out_of_the_comparison():
    ratings = {f"P{n}": {"x": {"w": {"helpful": 4, "true": 1}}, "y": {"w": {"helpful": 2}}} for n in range(3)}
    assert {row["chosen"] for row in written(project(ratings))[1]} == {"x"}


def test_an_annotator_who_gives_everything_the_same_says_nothing():
    done, rows = written(project({f"P{n}": {"x": helpful(w=5), "y": helpful(w=5)} for n in range(8)}))
    assert (rows, dict(done.pairs_dropped)) == ((), {"ratings differ by no more than their noise": 8})


def test_labels_and_demonstrations_of_ratings_are_read_by_trainers(tmp_path):
    judged = project(crowd(noise=0.2))
    labels = read_labelled(str(curate(judged, None, tmp_path / "kto", format="kto").files["train"])).items
    assert 0 not in {quality(one.completion) for one in labels if one.desirable}
    assert 2 not in {quality(one.completion) for one in labels if not one.desirable}
    assert len(labels) >= 80
    assert all(0.5 < one.strength <= 1 for one in labels)
    done = curate(judged, None, tmp_path / "sft", format="sft")
    best = read_demonstrations(str(done.files["train"])).items
    assert {quality(one.completion) for one in best} == {2}
    assert len(best) == len({one.prompt for one in best}) == 40
    assert done.manifest["counts"]["pairs"] == 120


def test_nothing_of_ratings_is_lost_without_a_reason_and_hidden_ones_stay_hidden(tmp_path):
    ratings = crowd(prompts=10)
    judged = project(ratings)
    gold = project({"P0": {"quality 2 of 0": helpful(strict=3)}}, "gold")
    items = {f"gold {name}": ItemRow(f"gold {name}", *_rest(one)) for name, one in gold.items.items()}
    both = Judged("rated", {**judged.items, **items}, judged.judgments)
    done = curate(both, None, tmp_path / "s")
    counts = done.manifest["counts"]
    assert counts["pairs"] == 30 == counts["rows"] + sum(done.manifest["pairs_dropped"].values())
    assert done.manifest["pairs_dropped"]["same texts as a hidden test item"] == 2
    assert counts["items"] == counts["items_used"] + sum(done.manifest["items_dropped"].values())


def _rest(one):
    return one.kind, one.stream, one.split, one.prompt_id, one.prompt, one.responses


def test_min_votes_and_dropped_annotators_hold_for_ratings():
    judged = project(crowd(prompts=8))
    assert written(judged, min_votes=4)[1] == ()
    assert {row["n_votes"] for row in written(judged, drop_annotators=("kind",))[1]} == {2}


def test_nobody_rated_is_said(tmp_path):
    empty = project({"X": {"one": {}, "two": {}}})
    with pytest.raises(DataError, match="nothing is left to write"):
        curate(empty, None, tmp_path / "s")
    with pytest.raises(UsageError, match="nobody rated anything"):
        select_rows(Judged("none", {}, ()), SnapshotSettings(axes=(("helpful", 1.0),)))


def test_a_pair_of_ratings_traces_back_to_who_gave_which_points(tmp_path):
    db = tmp_path / "f.db"
    axes = [{"name": name, "low": 1, "high": 5} for name in ("helpful", "true")]
    with Store(str(db)) as store:
        project_id = create_project(store, "rated", simulated=True)
        template = add_template(store, project_id, "rating", "points", {"axes": axes})
        people = [add_person(store, name, simulated=True) for name in "ab"]
        items = [NewItem("Q?", ("good",)), NewItem("Q?", ("bad",))]
        votes = [
            ImportedVote(place, who, {"response": 0, "scores": {"helpful": 5 - 2 * place, "true": 4}}, (0,), AT)
            for place in (0, 1)
            for who in people
        ]
        import_judged(store, template, items, votes)
        done = curate(store, project_id, tmp_path / "s")
    (file,) = done.files.values()
    pair_id = json.loads(file.read_text())["pair_id"]
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(
        json.dumps(
            {
                "kind": "reward",
                "config": {"data": str(file), "read": {"columns": None, "split": None}},
                "inputs": {},
                "pinned": {},
                "status": "done",
            }
        )
    )
    life = trace(pair_id, [run], db=str(db))
    assert sorted(voice.verdict for voice in life.voices) == [
        *["chosen rated helpful 5, true 4"] * 2,
        *["rejected rated helpful 3, true 4"] * 2,
    ]
    assert "shown first" not in format_text(life)
