"""What moves verdicts besides quality is found where it was planted, and nowhere else."""

import json
from dataclasses import replace

from trueup.feedback.quality.camps import find_camps
from trueup.feedback.quality.comparisons import votes
from trueup.feedback.quality.leanings import bias
from trueup.feedback.quality.people import annotators
from trueup.feedback.simulate import Memory, Planted, crowd, plant, work


def judged(seed, *, change=lambda number, who: who, odd=(), items=250, overlap=4, count=8, **world):
    made = plant(items, seed=seed, **world)
    people = [change(number, who) for number, who in enumerate(crowd(count, seed=seed))] + list(odd)
    memory = Memory(made, overlap=overlap, seed=seed)
    work(made, people, memory, seed=seed)
    return memory.judged()


def test_a_clean_crowd_has_nothing_to_tell():
    for seed in range(4):
        found = bias(judged(seed))
        assert found["verdicts"] == [], seed
        assert not found["camps"]["found"]
        json.dumps(found, allow_nan=False)


def test_the_pull_of_length_on_everybody():
    found = bias(judged(0, change=lambda _, who: replace(who, length=1.0)))
    length = next(c for c in found["style"]["coefficients"] if c["name"] == "log length")
    assert length["low"] < 1.0 < length["high"] + 0.4  # quality is noise here, which shrinks log-odds
    assert length["estimate"] > 0.5
    assert found["style"]["twice_as_long"] > 1.4
    assert any("longer response wins more often" in said for said in found["verdicts"])
    assert not any(row["stands_out"] for row in found["lengths"])  # a taste that all share is nobody's own


def test_the_pull_of_length_on_one_annotator():
    found = bias(judged(1, odd=[Planted("likes-long", length=2.0), Planted("likes-short", length=-2.0)], items=400))
    assert {row["name"] for row in found["lengths"] if row["stands_out"]} == {"likes-long", "likes-short"}
    assert "likes-long prefers longer responses than the others do." in found["verdicts"]
    assert "likes-short prefers shorter responses than the others do." in found["verdicts"]


def test_a_crowd_that_tires():
    found = bias(judged(2, change=lambda _, who: replace(who, fatigue=0.35), items=300, spread=4.0))
    slope = found["fatigue"]["coefficient"]
    assert slope["high"] < 0
    assert any("people tire" in said for said in found["verdicts"])


def test_two_groups_of_values():
    second = {f"sim-{number:02d}" for number in range(3)}
    made = judged(3, change=lambda n, who: replace(who, cluster=int(n < 3)), value_gap=1.0, items=400, overlap=5)
    found = bias(made)["camps"]
    assert found["found"]
    large, small = found["groups"]
    assert set(small["annotators"]) == second
    assert set(large["annotators"]) == {f"sim-{number:02d}" for number in range(3, 8)}
    assert found["between"] < min(large["inside"], small["inside"]) - 0.05
    assert any("their values differ" in said for said in bias(made)["verdicts"])
    for row in annotators(made)["annotators"]:  # other values are no sign of bad work
        assert row["signs"] == [], row["annotator"]


def test_spammers_are_no_group_of_values():
    """Measured over 16 such crowds and 16 clean ones: none was split; of 10 with two groups on 250 items, 8 were."""
    odd = [Planted("random", spam="random"), Planted("left", spam="left"), Planted("leans", side=1.6)]
    for seed in range(4):
        assert not find_camps(votes(judged(seed, odd=odd))).found, seed


def test_too_little_to_tell_groups_says_so():
    assert "two groups take four" in find_camps(votes(judged(0, count=3, items=60, overlap=3))).reason
    few = find_camps(votes(judged(0, items=20, overlap=2)))
    assert not few.found
    assert "it takes 100" in few.reason
    assert find_camps([]).groups == ((), ())
