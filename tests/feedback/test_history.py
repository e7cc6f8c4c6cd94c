"""Judged data from elsewhere goes in whole, reads out as if judged here, and not at all when one row is wrong."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from trueup.errors import DataError
from trueup.feedback.store import audit
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.projects import NewItem, add_person, add_template, create_project
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.schema import item, judgment, prompt

AT = "2026-01-05T09:00:00.000000Z"


@pytest.fixture
def room(store):
    project = create_project(store, "elsewhere", simulated=True)
    return project, add_template(store, project, "pairwise", "pairs"), [add_person(store, name) for name in "ab"]


def rows(count=3):
    return [NewItem(f"Question {i // 2}?", (f"good {i}", f"bad {i}"), ("m", "m")) for i in range(count)]


def test_what_went_in_comes_out(store, room):
    project, template, (one, two) = room
    votes = [
        ImportedVote(0, one, {"preferred": 0, "strength": 2}, (1, 0), AT, 900, "clearer"),
        ImportedVote(0, two, {"preferred": 1, "strength": 1}, (0, 1), AT),
        ImportedVote(2, one, {"strength": 0}, (0, 1), AT),
    ]
    made = import_judged(store, template, rows(), votes)
    judged = read_project(store, project)
    assert list(judged.items) == list(made)
    first = judged.items[made[0]]
    good, bad = (r.id for r in first.responses)
    on_first = {r.annotator: r for r in judged.judgments if r.item == made[0]}
    assert {r.answer["preferred"] for r in on_first.values()} == {good, bad}
    clear = next(r for r in on_first.values() if r.rationale == "clearer")
    assert clear.shown == (bad, good)
    assert (clear.active_ms, clear.created_at, clear.surplus) == (900, AT, False)
    assert judged.items[made[0]].prompt_id == judged.items[made[1]].prompt_id  # one prompt, two items
    with store.read() as connection:
        states = dict(connection.execute(select(item.c.id, item.c.state)).all())
        assert [states[name] for name in made] == ["satisfied", "open", "satisfied"]
        assert audit.first_fault(connection) is None
        assert connection.execute(select(func.count()).select_from(prompt)).scalar_one() == 2


def test_a_second_file_shares_prompts_and_responses_with_the_first(store, room):
    project, template, (one, _) = room
    import_judged(store, template, rows(), [])
    import_judged(store, template, rows(), [ImportedVote(0, one, {"preferred": 0, "strength": 1}, (0, 1), AT)])
    judged = read_project(store, project)
    assert len(judged.items) == 6
    assert len({r.id for i in judged.items.values() for r in i.responses}) == 6


@pytest.mark.parametrize(
    ("vote", "found"),
    [
        (ImportedVote(9, "", {"strength": 0}, (0, 1), AT), "item 9"),
        (ImportedVote(0, "nobody", {"strength": 0}, (0, 1), AT), "nobody"),
        (ImportedVote(1, "", {"preferred": 0, "strength": 0}, (0, 1), AT), "row 1"),
    ],
)
def test_one_wrong_vote_leaves_nothing_behind(store, room, vote, found):
    _, template, (one, _) = room
    wrong = ImportedVote(vote.item, vote.person or one, vote.answer, vote.shown, vote.made_at)
    good = ImportedVote(0, one, {"preferred": 0, "strength": 1}, (0, 1), AT)
    with pytest.raises(DataError, match=found):
        import_judged(store, template, rows(), [good, wrong])
    with store.read() as connection:
        for table in (judgment, item, prompt):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0


def test_a_wrong_row_is_named(store, room):
    _, template, _ = room
    with pytest.raises(DataError, match="row 1"):
        import_judged(store, template, [*rows(1), NewItem("Q?", ("same", "same"))], [])


def test_what_was_computed_of_a_project_is_not_taken_for_a_part_of_it(store, room):
    project, template, (one, two) = room
    votes = [ImportedVote(0, who, {"preferred": 0, "strength": 1}, (0, 1), AT) for who in (one, two)]
    import_judged(store, template, rows(), votes)
    judged = read_project(store, project)
    assert judged.once("count", lambda: len(judged.judgments)) == 2
    part = replace(judged, judgments=judged.judgments[:1])
    assert part.once("count", lambda: len(part.judgments)) == 1
    assert judged.once("count", lambda: 99) == 2
