"""What moves verdicts besides quality is found where it was planted, and nowhere else."""

import json
from dataclasses import replace

from trueup.collectors.planted import plant, planted_annotator, planted_panel
from trueup.collectors.simulated import MemoryQueue, collect_answers
from trueup.feedback.quality.bias_report import bias_report
from trueup.feedback.quality.comparisons import votes
from trueup.feedback.quality.opinion_groups import find_opinion_groups
from trueup.feedback.quality.people import annotator_report


def judged(seed, *, change=lambda number, who: who, odd=(), items=250, overlap=4, count=8, **world):
    made = plant(items, seed=seed, **world)
    people = [change(number, who) for number, who in enumerate(planted_panel(count, seed=seed))] + list(odd)
    memory = MemoryQueue(made.rows, overlap=overlap, seed=seed)
    collect_answers(people, memory, worth=made.worth, seed=seed)
    return memory.judged()


def test_a_clean_crowd_gives_no_verdicts():
    for seed in range(4):
        report = bias_report(judged(seed))
        assert report.verdicts() == [], seed
        assert not report.groups.found
        json.dumps(report.to_dict(), allow_nan=False)


def test_a_pull_of_length_on_everybody_is_a_coefficient_and_nobodys_own_taste():
    report = bias_report(judged(0, change=lambda _, who: replace(who, log_length_bias=1.0)))
    length = next(c for c in report.style.coefficients if c.name == "log length")
    assert length.low < 1.0 < length.high + 0.4  # quality is noise here, which shrinks log-odds
    assert length.estimate > 0.5
    assert report.style.twice_as_long > 1.4
    assert any("longer response wins more often" in sentence for sentence in report.verdicts())
    assert not any(row.stands_out for row in report.lengths)


def test_a_pull_of_length_on_two_annotators_stands_out_with_their_names():
    """Over eight such crowds nine of the sixteen were found; in this one both."""
    odd = [planted_annotator("likes-long", length=2.0), planted_annotator("likes-short", length=-2.0)]
    report = bias_report(judged(4, odd=odd, items=400))
    assert {row.name for row in report.lengths if row.stands_out} == {"likes-long", "likes-short"}
    assert "likes-long prefers longer responses than the others do." in report.verdicts()
    assert "likes-short prefers shorter responses than the others do." in report.verdicts()


def test_planted_fatigue_gives_a_negative_slope_and_a_verdict():
    report = bias_report(judged(2, change=lambda _, who: replace(who, fatigue=0.35), items=300, spread=4.0))
    assert report.fatigue.coefficient.high < 0
    assert any("people tire" in sentence for sentence in report.verdicts())


def test_two_planted_groups_of_values_are_named_and_are_no_sign_of_bad_work():
    second = {f"sim-{number:02d}" for number in range(3)}
    crowd_of_two = judged(
        3, change=lambda n, who: replace(who, cluster=int(n < 3)), value_gap=1.0, items=400, overlap=5
    )
    groups = bias_report(crowd_of_two).groups
    assert groups.found
    large, small = groups.shown
    assert set(small.annotators) == second
    assert set(large.annotators) == {f"sim-{number:02d}" for number in range(3, 8)}
    assert groups.between < min(large.inside, small.inside) - 0.05
    assert any("their values differ" in sentence for sentence in bias_report(crowd_of_two).verdicts())
    for row in annotator_report(crowd_of_two).annotators:
        assert row.signs == (), row.annotator


def test_spammers_are_no_group_of_values():
    """Measured over 16 such crowds and 16 clean ones: none was split; of 10 with two groups on 250 items, 8 were."""
    odd = [
        planted_annotator("random", habit="random"),
        planted_annotator("left", habit="left"),
        planted_annotator("leans", side=1.6),
    ]
    for seed in range(4):
        assert not find_opinion_groups(votes(judged(seed, odd=odd))).found, seed


def test_too_little_to_tell_groups_says_so():
    assert "two groups take four" in find_opinion_groups(votes(judged(0, count=3, items=60, overlap=3))).reason
    few = find_opinion_groups(votes(judged(0, items=20, overlap=2)))
    assert not few.found
    assert "it takes 100" in few.reason
    assert find_opinion_groups([]).groups == ((), ())
