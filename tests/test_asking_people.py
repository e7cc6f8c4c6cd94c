"""An alert becomes blind pairs for people, once, and what they say comes back to the run."""

import json
import threading

import pytest
from sqlalchemy import select

from tests.test_live import trueup
from tests.web.explorer.planted import PROMPTS, judge, plant, runaway, start, write, write_offline
from trueup.commands.live.desk import PROJECT, Desk
from trueup.commands.live.runs import Runs
from trueup.errors import DataError, RunError, UsageError
from trueup.evaluation.intervals import wilson
from trueup.feedback.exchange.landing import project_named
from trueup.feedback.store.audit import first_fault
from trueup.feedback.store.database import Store
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.projects import add_template, create_project, import_items
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.schema import audit_event
from trueup.types import Message
from trueup.web.annotate.assignment_view import item_view

ALERT = ("bad", "kl_runaway", 20)


@pytest.fixture
def db(tmp_path):
    return str(tmp_path / "feedback.db")


@pytest.fixture
def runs(tmp_path, db):
    """The explorer's runs, one of which has an alert, with a desk."""
    plant(tmp_path / "runs" / "bad", values=runaway)
    desk = Desk(db)
    desk.check()
    return Runs(tmp_path / "runs", desk=desk)


def stored(db):
    with Store(db, read_only=True) as store:
        return list(read_project(store, project_named(store, PROJECT)).items.values())


def later(shown, texts):
    """Prefers the answer of the later step."""
    numbers = {name: int(texts[name].split()[1]) for name in shown}
    return {"preferred": max(numbers, key=numbers.get), "strength": 2}


def test_an_alert_becomes_blind_pairs_of_its_step_and_the_start(runs, db):
    told = runs.ask(*ALERT)
    assert {name: told[name] for name in ("pairs", "probe", "start", "votes", "win_rate", "new")} == {
        "pairs": 3, "probe": 20, "start": 0, "votes": 0, "win_rate": None, "new": 3}  # fmt: skip
    items = stored(db)
    for item in items:
        assert {r.text.split()[1] for r in item.responses} == {"20", "0"}
        assert (item.stream, item.split) == ("holdout", "test")
    assert {item.prompt[0].content for item in items} == set(PROMPTS)
    with Store(db, read_only=True) as store:
        shown = [item_view(store, item.id, project_named(store, PROJECT)).model_dump_json() for item in items]
    assert [text for text in shown if "step" in text or "runaway" in text or "bad" in text] == []


def test_a_second_question_changes_nothing_whoever_asks(runs, db):
    first = runs.ask(*ALERT)
    before = stored(db)
    assert runs.ask(*ALERT) == {**first, "new": 0}
    assert Runs(runs.root / "bad", desk=Desk(db, votes=5)).ask("bad", *ALERT[1:])["new"] == 0
    assert stored(db) == before


def test_two_at_once_write_one_copy(runs, db):
    desks = [Runs(runs.root, desk=Desk(db)) for _ in range(4)]
    written = []
    threads = [threading.Thread(target=lambda d=d: written.append(d.ask(*ALERT)["new"])) for d in desks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [0, 0, 0, 3]
    assert len(stored(db)) == 3


def test_the_store_itself_takes_what_is_asked_once_only_once(db):
    rows = [NewItem((Message("user", "Hi"),), ("a", "b"))]
    with Store(db) as store:
        template = add_template(store, create_project(store, "p"), "pairwise", "t")
        counts = [len(import_items(store, template, rows, once={"step": step}).items) for step in (1, 1, 2)]
    assert counts == [1, 0, 1]


def test_the_audit_log_says_who_asked_about_what(runs, db):
    runs.ask(*ALERT)
    with Store(db, read_only=True) as store, store.read() as connection:
        assert first_fault(connection) is None
        events = connection.execute(select(audit_event.c.actor, audit_event.c.action, audit_event.c.detail)).all()
    detail = next(
        json.loads(event.detail)
        for event in events
        if (event.actor, event.action) == ("trueup explore", "import_items")
    )
    assert (detail["probe"], detail["items"]) == (20, 3)


def test_what_people_say_comes_back_with_wilsons_interval_over_pairs(runs, db):
    runs.ask(*ALERT)
    judge(db, PROJECT, ["ada"], later)
    judge(db, PROJECT, ["bob"], lambda shown, texts: {"preferred": None, "strength": 0})
    asked = Runs(runs.root, desk=Desk(db)).state("bad")["asked"]["alerts"]
    assert len(asked) == 1
    wanted = wilson(3 * 0.75, 3)
    assert asked[0]["win_rate"] == pytest.approx({"estimate": 0.75, "low": wanted.low, "high": wanted.high})
    assert (asked[0]["votes"], asked[0]["judged"], asked[0]["people"]) == (6, 3, 2)


def test_equal_answers_are_ties_that_nobody_is_asked_about(tmp_path, db):
    with start(tmp_path / "runs" / "bad") as run:
        for step in range(30):
            run.log(step, runaway(step))
            for number, prompt in enumerate(PROMPTS if step in (0, 21) else ()):
                text = "Always the same" if number == 0 else f"Said {step} {number}"
                run.sample(step, prompt=f"user: {prompt}", question=prompt, completion=text)
    runs = Runs(tmp_path / "runs", desk=Desk(db))
    runs.desk.check()
    assert runs.ask(*ALERT)["equal"] == 1
    judge(db, PROJECT, ["ada", "bob"], later)
    told = Runs(tmp_path / "runs", desk=Desk(db)).state("bad")["asked"]["alerts"][0]
    assert told["win_rate"]["estimate"] == pytest.approx(2.5 / 3)
    assert told["probe"] == 21


def test_what_cannot_be_asked_says_why(runs, db, tmp_path):
    with pytest.raises(UsageError, match="no alert 'kl_runaway' at step 21"):
        runs.ask("bad", "kl_runaway", 21)
    with pytest.raises(UsageError, match="nobody can be asked"):
        Runs(runs.root).ask(*ALERT)
    with start(tmp_path / "runs" / "one") as run:
        write(run, range(30), values=runaway, probe_every=100)
    runs.runs()
    with pytest.raises(RunError, match="1 probes and two are needed"):
        runs.ask("one", *ALERT[1:])
    with start(tmp_path / "runs" / "data") as run:
        for step in range(30):
            run.log(step, runaway(step))
        write_offline(run, (5,), labels=("chosen",))
        write_offline(run, (10,), labels=("chosen",))
    runs.runs()
    with pytest.raises(RunError, match="nothing to judge"):
        runs.ask("data", *ALERT[1:])
    with Store(db) as store:
        template = add_template(store, create_project(store, PROJECT), "pairwise", "t")
        import_items(store, template, [NewItem((Message("user", PROMPTS[0]),), ("a", "b"), split="train")])
    with pytest.raises(DataError, match="already and would also be in 'test'"):
        runs.ask(*ALERT)
    assert len(stored(db)) == 1


def test_a_database_that_is_gone_is_told_beside_the_run(runs, db, tmp_path):
    (tmp_path / "feedback.db").write_text("no database")
    state = runs.state("bad")
    assert state["alerts"][0]["rule"] == "kl_runaway"
    assert "feedback.db" in state["asked"]["problem"]


def test_watch_asks_people_and_tells_what_they_said(tmp_path, db):
    plant(tmp_path / "bad", values=runaway)
    words = ("watch", tmp_path / "bad", "--feedback", db)
    first = trueup(*words)
    assert first.returncode == 1
    assert "step 20: kl_runaway: 3 blind pairs wait for people" in first.stdout
    judge(db, PROJECT, ["ada", "bob"], later)
    second = trueup(*words, "--json")
    asked = json.loads(second.stdout.splitlines()[-1])["asked"]
    assert (asked["win_rate"]["estimate"], asked["votes"]) == (1.0, 6)
    assert len(stored(db)) == 3
    refused = trueup("watch", tmp_path / "bad", "--project", "x")
    assert refused.returncode == 2
    assert "add --feedback" in refused.stderr


def test_watch_says_what_nobody_could_be_asked_about(tmp_path, db):
    with start(tmp_path / "one") as run:
        write(run, range(30), values=runaway, probe_every=100)
    told = trueup("watch", tmp_path / "one", "--feedback", db)
    assert "nobody could be asked: kl_runaway at step 20" in told.stderr


def test_two_alerts_about_the_same_answers_ask_once(tmp_path, db):
    plant(tmp_path / "runs" / "bad", values=lambda step: {**runaway(step), "entropy": 1.0 if step < 14 else 0.01})
    runs = Runs(tmp_path / "runs", desk=Desk(db))
    runs.desk.check()
    raised = [(one["rule"], one["step"]) for one in runs.state("bad")["alerts"]]
    assert raised == [("entropy_collapse", 19), ("kl_runaway", 20)]
    assert [runs.ask("bad", *one)["new"] for one in raised] == [3, 0]
    told = [(one["rule"], one["step"], one["probe"]) for one in runs.state("bad")["asked"]["alerts"]]
    assert told == [("entropy_collapse", 19, 20), ("kl_runaway", 20, 20)]
