"""Settings of templates: what is misspelt or cannot be meant is refused by name, what is stored breaks nothing."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from trueup.errors import ConfigError, DataError, UsageError
from trueup.feedback.store import item_rows
from trueup.feedback.store.answers import KINDS
from trueup.feedback.store.audit import first_fault
from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import (
    NewItem,
    add_person,
    add_template,
    change_template,
    create_project,
    import_items,
)
from trueup.feedback.store.schema import template
from trueup.feedback.store.template_settings import check_settings
from trueup.feedback.workflow import adjudication
from trueup.feedback.workflow.assignment import next_seat
from trueup.feedback.workflow.dashboard import templates_of
from trueup.feedback.workflow.judgments import submit

AXIS = {"name": "helpful", "low": 1, "high": 5}
RESPONSES = {"ranking": ("a", "b", "c"), "pairwise": ("a", "b"), "review": ("a", "b"), "redteam": ()}


@pytest.fixture
def file(tmp_path, clock):
    """A store in a file: where the database makes no difference, it is asked once."""
    with Store(tmp_path / "file.db", clock=clock) as opened:
        yield opened


def needed(kind):
    return {"axes": [AXIS]} if kind == "rating" else {}


@pytest.mark.parametrize(
    ("kind", "config", "place", "said"),
    [
        ("pairwise", {"alow_tie": False}, "alow_tie", "did you mean 'allow_tie'"),
        ("pairwise", {"require_rationale": "no"}, "require_rationale", "true or false"),
        ("pairwise", {"require_rationale": 1}, "require_rationale", "true or false"),
        ("pairwise", {"min_seconds": "soon"}, "min_seconds", "seconds, 0 to 3600"),
        ("pairwise", {"min_seconds": -1}, "min_seconds", "is -1"),
        ("pairwise", {"min_seconds": float("nan")}, "min_seconds", "seconds"),
        ("pairwise", {"min_seconds": True}, "min_seconds", "seconds"),
        ("pairwise", {"axes": ["helpful"]}, "axes", "'axes' is a setting of rating"),
        ("pairwise", {"allow_tie": False, "allow_both_bad": True}, "template.config", "a kind of tie"),
        ("pairwise", {"quality": {"gold_evry": 3}}, "quality.gold_evry", "did you mean 'gold_every'"),
        ("pairwise", {"quality": {"calibration": "5"}}, "quality.calibration", "a whole number"),
        ("pairwise", {"quality": 5}, "quality", "an object"),
        ("binary", {"quality": {"max_overlap": 4}}, "quality.max_overlap", "does nothing for binary"),
        ("binary", {"allow_tie": True}, "allow_tie", "a setting of pairwise, review"),
        ("review", {"allow_both_bad": True}, "allow_both_bad", "a setting of pairwise"),
        ("rating", {}, "axes", "is missing"),
        ("rating", {"axes": []}, "axes", "helpful"),
        ("rating", {"axes": {}}, "axes", "helpful"),
        ("rating", {"axes": [1]}, "axes.0", "is 1"),
        ("rating", {"axes": [AXIS | {"low": "a"}]}, "axes.0.low", "a whole number"),
        ("rating", {"axes": [AXIS | {"high": None}]}, "axes.0.high", "is None"),
        ("rating", {"axes": [AXIS | {"name": 7}]}, "axes.0.name", "is 7"),
        ("rating", {"axes": [AXIS | {"name": ""}]}, "axes.0.name", "1 to 200"),
        ("rating", {"axes": [AXIS | {"high": 1}]}, "axes.0", "low before high"),
        ("rating", {"axes": [AXIS | {"high": 10**8}]}, "axes.0", "points"),
        ("rating", {"axes": [AXIS | {"hihg": 5}]}, "axes.0.hihg", "did you mean 'high'"),
        ("rating", {"axes": [AXIS, AXIS]}, "template.config", "'helpful' is there twice"),
        ("rating", {"axes": [AXIS | {"labels": {"9": "x"}}]}, "axes.0", "the point '9'"),
        ("rating", {"axes": [AXIS | {"labels": ["x"]}]}, "axes.0.labels", "points and texts"),
        ("critique", {"tags": "wrong"}, "tags", "a list of texts"),
        ("critique", {"tags": ["a", "a"]}, "template.config", "'a' is there twice"),
        ("critique", {"tags": ["x" * 41]}, "tags.0", "xxx"),
        ("critique", {"categories": ["a"]}, "categories", "a setting of redteam"),
        ("redteam", {"categories": [7]}, "categories.0", "is 7"),
        ("edit", {"instruction": ["x"]}, "instruction", "text"),
        ("ranking", [], "template.config", "an object of settings"),
        ("ranking", "x", "template.config", "an object of settings"),
        ("pairwize", {}, "template.kind", "did you mean 'pairwise'"),
    ],
)
def test_wrong_settings_are_refused_by_name(kind, config, place, said):
    with pytest.raises(ConfigError) as caught:
        check_settings(kind, config)
    assert isinstance(caught.value, UsageError)
    assert place in caught.value.where
    assert said in " ".join(str(caught.value).split())


def test_wrong_settings_are_not_stored_by_any_way(store):
    project = create_project(store, "p")
    for kind, config in (("pairwise", {"alow_tie": False}), ("rating", {}), ("redteam", {"categories": [7]})):
        with pytest.raises(ConfigError):
            add_template(store, project, kind, "t", config)
    assert templates_of(store, project) == []
    right = add_template(store, project, "pairwise", "t", {"min_seconds": 2})
    with pytest.raises(ConfigError):
        change_template(store, right, {"min_seconds": "soon"})
    assert templates_of(store, project)[0].config == {"min_seconds": 2}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("pairwise", {"allow_tie": False, "min_seconds": 1.5, "note_to_leads": "n", "quality": {"max_overlap": 3}}),
        ("rating", {"axes": [AXIS | {"label": "Help", "labels": {"1": "no"}, "low_label": "x", "high_label": "y"}]}),
        ("critique", {"tags": ["wrong"], "require_rationale": True}),
        ("redteam", {"categories": ["fraud"], "instruction": "Be careful."}),
        *((kind, needed(kind)) for kind in KINDS),
    ],
)
def test_right_settings_are_stored_as_they_are(file, kind, config):
    project = create_project(file, "p")
    add_template(file, project, kind, "t", config)
    (template,) = templates_of(file, project)
    assert (template.config, template.problem) == (config, None)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=4,
)
names = st.sampled_from(
    "min_seconds require_rationale instruction quality allow_tie allow_both_bad axes tags categories x".split()
)


@given(kind=st.sampled_from(KINDS), config=st.dictionaries(names, values, max_size=3))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_settings_are_taken_or_refused(kind, config):
    with contextlib.suppress(ConfigError):
        check_settings(kind, config)


def answer(kind, shown):
    return {
        "pairwise": {"preferred": shown[0] if shown else None, "strength": 1},
        "review": {"preferred": None, "follows_principle": True},
        "rating": {"response": shown[0] if shown else "", "scores": {"helpful": 4}},
        "binary": {"response": shown[0] if shown else "", "acceptable": True},
    }[kind]


def corrupt(store, template_id, config):
    """What an older version let in."""
    with store.write() as connection:
        connection.execute(update(template).where(template.c.id == template_id).values(config=config))


@pytest.mark.parametrize(
    ("kind", "config", "named"),
    [
        ("rating", {"axes": [AXIS | {"low": "a"}]}, "axes.0.low"),
        ("rating", {"axes": ["helpful"]}, "axes.0"),
        ("rating", {"axes": [AXIS | {"name": 7}]}, "axes.0.name"),
        ("rating", {"axes": None}, "axes"),
        ("rating", {}, "axes"),
        ("pairwise", {"allow_tie": "no"}, "allow_tie"),
        ("pairwise", {"quality": {"gold_every": "often"}}, "gold_every"),
        ("pairwise", {"quality": []}, "quality"),
        ("pairwise", ["allow_tie"], "config"),
        ("pairwise", "allow_tie", "config"),
        ("binary", {"min_seconds": "soon"}, "min_seconds"),
    ],
)
def test_older_settings_that_cannot_be_used_are_named_and_can_be_mended(file, kind, config, named):
    project, ada, bob = create_project(file, "p"), add_person(file, "ada"), add_person(file, "bob")
    made = add_template(file, project, kind, "t", needed(kind))
    import_items(file, made, [NewItem("Q?", RESPONSES.get(kind, ("a",)))])
    seat = next_seat(file, project, ada)
    import_items(file, add_template(file, project, "binary", "fine"), [NewItem("Other?", ("a",))])
    corrupt(file, made, config)
    with pytest.raises(UsageError, match=named) as caught:
        submit(file, seat.item, ada, "key-000001", answer=answer(kind, seat.shown))
    assert "'t'" in caught.value.what
    assert "a lead mends it" in caught.value.fix
    with pytest.raises(UsageError, match=named):
        import_items(file, made, [NewItem("More?", RESPONSES.get(kind, ("a",)))])
    other = next_seat(file, project, bob)  # others' items are handed out all the same
    submit(file, other.item, bob, "key-000002", answer=answer("binary", other.shown))
    assert next_seat(file, project, bob).reason == "done"
    assert named in next(row.problem for row in templates_of(file, project) if row.id == made)
    change_template(file, made, needed(kind), actor="lead")
    assert not any("problem" in row.to_dict() for row in templates_of(file, project))
    submit(file, seat.item, ada, "key-000001", answer=answer(kind, seat.shown))
    with file.read() as connection:
        assert first_fault(connection) is None


def test_a_project_with_no_other_template_says_what_is_wrong(store):
    project, ada = create_project(store, "p"), add_person(store, "ada")
    made = add_template(store, project, "rating", "t", needed("rating"))
    import_items(store, made, [NewItem("Q?", ("a",))])
    next_seat(store, project, ada)
    corrupt(store, made, {"axes": 3})
    nothing = next_seat(store, project, ada)
    assert nothing.reason == "unusable_settings"
    assert "'t'" in nothing.message
    assert "axes" in nothing.message


def test_a_misspelt_name_that_is_stored_already_is_told_and_stops_nobody(store):
    project, ada = create_project(store, "p"), add_person(store, "ada")
    made = add_template(store, project, "pairwise", "t")
    import_items(store, made, [NewItem("Q?", ("a", "b"))])
    corrupt(store, made, {"alow_tie": False, "axes": []})
    seat = next_seat(store, project, ada)
    submit(store, seat.item, ada, "key-000001", answer=answer("pairwise", seat.shown))
    assert "allow_tie" in templates_of(store, project)[0].problem


def test_an_adjudicator_is_told_of_settings_that_cannot_be_used(store):
    project, ada = create_project(store, "p"), add_person(store, "ada")
    made = add_template(store, project, "rating", "t", needed("rating"))
    (item,) = import_items(store, made, [NewItem("Q?", ("a",))]).items
    seat = next_seat(store, project, ada)
    corrupt(store, made, {"axes": 3})
    with pytest.raises(UsageError, match="axes"):
        adjudication.give_blind(store, item, ada, answer("rating", seat.shown))


@pytest.mark.parametrize(
    ("kind", "config", "given", "why", "said"),
    [
        ("pairwise", {"allow_tie": False}, {"preferred": None, "strength": 0}, "x", "ties are not allowed"),
        ("pairwise", {"allow_both_bad": False}, {"preferred": None, "both_bad": True}, "x", "both bad"),
        ("pairwise", {"require_rationale": True}, {"preferred": 0, "strength": 1}, " ", "rationale"),
        (
            "critique",
            {"tags": ["wrong"]},
            {"text": "t", "spans": [{"start": 0, "end": 1, "tag": "wrnog"}]},
            "",
            "'wrong'",
        ),
        ("redteam", {"categories": ["fraud"]}, {"prompt": "p", "category": "other"}, "", "fraud"),
    ],
)
def test_an_answer_that_the_settings_forbid_is_refused_whoever_sends_it(file, kind, config, given, why, said):
    project, ada = create_project(file, "p"), add_person(file, "ada")
    made = add_template(file, project, kind, "t", config)
    import_items(file, made, [NewItem("Q?", RESPONSES.get(kind, ("a",)))])
    seat = next_seat(file, project, ada)
    if given.get("preferred") == 0:
        given = given | {"preferred": seat.shown[0]}
    if kind == "critique":
        given = given | {"response": seat.shown[0]}
    with pytest.raises(DataError, match=said):
        submit(file, seat.item, ada, "key-000001", answer=given, rationale=why)
    submit(file, seat.item, ada, "key-000001", skip_reason="other")


def test_a_scale_that_people_answered_on_cannot_become_another(store):
    project, ada = create_project(store, "p"), add_person(store, "ada")
    made = add_template(store, project, "rating", "t", needed("rating"))
    import_items(store, made, [NewItem("Q?", ("a",))])
    change_template(store, made, {"axes": [AXIS | {"high": 7}]})  # nobody has answered yet
    seat = next_seat(store, project, ada)
    submit(store, seat.item, ada, "key-000001", answer=answer("rating", seat.shown))
    for axes in (
        [AXIS],
        [AXIS | {"high": 9}],
        [AXIS | {"name": "x", "high": 7}],
        [AXIS | {"high": 7}, AXIS | {"name": "x"}],
    ):
        with pytest.raises(ConfigError, match="another scale"):
            change_template(store, made, {"axes": axes})
    change_template(store, made, {"axes": [AXIS | {"high": 7, "label": "Helpful?"}], "min_seconds": 2})
    corrupt(store, made, {"axes": "x"})
    with pytest.raises(ConfigError, match="another scale"):
        change_template(store, made, {"axes": [AXIS | {"high": 3}]})
    change_template(store, made, {"axes": [AXIS]})


@pytest.mark.parametrize(
    ("kind", "row", "place"),
    [
        ("pairwise", {"gold": {"preferred": 2, "strength": 1}}, "gold.preferred"),
        ("pairwise", {"gold": {"preferred": -1, "strength": 1}}, "gold.preferred"),
        ("pairwise", {"gold": {"preferred": True, "strength": 1}}, "gold.preferred"),
        ("pairwise", {"gold": {"preferred": "0", "strength": 1}}, "gold.preferred"),
        ("pairwise", {"gold": {"preferred": 0, "strenght": 1}}, "gold.strenght"),
        ("pairwise", {"gold": {"preferred": 0, "strength": "2"}}, "gold.strength"),
        ("pairwise", {"gold": {"kind": "binary", "preferred": 0}}, "gold"),
        ("pairwise", {"gold": {}}, "gold"),
        ("ranking", {"gold": {"tiers": [[0], [7]]}}, "gold.tiers"),
        ("ranking", {"gold": {"tiers": [0, 1]}}, "gold.tiers"),
        ("ranking", {"gold": {"tiers": "01"}}, "gold.tiers"),
        ("ranking", {"gold": {"tiers": [[0], [0]]}}, "gold"),
        ("ranking", {"gold": {"tiers": [["0"]]}}, "gold.tiers"),
        ("rating", {"gold": {"response": 0, "scores": {"helpful": 9}}}, "gold.scores.helpful"),
        ("rating", {"gold": {"response": 0, "scores": {"honest": 1}}}, "gold.scores"),
        ("pairwise", {"generators": ("a", "b", "c")}, "generators"),
        ("pairwise", {"generators": ("x" * 201,)}, "generators"),
        ("pairwise", {"stream": "mian"}, "stream"),
        ("pairwise", {"split": "valid"}, "split"),
        ("review", {"context": {"revision": 2}}, "context.revision"),
    ],
)
def test_one_wrong_row_is_refused_by_field_and_takes_no_other_along(file, kind, row, place):
    project = create_project(file, "p")
    made = add_template(file, project, kind, "t", needed(kind))
    responses = RESPONSES.get(kind, ("a",))
    rows = [NewItem("first", responses), NewItem("wrong", responses, **row), NewItem("last", responses)]
    for dry_run in (True, False):
        done = import_items(file, made, rows, dry_run=dry_run)
        assert (len(done.items), [number for number, _ in done.rejected]) == (2, [1])
        assert done.rejected[0][1].startswith(place)


def test_items_go_in_all_or_none(store, monkeypatch):
    project = create_project(store, "p")
    made = add_template(store, project, "pairwise", "t")
    rows = [NewItem(f"Q{n // 2}?", (f"a{n}", f"b{n}")) for n in range(1200)]
    flush = item_rows.ItemWriter.flush

    def broken(writer):
        flush(writer)
        raise RuntimeError("the database went away")

    monkeypatch.setattr(item_rows.ItemWriter, "flush", broken)
    with pytest.raises(RuntimeError):
        import_items(store, made, rows)
    monkeypatch.undo()
    assert next_seat(store, project, add_person(store, "ada")).reason == "done"
    assert len(import_items(store, made, rows).items) == 1200
    assert len(import_items(store, made, rows[:3]).items) == 3  # prompts and responses that are known are used again
