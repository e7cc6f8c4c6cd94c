"""The leads' desk and adjudication on both databases: counts, time left, gold, disputed items, verdicts."""

import threading
from collections import Counter

import pytest

from trueup.errors import DataError, UsageError
from trueup.feedback.store import audit
from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import NewItem, add_person, add_template, create_project, import_items, set_state
from trueup.feedback.store.reading import read_project
from trueup.feedback.workflow import dashboard
from trueup.feedback.workflow.adjudication import direction, give_blind, next_disputed, settle, settled
from trueup.feedback.workflow.assignment import Nothing, next_seat
from trueup.feedback.workflow.judgments import flag_item, submit, supersede


@pytest.fixture
def room(store):
    project = create_project(store, "demo")
    template = add_template(store, project, "pairwise", "t")
    rows = [NewItem(f"Question {i}?", (f"good {i}", f"bad {i}")) for i in range(3)]
    items = import_items(store, template, rows, overlap=2).items
    return project, template, items, [add_person(store, f"w{i}") for i in range(3)]


def answer_all(store, project, who, pick):
    """Judge everything; ``pick`` says by item whether the good one is preferred."""
    while not isinstance(here := next_seat(store, project, who), Nothing):
        texts = {r.id: r.text for r in read_project(store, project).items[here.item].responses}
        wanted = "good" if pick(texts) else "bad"
        chosen = next(name for name, text in texts.items() if text.startswith(wanted))
        submit(store, here.item, who, f"{who}-{here.item}", answer={"preferred": chosen, "strength": 1})


def test_progress_counts_items_and_judgments_and_estimates_the_time_left(store, room, clock):
    project, _, _, (one, two, _) = room
    assert dashboard.progress(store, project).eta_hours is None
    answer_all(store, project, one, lambda _: True)
    (row,) = dashboard.projects_for(store, one)
    assert (row.items, row.satisfied, row.judgments, row.my_judgments) == (3, 0, 3, 3)
    clock.forward(hours=1)
    here = next_seat(store, project, two)
    submit(store, here.item, two, "two-first", answer={"preferred": None, "strength": 0})
    assert dashboard.progress(store, project).eta_hours is None  # four judgments: too few
    here = next_seat(store, project, two)
    submit(store, here.item, two, "two-second", answer={"preferred": None, "strength": 0})
    found = dashboard.progress(store, project)
    assert found.eta_hours == pytest.approx(0.2, abs=0.01)  # five in an hour, one left
    assert found.to_dict()["by_stream"] == [{"stream": "main", "items": 3, "satisfied": 2, "judgments": 5}]
    answer_all(store, project, two, lambda _: True)
    assert dashboard.progress(store, project).eta_hours == 0.0
    clock.forward(days=2)
    assert dashboard.projects_for(store, two)[0].satisfied == 3


def test_a_project_takes_known_states_only_and_logs_the_change(store, room):
    project, *_ = room
    with pytest.raises(UsageError, match="did you mean 'paused'"):
        set_state(store, project, "pause", actor="t")
    with pytest.raises(UsageError, match="no project"):
        set_state(store, "none", "paused", actor="t")
    set_state(store, project, "closed", actor="t")
    assert dashboard.audit_events(store)[-1].action == "set_state"


def test_gold_is_counted_and_retired(store, room):
    project, template, items, (one, *_) = room
    gold = {"preferred": 0, "strength": 2}
    (known,) = import_items(store, template, [NewItem("G?", ("good", "bad"), stream="gold", gold=gold)]).items
    answer_all(store, project, one, lambda _: True)
    (row,) = dashboard.gold_items(store, project)
    assert (row.item, row.exposures, row.right, row.retired_at) == (known, 1, 1, None)
    for _ in range(2):
        dashboard.retire_gold(store, known, actor="t")
    assert dashboard.gold_items(store, project)[0].retired_at
    assert [e.action for e in dashboard.audit_events(store)].count("retire_gold") == 1
    with pytest.raises(UsageError, match="no gold item"):
        dashboard.retire_gold(store, items[0], actor="t")


def test_dry_runs_find_the_same_faults_and_store_nothing(store, room):
    _, template, *_ = room
    rows = [NewItem("New?", ("a", "b")), NewItem("New?", ("a", "a"))]
    before = dashboard.audit_events(store)
    dry = import_items(store, template, rows, dry_run=True)
    assert (dashboard.projects_for(store, "x")[0].items, dashboard.audit_events(store)) == (3, before)
    done = import_items(store, template, rows)
    assert (len(dry.items), dry.rejected) == (len(done.items), done.rejected)


def test_a_correction_may_be_a_skip(store, room):
    project, _, _, (one, *_) = room
    here = next_seat(store, project, one)
    first = submit(store, here.item, one, "a", answer={"preferred": None, "strength": 0}, active_ms=5)
    supersede(store, first.judgment, one, "b", None, skip_reason="broken_item", focus_lost=2)
    (current,) = read_project(store, project).judgments
    assert (current.answer, current.skip_reason, current.revision, current.active_ms) == (None, "broken_item", 2, 5)


def test_disputed_items_are_settled_once_by_somebody_who_did_not_judge(store, room):
    project, _, _, (one, two, three) = room
    first = add_person(store, "judge 1", role="adjudicator")
    second = add_person(store, "judge 2", role="adjudicator")
    answer_all(store, project, one, lambda _: True)
    assert next_disputed(store, project, first) is None  # not yet judged by all
    answer_all(store, project, two, lambda texts: "good 0" in texts.values())
    assert next_disputed(store, project, one) is None  # judged them
    found = next_disputed(store, project, first)
    ids = [r.id for r in read_project(store, project).items[found.item].responses]
    mine = {"preferred": ids[0], "strength": 2}
    with pytest.raises(UsageError, match="comes first"):
        settle(store, found.item, first, mine, "ambiguous")
    with pytest.raises(DataError, match="not a response"):
        give_blind(store, found.item, first, {"preferred": "left", "strength": 1})
    with pytest.raises(UsageError, match="judged this item yourself"):
        give_blind(store, found.item, two, mine)
    given = give_blind(store, found.item, first, mine)
    assert {g.annotator.startswith("p-") for g in given} == {True}
    assert len(given) == 2
    assert give_blind(store, found.item, first, mine) == given
    with pytest.raises(UsageError, match="another one"):
        give_blind(store, found.item, first, {"preferred": ids[1], "strength": 2})
    with pytest.raises(UsageError, match="somebody else"):
        give_blind(store, found.item, second, mine)
    other = next_disputed(store, project, second)
    assert other.item != found.item
    assert next_disputed(store, project, first).blind["preferred"] == ids[0]
    with pytest.raises(UsageError, match="known: "):
        settle(store, found.item, first, mine, "mood")
    made = settle(store, found.item, first, mine, "guideline_gap", "unclear")
    assert settle(store, found.item, first, mine, "guideline_gap", "unclear") == made
    with pytest.raises(UsageError, match="already"):
        settle(store, found.item, first, mine, "ambiguous")
    verdict = settled(store, project)
    assert verdict.keys() == {found.item}
    assert verdict[found.item].answer["preferred"] == ids[0]
    assert len(read_project(store, project).judgments) == 6  # nobody's judgment was touched
    with store.read() as connection:
        assert audit.first_fault(connection) is None
    answer_all(store, project, three, lambda _: True)


def test_flagged_items_are_looked_at_too(store, room):
    project, _, items, (one, two, _) = room
    answer_all(store, project, one, lambda _: True)
    answer_all(store, project, two, lambda _: True)
    boss = add_person(store, "judge", role="adjudicator")
    assert next_disputed(store, project, boss) is None
    flag_item(store, items[1], one, "broken")
    assert next_disputed(store, project, boss).item == items[1]


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ({"preferred": "a", "strength": 1}, {"preferred": "a", "strength": 3}, True),
        ({"preferred": "a", "strength": 1}, {"preferred": None, "strength": 0}, False),
        ({"tiers": [["a", "b"], ["c"]]}, {"tiers": [["b", "a"], ["c"]]}, True),
        ({"tiers": [["a"], ["b"]]}, {"tiers": [["b"], ["a"]]}, False),
        ({"response": "a", "acceptable": True}, {"response": "a", "acceptable": False}, False),
        ({"scores": {"x": 1, "y": 2}}, {"scores": {"y": 2, "x": 1}}, True),
        ({"response": "a", "text": "one"}, {"response": "a", "text": "two"}, True),
    ],
)
def test_what_counts_as_another_answer(one, two, same):
    assert (direction(one) == direction(two)) is same


def test_last_judgments_at_the_same_moment_satisfy_the_item(where):
    """Each of two concurrent transactions sees one judgment too few, unless they wait for each other."""
    people, items = 6, 8
    with Store(where) as store:
        project = create_project(store, "busy")
        template = add_template(store, project, "pairwise", "t")
        rows = [NewItem(f"Q{i}?", (f"x{i}", f"y{i}")) for i in range(items)]
        import_items(store, template, rows, overlap=people)
        who = [add_person(store, f"w{i}") for i in range(people)]
        for _ in range(items):
            seats = [next_seat(store, project, one) for one in who]
            together = threading.Barrier(people)
            failures = []

            def send(one, seat, together=together, failures=failures):
                try:
                    together.wait()
                    answer = {"preferred": seat.shown[0], "strength": 1}
                    submit(store, seat.item, one, f"{one}-{seat.item}", answer=answer)
                except Exception as error:
                    failures.append(error)

            threads = [threading.Thread(target=send, args=pair) for pair in zip(who, seats, strict=True)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert failures == []
        assert dashboard.projects_for(store, who[0])[0].satisfied == items
        judged = Counter(j.item for j in read_project(store, project).judgments)
        assert set(judged.values()) == {people}
