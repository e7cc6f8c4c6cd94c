"""The store keeps every judgment once: seats, leases, late work, retries, corrections, the audit chain."""

import json
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DatabaseError

from trueup.errors import DataError, UsageError
from trueup.feedback.quality.people import annotator_report
from trueup.feedback.snapshot.candidates import SnapshotSettings
from trueup.feedback.snapshot.curate import curate
from trueup.feedback.snapshot.selection import select_rows
from trueup.feedback.store import audit
from trueup.feedback.store.answers import parse_answer, preferences
from trueup.feedback.store.database import Store
from trueup.feedback.store.judgments import current_answers
from trueup.feedback.store.projects import (
    NewItem,
    add_guideline,
    add_person,
    add_template,
    create_project,
    import_items,
)
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.schema import item, item_response, judgment, metadata, new_id, seat
from trueup.feedback.workflow.assignment import (
    Assignment,
    Nothing,
    acknowledge,
    heartbeat,
    next_seat,
    release,
    save_draft,
)
from trueup.feedback.workflow.judgments import NotAssigned, ReusedKey, flag_item, submit, supersede


@pytest.fixture
def room(store):
    """A project with three pairs of overlap two, and three annotators."""
    project = create_project(store, "demo", simulated=True)
    template = add_template(store, project, "pairwise", "which is better")
    rows = [NewItem(f"Question {i}?", (f"good {i}", f"bad {i}")) for i in range(3)]
    items = import_items(store, template, rows, overlap=2).items
    people = [add_person(store, f"worker {i}", simulated=True) for i in range(3)]
    return project, template, items, people


def prefer(seat, strength=2):
    return {"preferred": seat.shown[0], "strength": strength}


def counts(store):
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(judgment)).scalar_one()


def test_the_migrations_make_the_schema(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert [d for d in compare_metadata(context, metadata) if d[0] != "remove_table"] == []


def test_asking_twice_gives_the_same_seat_and_submitting_moves_on(store, room):
    project, _, _, (one, *_) = room
    first = next_seat(store, project, one)
    assert isinstance(first, Assignment)
    assert next_seat(store, project, one) == first
    submit(store, first.item, one, "k1", answer=prefer(first))
    second = next_seat(store, project, one)
    assert second.item != first.item
    for key in ("k2", "k3"):
        here = next_seat(store, project, one)
        submit(store, here.item, one, key, answer=prefer(here))
    assert next_seat(store, project, one).reason == "done"


def test_an_item_is_full_after_its_overlap_and_says_why_it_is_empty(store, room):
    project, _, _, people = room
    for who in people[:2]:
        for n in range(3):
            here = next_seat(store, project, who)
            submit(store, here.item, who, f"{who}-{n}", answer=prefer(here))
    assert next_seat(store, project, people[2]).reason == "done"
    judged = read_project(store, project)
    assert all(sum(j.item == i for j in judged.judgments) == 2 for i in judged.items)


def test_an_expired_seat_is_taken_back_only_when_needed_and_late_work_is_kept(store, clock):
    project = create_project(store, "one")
    template = add_template(store, project, "pairwise", "t")
    (item,) = import_items(store, template, [NewItem("Q?", ("x", "y"))], overlap=1).items
    slow, quick = add_person(store, "slow"), add_person(store, "quick")
    old = next_seat(store, project, slow)
    waiting = next_seat(store, project, quick)
    assert isinstance(waiting, Nothing)
    assert waiting.reason == "all_leased"
    clock.forward(minutes=11)
    fresh = next_seat(store, project, quick)
    assert fresh.item == item
    with pytest.raises(UsageError, match="lease ended"):
        heartbeat(store, old.id, old.token)
    late = submit(store, item, slow, "late", answer=prefer(old), shown=old.shown)
    assert late.surplus
    assert not submit(store, item, quick, "q", answer=prefer(fresh)).surplus
    judged = read_project(store, project)
    assert [j.surplus for j in judged.judgments] == [True, False]
    assert judged.judgments[0].shown == old.shown


def test_a_heartbeat_keeps_the_seat_and_release_frees_it(store, room, clock):
    project, _, _, (one, two, three) = room
    here = next_seat(store, project, one)
    for _ in range(4):
        clock.forward(minutes=6)
        heartbeat(store, here.id, here.token)
    assert next_seat(store, project, one) == Assignment(
        here.id,
        here.item,
        here.kind,
        here.token,
        next_seat(store, project, one).lease_until,
        here.shown,
        here.guideline,
    )
    save_draft(store, here.id, here.token, {"rationale": "half a thought"})
    with pytest.raises(UsageError):
        release(store, here.id, "another token")
    release(store, here.id, here.token)
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(seat)).scalar_one() == 0
    assert isinstance(next_seat(store, project, two), Assignment)
    assert isinstance(next_seat(store, project, three), Assignment)


def test_retries_are_replayed_and_a_reused_key_is_refused(store, room):
    project, _, _, (one, *_) = room
    here = next_seat(store, project, one)
    first = submit(store, here.item, one, "key", answer=prefer(here))
    again = submit(store, here.item, one, "key", answer=prefer(here))
    assert (again.judgment, again.replayed) == (first.judgment, True)
    with pytest.raises(ReusedKey):
        submit(store, here.item, one, "key", answer=prefer(here, 1))
    with pytest.raises(DataError, match="already"):
        submit(store, here.item, one, "other key", answer=prefer(here))
    assert counts(store) == 1


@pytest.mark.parametrize(
    ("answer", "skip", "said"),
    [
        (None, None, "exactly one"),
        ({"preferred": "A", "strength": 1}, None, "not a response of this item"),
        ({"preferred": None, "strength": 2}, None, "tie"),
        ({"kind": "binary", "response": "x", "acceptable": True}, None, "pairwise"),
        ({"preferred": None, "strength": 0, "side": "left"}, None, "side"),
        (None, "bored", "known"),
    ],
)
def test_answers_that_do_not_fit_leave_nothing(store, room, answer, skip, said):
    project, _, _, (one, *_) = room
    here = next_seat(store, project, one)
    with pytest.raises(DataError, match=said):
        submit(store, here.item, one, "k", answer=answer, skip_reason=skip)
    assert counts(store) == 0
    assert next_seat(store, project, one) == here


def test_a_correction_is_a_revision_and_only_the_newest_counts(store, room, clock):
    project, _, _, (one, two, _) = room
    here = next_seat(store, project, one)
    first = submit(store, here.item, one, "a", answer=prefer(here, 3))
    other = {"preferred": here.shown[1], "strength": 1}
    second = supersede(store, first.judgment, one, "b", other)
    assert supersede(store, first.judgment, one, "b", other).judgment == second.judgment
    with pytest.raises(UsageError, match="corrected already"):
        supersede(store, first.judgment, one, "c", prefer(here))
    with pytest.raises(UsageError, match="of yours"):
        supersede(store, second.judgment, two, "d", prefer(here))
    clock.forward(minutes=11)
    with pytest.raises(UsageError, match="time to correct"):
        supersede(store, second.judgment, one, "e", prefer(here))
    (current,) = read_project(store, project).judgments
    assert (current.revision, current.answer["preferred"]) == (2, here.shown[1])
    assert counts(store) == 2


def test_judgments_cannot_be_changed_or_deleted_by_anybody(store, room):
    project, _, _, (one, *_) = room
    here = next_seat(store, project, one)
    submit(store, here.item, one, "a", answer=prefer(here))
    for statement in ("UPDATE judgment SET rationale = 'x'", "DELETE FROM judgment", "DELETE FROM audit_event"):
        with pytest.raises(DatabaseError, match="append-only"), store.write() as connection:
            connection.execute(text(statement))
    assert counts(store) == 1


def test_the_audit_chain_finds_tampering(store, room):
    project, _, _, (one, *_) = room
    here = next_seat(store, project, one)
    submit(store, here.item, one, "a", answer=prefer(here))
    with store.read() as connection:
        assert audit.first_fault(connection) is None
        events, _ = audit.end_of_log(connection)
    assert events >= 7
    off = "DROP TRIGGER audit_event_no_update" + (" ON audit_event" if store.dialect == "postgresql" else "")
    with store.write() as connection:  # somebody with full rights on the database
        connection.execute(text(off))
        connection.execute(text("UPDATE audit_event SET actor = 'nobody' WHERE seq = 3"))
    with store.read() as connection:
        assert audit.first_fault(connection).seq == 3


def test_guidelines_are_acknowledged_version_by_version(store, room):
    project, _, _, (one, *_) = room
    first = add_guideline(store, project, "# Be kind")
    assert next_seat(store, project, one).reason == "guideline_not_acknowledged"
    acknowledge(store, one, first)
    acknowledge(store, one, first)
    here = next_seat(store, project, one)
    assert here.guideline == first
    submit(store, here.item, one, "k", answer=prefer(here))
    add_guideline(store, project, "# Be kind and brief")
    assert next_seat(store, project, one).reason == "guideline_not_acknowledged"
    (done,) = read_project(store, project).judgments
    assert len(done.guideline) == 64


def test_calibration_answers_with_the_right_one_and_work_does_not(store):
    project = create_project(store, "c")
    template = add_template(store, project, "pairwise", "t")
    gold = {"preferred": 1, "strength": 2}
    rows = [NewItem("Q?", ("x", "y"), stream="calibration", gold=gold, explanation="y answers the question")]
    import_items(store, template, rows, overlap=3)
    one = add_person(store, "a")
    here = next_seat(store, project, one)
    found = submit(store, here.item, one, "k", answer=prefer(here)).feedback
    judged = read_project(store, project)
    right = judged.items[here.item].responses[1].id
    assert found.correct is (here.shown[0] == right)
    assert found.expected["preferred"] == right
    assert found.explanation == "y answers the question"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (NewItem("Q?", ("x",)), "1 responses"),
        (NewItem("Q?", ("x", " ")), "empty"),
        (NewItem("Q?", ("x", "x")), "same text"),
        (NewItem("Q?", ("x", "y"), stream="gold"), "no right answer"),
        (NewItem("Q?", ("x", "y"), stream="mian"), "did you mean 'main'"),
        (NewItem("Q?", ("x", "y"), stream="gold", gold={"preferred": None, "strength": 2}), "tie"),
        (NewItem("Kept?", ("x", "z"), split="test"), "one split for each prompt"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused_by_number_and_leave_nothing(store, row, said):
    project = create_project(store, "c")
    template = add_template(store, project, "pairwise", "t")
    kept = NewItem("Kept?", ("x", "y"), split="train")
    done = import_items(store, template, [kept, row, NewItem("Also?", ("x", "y"))])
    assert len(done.items) == 2
    ((number, why),) = done.rejected
    assert number == 1
    assert said in why
    assert len(read_project(store, project).items) == 2


def test_a_repeat_shows_the_other_order_to_the_same_person(store, room):
    project, _, _, (one, *_) = room
    here = next_seat(store, project, one)
    submit(store, here.item, one, "k", answer=prefer(here))
    with store.write() as connection:
        source = connection.execute(select(item).where(item.c.id == here.item)).first()
        again = {**source._mapping, "id": new_id(), "stream": "repeat", "repeat_of": here.item, "priority": 9}
        connection.execute(
            insert(item).values(
                **again,
            )
        )
        for place, response in enumerate(sorted(here.shown)):
            connection.execute(
                insert(item_response).values(id=new_id(), item=again["id"], place=place, response=response)
            )
    repeat = next_seat(store, project, one)
    assert repeat.item == again["id"]
    assert repeat.shown == tuple(reversed(here.shown))


def test_a_flag_is_stored_once_and_taken_names_and_unknown_roles_are_refused(store, room):
    _, _, items, (one, *_) = room
    assert flag_item(store, items[0], one, "broken", "no question")[0]
    made, again = (flag_item(store, items[0], one, "broken", key="report 1") for _ in range(2))
    assert (made[0], made[1], again[1]) == (again[0], False, True)
    with pytest.raises(ReusedKey, match="another report"):
        flag_item(store, items[1], one, "broken", key="report 1")
    with pytest.raises(UsageError, match="already"):
        add_person(store, "worker 0")
    with pytest.raises(UsageError, match="did you mean 'annotator'"):
        add_person(store, "z", role="anotator")
    with pytest.raises(UsageError, match="already"):
        create_project(store, "demo")


def test_threads_lose_and_double_nothing(where):
    """Twelve annotators at once, some abandoning seats, some sending twice."""
    with Store(where) as store:
        project = create_project(store, "busy")
        template = add_template(store, project, "pairwise", "t")
        rows = [NewItem(f"Q{i}?", (f"x{i}", f"y{i}")) for i in range(20)]
        import_items(store, template, rows, overlap=3)
        people = [add_person(store, f"w{i}") for i in range(12)]
        errors, sent = [], []

        def work(who, number):
            try:
                for n in range(100):
                    here = next_seat(store, project, who)
                    if isinstance(here, Nothing):
                        if here.reason == "done":
                            return
                        continue
                    if (n + number) % 7 == 3:
                        release(store, here.id, here.token)
                        continue
                    for _ in range(1 + (n + number) % 5 // 4):
                        sent.append(submit(store, here.item, who, f"{who}-{here.item}", answer=prefer(here)).judgment)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(who, k)) for k, who in enumerate(people)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        judged = read_project(store, project)
        assert {j.id for j in judged.judgments} == set(sent)
        per_item = [[j.annotator for j in judged.judgments if j.item == i] for i in judged.items]
        assert all(len(a) == len(set(a)) == 3 for a in per_item)
        with store.read() as connection:
            assert audit.first_fault(connection) is None


def test_a_backup_of_a_store_in_use_opens(store, room, tmp_path):
    if store.dialect != "sqlite":
        with pytest.raises(UsageError, match="pg_dump"):
            store.backup(tmp_path / "copy.db")
        return
    copy = store.backup(tmp_path / "copy.db")
    with Store(copy) as other, other.read() as connection:
        assert audit.first_fault(connection) is None
    with pytest.raises(UsageError, match="exists"):
        store.backup(copy)


def test_what_is_no_database_is_a_clear_error(tmp_path):
    (tmp_path / "text.db").write_text("this is not a database, it only has the name of one" * 20)
    with pytest.raises(DataError, match="cannot be opened"):
        Store(tmp_path / "text.db")
    with pytest.raises(UsageError, match="mysql"):
        Store("mysql://somewhere/x")
    with pytest.raises(UsageError, match="directory"):
        Store(tmp_path)


@given(st.permutations(["r1", "r2", "r3", "r4"]), st.integers(1, 3))
def test_the_order_shown_never_changes_what_an_answer_means(shown, strength):
    """The first one shown is preferred: whoever that is, the canonical comparison names it."""
    pair = tuple(shown[:2])
    canonical = tuple(sorted(pair))
    answer = parse_answer({"preferred": pair[0], "strength": strength}, kind="pairwise", responses=canonical)
    ((first, second, outcome, weight),) = preferences(answer, canonical)
    assert (first, second, weight) == (*canonical, 1.0)
    assert outcome == (strength if pair[0] == canonical[0] else -strength)
    ranking = parse_answer({"tiers": [[shown[0]], [shown[1], shown[2]]]}, kind="ranking", responses=sorted(shown))
    found = preferences(ranking, sorted(shown))
    assert len(found) == 3  # the fourth was not ranked
    for a, b, outcome, weight in found:
        assert weight == 0.5
        assert outcome == (1 if a == shown[0] else -1 if b == shown[0] else 0)


def test_only_who_was_given_an_item_may_judge_it_and_late_work_is_no_vote(store, clock, tmp_path):
    project = create_project(store, "p")
    template = add_template(store, project, "pairwise", "t")
    (item,) = import_items(store, template, [NewItem("Q?", ("good", "bad"))], overlap=1).items
    slow, quick, stranger = (add_person(store, name) for name in ("slow", "quick", "stranger"))
    old = next_seat(store, project, slow)
    for skip in (None, "other"):
        answer = prefer(old) if skip is None else None
        with pytest.raises(NotAssigned, match="not given to you"):
            submit(store, item, stranger, "k", answer=answer, skip_reason=skip, shown=old.shown)
    clock.forward(minutes=11)
    fresh = next_seat(store, project, quick)
    assert submit(store, item, slow, "late", answer=prefer(old), shown=old.shown).surplus
    submit(store, item, quick, "q", answer=prefer(old))  # the same side, so that both make a row
    with pytest.raises(DataError, match="already"):
        submit(store, item, slow, "again", answer=prefer(old))
    with pytest.raises(NotAssigned):
        submit(store, item, stranger, "k", answer=prefer(old))
    done = curate(store, project, tmp_path / "a", method="majority")
    (row,) = [json.loads(line) for path in done.files.values() for line in path.read_text().splitlines()]
    assert row["n_votes"] == 1
    assert "1 surplus judgments" in " ".join(done.manifest["notes"])
    with store.read() as connection:
        assert len(current_answers(connection, item, "pairwise", fresh.shown)) == 1
    judged = read_project(store, project)
    assert (judged.surplus, len(judged.without_surplus().judgments)) == (1, 1)
    by_default = annotator_report(judged).annotators
    counted = annotator_report(judged, surplus=True).annotators
    assert sorted((row.judgments, row.surplus) for row in by_default) == [(1, 0), (1, 1)]
    late = next(n for n, row in enumerate(by_default) if row.surplus)
    assert by_default[late].ability.value is None
    assert counted[late].ability.value is not None
    with pytest.raises(DataError, match="the items are pairwise") as refused:
        curate(judged, None, tmp_path / "b", format="kto")
    assert "binary or rating" in refused.value.expected
    assert "--format preference" in refused.value.fix
    asked = select_rows(judged, SnapshotSettings(method="majority", surplus=True))
    assert not any("surplus" in note for note in asked.notes)
    assert [row["n_votes"] for rows in asked.rows.values() for row in rows] == [2]
