"""What a database cannot hold, or nothing can read again, is refused at every door of both, with its field."""

import pytest
from sqlalchemy import func, select

from trueup.errors import DataError
from trueup.feedback.store.accounts import hash_password, make_token, sign_in
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.projects import (
    NewItem,
    add_guideline,
    add_person,
    add_template,
    create_project,
    import_items,
)
from trueup.feedback.store.schema import audit_event, item, judgment
from trueup.feedback.store.template_settings import SettingsError
from trueup.feedback.store.texts import DEEPEST, LONGEST_TEXT, check_text, check_value
from trueup.feedback.workflow.adjudication import give_blind, settle
from trueup.feedback.workflow.assignment import next_seat, save_draft
from trueup.feedback.workflow.dashboard import note_export
from trueup.feedback.workflow.judgments import flag_item, submit, supersede

BAD = {"NUL": "a\0b", "half a character": "grin \ud83d", "half a character, U.DE00": "\ude00"}
GOOD = ["", "é", "grin 😀", "\U0010ffff", "\ufffe", "\u202e", "\x01\x1b[31m", "e\u0301", "\ufeff"]
PASSWORD = "correct horse battery"


@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_stored_is_refused_with_its_place(said):
    with pytest.raises(DataError, match=said) as refused:
        check_text(BAD[said], "here")
    assert refused.value.where == "here"
    value = {"a": [1, {"b": BAD[said]}]}
    with pytest.raises(DataError, match=said) as refused:
        check_value(value, "answer")
    assert refused.value.where == "answer.a.1.b"
    with pytest.raises(DataError, match="name of a field"):
        check_value({BAD[said]: 1}, "answer")


@pytest.mark.parametrize("text", GOOD)
def test_every_whole_character_is_text(store, text):
    project = create_project(store, "p")
    template = add_template(store, project, "pairwise", "t")
    one = add_person(store, "ann")
    done = import_items(store, template, [NewItem(f"Q {text}", (f"x{text}", "y"), context={"topic": text})])
    assert done.rejected == ()
    here = next_seat(store, project, one)
    submit(store, here.item, one, "k", answer={"preferred": here.shown[0], "strength": 1}, rationale=text)
    with store.read() as connection:
        assert connection.execute(select(judgment.c.rationale)).scalar_one() == text
        assert connection.execute(select(item.c.context)).scalar_one() == {"topic": text}


def test_lengths_depths_and_numbers_have_an_end(store):
    check_text("x" * LONGEST_TEXT, "here")
    with pytest.raises(DataError, match="2,000,001 characters"):
        check_text("x" * (LONGEST_TEXT + 1), "here")
    deep = []
    for _ in range(DEEPEST):
        deep = [deep]
    with pytest.raises(DataError, match="nested"):
        check_value(deep, "context")
    with pytest.raises(DataError, match="is nan"):
        check_value({"a": float("nan")}, "context")
    with pytest.raises(DataError, match=r"project.name: holds 201 characters"):
        create_project(store, "x" * 201)
    with pytest.raises(DataError, match=r"person.handle"):
        add_person(store, "x" * 81)
    project = create_project(store, "p")
    template = add_template(store, project, "pairwise", "t")
    with pytest.raises(DataError, match=r"item.priority: is a number of more digits"):
        import_items(store, template, [NewItem("Q", ("x", "y"))], priority=2**31)
    (row, why), (deep_row, _) = import_items(
        store,
        template,
        [
            NewItem("Q", ("x", "y"), ("g" * 201,)),
            NewItem("Q", ("x", "y"), context={"a": deep}),
            NewItem("R", ("x", "y")),
        ],
    ).rejected
    assert (row, deep_row) == (0, 1)
    assert "generator" in why


@pytest.fixture
def room(store):
    project = create_project(store, "p")
    template = add_template(store, project, "critique", "t")
    import_items(store, template, [NewItem(f"Q{n}", (f"x{n}",)) for n in range(3)], overlap=1)
    add_guideline(store, create_project(store, "other"), "# Be kind")
    one = add_person(store, "ann", role="lead", password_hash=hash_password(PASSWORD))
    here = next_seat(store, project, one)
    done = submit(store, here.item, one, "first", answer=critique(here, "good"))
    owner, _ = sign_in(store, "ann", PASSWORD)
    return project, template, one, done.judgment, next_seat(store, project, one), here, owner


def critique(here, text):
    return {"response": here.shown[0], "text": text}


def doors(store, room, bad):
    project, template, one, before, here, judged, owner = room
    good = critique(here, "good")
    adjudicator = add_person(store, "bob", role="adjudicator")
    span = [{"start": 0, "end": 1, "tag": bad}]
    yield "name", lambda: create_project(store, bad)
    yield "guideline.markdown", lambda: add_guideline(store, project, bad)
    yield "template.name", lambda: add_template(store, project, "binary", bad)
    yield "template.config", lambda: add_template(store, project, "binary", "u", {"instruction": bad})
    yield "handle", lambda: add_person(store, bad)
    yield "answer.text", lambda: submit(store, here.item, one, "k", answer=critique(here, bad))
    yield "answer.spans", lambda: submit(store, here.item, one, "k", answer=good | {"spans": span})
    yield "rationale", lambda: submit(store, here.item, one, "k", answer=good, rationale=bad)
    yield "skip_reason", lambda: submit(store, here.item, one, "k", skip_reason=bad)
    yield "Idempotency-Key", lambda: submit(store, here.item, one, bad, answer=good)
    yield "shown", lambda: submit(store, here.item, one, "k", answer=good, shown=(bad,))
    yield "answer.text", lambda: supersede(store, before, one, "k", critique(judged, bad))
    yield "rationale", lambda: supersede(store, before, one, "k", critique(judged, "x"), rationale=bad)
    yield "seat.draft", lambda: save_draft(store, here.id, here.token, {"text": bad})
    yield "flag.reason", lambda: flag_item(store, here.item, one, bad)
    yield "flag.note", lambda: flag_item(store, here.item, one, "broken", bad)
    yield "answer.text", lambda: give_blind(store, judged.item, adjudicator, critique(judged, bad))
    yield "api_token.name", lambda: make_token(store, owner, bad, ["read"], 7)
    vote = ImportedVote(0, one, {"response": 0, "text": bad}, (0,), "2026-01-05T09:00:00Z")
    yield "answer.text", lambda: import_judged(store, template, [NewItem("N", ("x",))], [vote])
    vote = ImportedVote(0, one, {"response": 0, "text": "good"}, (0,), "2026-01-05T09:00:00Z", rationale=bad)
    yield "rationale", lambda: import_judged(store, template, [NewItem("N", ("x",))], [vote])
    yield "prompt", lambda: import_judged(store, template, [NewItem(bad, ("x",))], [])
    options = {"format": "kto", "options": {}, "rows": 1, "sha256": "0", "dropped": {}}
    yield "export.path", lambda: note_export(store, project, one, export_id="e", path=bad, **options)
    yield (
        "export.dropped",
        lambda: note_export(store, project, one, export_id="e", path="a", **options | {"dropped": {bad: 1}}),
    )
    yield "handle", lambda: sign_in(store, bad, PASSWORD)


@pytest.mark.parametrize("said", ["NUL", "half a character"])
def test_every_door_refuses_with_the_field_and_stores_nothing(store, room, said):
    names = []
    for name, door in doors(store, room, BAD[said]):
        with store.read() as connection:
            before = connection.execute(select(func.count()).select_from(audit_event)).scalar_one()
        with pytest.raises((DataError, SettingsError), match=said) as refused:
            door()
        assert name in str(refused.value), (name, str(refused.value))
        with store.read() as connection:
            assert connection.execute(select(func.count()).select_from(audit_event)).scalar_one() == before
        names.append(name)
    assert len(names) == 24
    settle_after_blind(store, room, BAD[said])


def settle_after_blind(store, room, bad):
    *_, judged, _ = room
    with store.read() as connection:
        (bob,) = [row.id for row in connection.exec_driver_sql("SELECT id FROM person WHERE handle = 'bob'")]
    give_blind(store, judged.item, bob, critique(judged, "x"))
    with pytest.raises(DataError, match=r"adjudication\.note"):
        settle(store, judged.item, bob, critique(judged, "x"), "ambiguous", bad)


@pytest.mark.parametrize("said", ["NUL", "half a character"])
@pytest.mark.parametrize("field", ["prompt", "responses", "generators", "explanation", "context", "gold"])
def test_a_row_that_cannot_be_stored_is_refused_and_the_others_go_in(store, said, field):
    bad = BAD[said]
    template = add_template(store, create_project(store, "p"), "critique", "t")
    row = {"prompt": "Q", "responses": ("x",)}
    row |= {
        "prompt": {"prompt": f"Q {bad}"},
        "responses": {"responses": (bad,)},
        "generators": {"generators": (bad,)},
        "explanation": {"explanation": bad},
        "context": {"context": {"topic": ["a", bad]}},
        "gold": {"stream": "gold", "gold": {"response": 0, "text": bad}},
    }[field]
    done = import_items(store, template, [NewItem("P", ("x",)), NewItem(**row), NewItem("R", ("x",))])
    assert len(done.items) == 2
    ((number, why),) = done.rejected
    assert number == 1
    assert said in why
    assert field in why
