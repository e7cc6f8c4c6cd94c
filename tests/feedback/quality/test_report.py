"""The quality pages as JSON: names and order of what files and the API carry, and rows that nobody can change."""

import json

import pytest

from trueup.collectors.planted import plant, planted_annotator, planted_panel
from trueup.collectors.simulated import MemoryQueue, collect_answers
from trueup.feedback.quality.people import annotator_report
from trueup.feedback.quality.report import PAGES
from trueup.feedback.snapshot.curate import curate

KEYS = {
    "agreement": ["rows", "simulated"],
    "annotators": ["annotators", "judgments", "simulated", "note"],
    "bias": ["left_wins", "style", "lengths", "slices", "fatigue", "camps", "simulated", "verdicts"],
    "disagreement": ["rows", "pairs", "unanimous", "simulated"],
    "gold": ["rows", "limit", "simulated"],
    "overlap": ["rows", "method", "rounds", "reason", "simulated"],
}
ROWS = {
    "agreement": ["kind", "axis", "level", "items", "raters", "pairable", "raw", "alpha", "ac1", "kappa"],
    "annotators": (
        "annotator simulated judgments skipped surplus gold ability side reliability left_wins speed consistency drift "
        "signs suggestion"
    ).split(),
    "disagreement": "item kind prompt first second p_first entropy votes rationales".split(),
    "gold": "item stream kind prompt exposure answered right accuracy low high burned doubtful".split(),
    "overlap": "overlap judgments pairs predicts low high agrees_with_all open".split(),
}


@pytest.fixture(scope="module")
def judged():
    """A small crowd with one who does not read."""
    world = plant(60, seed=1, gold=0.2)
    memory = MemoryQueue(world.rows, overlap=3, seed=1)
    people = [*planted_panel(5, seed=1), planted_annotator("spam-left", habit="left")]
    collect_answers(people, memory, worth=world.worth, seed=1)
    return memory.judged()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_its_keys_in_order_and_no_nan(judged, page):
    report = PAGES[page](judged).to_dict()
    assert list(report) == KEYS[page]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    if page in ROWS:
        rows = report["annotators" if page == "annotators" else "rows"]
        assert rows
        for row in rows:
            assert list(row) == ROWS[page]


def test_a_drift_without_a_shift_has_only_its_reason(judged):
    drifts = [row.to_dict()["drift"] for row in annotator_report(judged).annotators]
    short = [drift for drift in drifts if not drift["found"] and drift["reason"]]
    assert all(list(drift) == ["found", "reason"] for drift in short)
    assert all(
        list(drift) == ["found", "at_judgment", "before", "after", "p", "reason"]
        for drift in drifts
        if drift not in short
    )
    assert short


def test_making_a_card_leaves_the_annotators_page_as_it_was(judged, tmp_path):
    before = annotator_report(judged).to_dict()
    snapshot = curate(judged, None, tmp_path / "out", method="majority", drop_annotators=["spam-left"])
    card = json.loads((snapshot.path / "card.json").read_text())
    assert {row["annotator"]: row["dropped"] for row in card["annotators"]}["spam-left"]
    assert annotator_report(judged).to_dict() == before
