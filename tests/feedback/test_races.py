"""What is sent twice at the same moment is stored once and answered twice, on both databases."""

import threading
from collections import Counter

import pytest
from sqlalchemy import func, select

from trueup.errors import UsageError
from trueup.feedback.store import audit
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.projects import (
    NewItem,
    add_guideline,
    add_person,
    add_template,
    create_project,
    import_items,
)
from trueup.feedback.store.schema import acknowledgement, guideline, judgment, project, prompt, seat
from trueup.feedback.workflow.adjudication import give_blind, settle
from trueup.feedback.workflow.assignment import acknowledge, next_seat, release
from trueup.feedback.workflow.judgments import ReusedKey, submit, supersede

AT_ONCE = 3
ROUNDS = 8


def at_once(*calls):
    """Results, or errors, of calls that begin at the same moment."""
    barrier, results = threading.Barrier(len(calls)), []

    def go(call):
        barrier.wait()
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=go, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def count(store, table):
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


@pytest.fixture
def room(store):
    project_id = create_project(store, "p")
    template = add_template(store, project_id, "pairwise", "t")
    items = import_items(store, template, [NewItem(f"Q{n}?", ("x", "y")) for n in range(ROUNDS + 2)], overlap=1).items
    yield project_id, template, items, add_person(store, "ann")
    with store.read() as connection:
        assert audit.first_fault(connection) is None


@pytest.mark.parametrize("skip", [False, True])
def test_a_retry_that_meets_its_own_first_try_is_a_retry(store, room, skip):
    project_id, _, _, ann = room
    for number in range(ROUNDS):
        here = next_seat(store, project_id, ann)
        body = {"skip_reason": "other"} if skip else {"answer": {"preferred": here.shown[0], "strength": 1}}
        done = at_once(*[lambda b=body, n=number, h=here: submit(store, h.item, ann, f"k{n}", **b)] * AT_ONCE)
        assert Counter(taken.replayed for taken in done) == {False: 1, True: AT_ONCE - 1}, done
        assert len({taken.judgment for taken in done}) == 1
    assert count(store, judgment) == ROUNDS


def test_a_correction_sent_twice_is_one(store, room):
    project_id, _, _, ann = room
    for number in range(ROUNDS):
        here = next_seat(store, project_id, ann)
        first = submit(store, here.item, ann, f"k{number}", answer={"preferred": here.shown[0], "strength": 1})
        answer = {"preferred": here.shown[1], "strength": 1}
        done = at_once(*[lambda f=first, n=number, a=answer: supersede(store, f.judgment, ann, f"r{n}", a)] * AT_ONCE)
        assert Counter(taken.replayed for taken in done) == {False: 1, True: AT_ONCE - 1}, done
    assert count(store, judgment) == 2 * ROUNDS


def test_one_key_for_two_items_is_one_answer(store, room):
    project_id, _, _, ann = room
    for number in range(ROUNDS // 2):
        two = []
        while len(two) < 2:  # a seat that was given back was held all the same
            here = next_seat(store, project_id, ann)
            release(store, here.id, here.token)
            two = list({*two, here.item})
        done = at_once(*[lambda i=i, n=number: submit(store, i, ann, f"k{n}", skip_reason="other") for i in two])
        assert Counter(isinstance(taken, ReusedKey) for taken in done) == {False: 1, True: 1}, done


def test_who_asks_twice_at_once_gets_one_seat(store, room):
    project_id, _, _, ann = room
    done = at_once(*[lambda: next_seat(store, project_id, ann)] * AT_ONCE)
    assert len({here.id for here in done}) == 1, done
    assert count(store, seat) == 1


def test_a_settlement_sent_twice_is_one(store, room):
    _, _, items, _ = room
    bob = add_person(store, "bob", role="adjudicator")
    answer = {"preferred": None, "strength": 0}
    for item in items[:3]:
        done = at_once(*[lambda i=item: give_blind(store, i, bob, answer)] * AT_ONCE)
        assert done == [[]] * AT_ONCE
        done = at_once(*[lambda i=item: settle(store, i, bob, answer, "ambiguous")] * AT_ONCE)
        assert len(set(done)) == 1, done


def test_guidelines_and_acceptances_that_meet_are_each_stored_once(store, room):
    project_id, _, _, ann = room
    made = at_once(*[lambda n=n: add_guideline(store, project_id, f"# {n}") for n in range(2)])
    assert len(set(made)) == 2, made
    with store.read() as connection:
        assert sorted(connection.execute(select(guideline.c.number)).scalars()) == [1, 2]
    assert at_once(*[lambda: acknowledge(store, ann, made[0])] * AT_ONCE) == [None] * AT_ONCE
    assert count(store, acknowledgement) == 1


def test_imports_that_bring_the_same_prompts_share_them(store, room):
    _, template, items, ann = room
    rows = [NewItem(f"New {n}?", ("x", "y")) for n in range(5)]
    votes = [
        ImportedVote(n, ann, {"preferred": 0, "strength": 1}, (0, 1), "2026-01-05T09:00:00.000000Z") for n in range(5)
    ]
    done = at_once(
        lambda: import_items(store, template, rows).items,
        lambda: import_items(store, template, rows).items,
        lambda: import_judged(store, template, rows, votes),
        lambda: import_judged(store, template, rows, votes),
    )
    assert [len(made) for made in done] == [5] * 4
    assert count(store, prompt) == len(items) + 5


def test_a_name_is_given_once(store, room):
    done = at_once(*[lambda: create_project(store, "same")] * AT_ONCE)
    assert Counter(isinstance(made, UsageError) for made in done) == {False: 1, True: AT_ONCE - 1}, done
    done = at_once(*[lambda: add_person(store, "same")] * AT_ONCE)
    assert Counter(isinstance(made, UsageError) for made in done) == {False: 1, True: AT_ONCE - 1}, done
    assert count(store, project) == 2
