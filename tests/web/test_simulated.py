"""Simulated annotators judge over the real HTTP interface; the quality pages find what was planted in them."""

from dataclasses import replace

import pytest

from tests.web.conftest import Room
from trueup.collectors.planted import plant, planted_annotator, planted_panel
from trueup.collectors.simulated import collect_answers
from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import add_template, create_project, import_items
from trueup.web.shell.limits import Limits

ODD = (
    planted_annotator("spammer", habit="fast"),
    planted_annotator("leans left", side=2.6),
    planted_annotator("always right", habit="right"),
)


class Http:
    """The simulator's client over HTTP: one signed-in session for each annotator."""

    def __init__(self, room, project, people):
        self.project = project
        self.clients = {}
        for one in people:
            room.person(one.name)
            self.clients[one.name] = room.client(one.name)

    def __call__(self, annotator, verb, body):
        client = self.clients[annotator]
        if verb == "next":
            return client.post(f"/projects/{self.project}/next").json()["seat"]
        reply = client.post(
            f"/items/{body['item']}/judgments",
            json={name: body[name] for name in ("answer", "rationale", "active_ms", "shown")},
            headers={"Idempotency-Key": body["key"]},
        )
        assert reply.status_code == 201, reply.text
        return None


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Seven ordinary annotators and three odd ones on 100 pairs, five judgments each, with gold for everybody."""
    store = Store(tmp_path_factory.mktemp("simulated") / "feedback.db")
    room = Room(store, limits=Limits(rate=10_000, burst=10_000))
    room.person("lead", "lead")
    room.person("root", "admin")
    project = create_project(store, "planted", simulated=True)
    quality = {"gold_every": 6, "repeat_every": None}
    template = add_template(store, project, "pairwise", "pairs", {"quality": quality})
    world = plant(120, seed=4, gold=0.12)
    import_items(store, template, world.rows, overlap=5)
    people = planted_panel(7, seed=4, odd=ODD)
    done = collect_answers(people, Http(room, project, people), worth=world.worth, seed=4)
    yield room, project, done
    room.close()
    store.close()


@pytest.mark.slow
def test_everything_was_judged_once_over_http(judged):
    room, project, done = judged
    lead = room.client("lead")
    (row,) = [one for one in lead.get("/projects").json() if one["id"] == project]
    assert row["judgments"] == done
    assert done > 5 * 95


def test_the_planted_spammers_and_the_leaning_are_found_and_nobody_else(judged):
    room, project, _ = judged
    lead = room.client("lead")
    found = lead.get(f"/projects/{project}/quality/annotators").json()["annotators"]
    handles = {row["pseudonym"]: row["handle"] for row in room.client("root").get("/people").json()}
    signs = {handles[row["annotator"]]: row["signs"] for row in found}
    assert any("faster than the texts can be read" in sign for sign in signs["spammer"])
    assert signs["always right"]
    assert [name for name, seen in signs.items() if name.startswith("sim-") and len(seen) > 1] == []
    sides = {handles[row["annotator"]]: row["side"] for row in found}
    assert sides["leans left"]["low"] > 0.3
    bias = lead.get(f"/projects/{project}/quality/bias").json()["left_wins"]["by_annotator"]
    outstanding = {handles[row["name"]] for row in bias if row["stands_out"]}
    assert {"leans left", "always right"} <= outstanding


@pytest.mark.slow
def test_groups_of_values_and_a_taste_for_length_are_found_and_called_no_spam(judged):
    room, _, _ = judged
    project = create_project(room.store, "divided", simulated=True)
    template = add_template(room.store, project, "pairwise", "pairs")
    world = plant(150, seed=1, gold=0.0, value_gap=1.0, spread=4.0)
    import_items(room.store, template, world.rows, overlap=6)
    people = [replace(one, name=f"v{n}", cluster=int(n < 3)) for n, one in enumerate(planted_panel(8, seed=1))]
    people.append(planted_annotator("likes long", ability=0.2, length=6.0))
    assert collect_answers(people, Http(room, project, people), worth=world.worth, seed=1) == 900
    lead = room.client("lead")
    handles = {row["pseudonym"]: row["handle"] for row in room.client("root").get("/people").json()}
    found = lead.get(f"/projects/{project}/quality/bias").json()
    assert found["camps"]["found"]
    small = {handles[name] for name in found["camps"]["groups"][1]["annotators"]}
    assert {"v0", "v1", "v2"} <= small <= {"v0", "v1", "v2", "likes long"}  # who looks at length belongs nowhere
    assert {handles[row["name"]] for row in found["lengths"] if row["stands_out"]} == {"likes long"}
    table = lead.get(f"/projects/{project}/quality/annotators").json()["annotators"]
    assert not any(row["signs"] for row in table if handles[row["annotator"]] in ("v0", "v1", "v2"))
