"""The feedback room behind a real HTTP server on a free port, with one account for each role."""

import threading
import time
from collections.abc import Mapping

import httpx
import pytest
import uvicorn

from tests.feedback.conftest import Clock
from trueup.feedback.store.accounts import hash_password
from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import NewItem, add_person, add_template, create_project, import_items
from trueup.web.annotate.app import create_app
from trueup.web.shell.limits import Limits

PASSWORD = "correct horse battery"
ROLES = ("viewer", "annotator", "adjudicator", "lead", "admin")
API = "/api/v1"


class Running:
    """An app on a free port, in a thread of this process."""

    def __init__(self, app, **settings):
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off", **settings))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        until = time.monotonic() + 120
        while not self.server.started:
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def close(self):
        self.server.should_exit = True
        self.thread.join(60)


class Room:
    """A served store; ``client(handle)`` is somebody who signed in."""

    def __init__(self, store, **settings):
        self.store = store
        self.app = create_app(store, **settings)
        self.running = Running(self.app)
        self.url = self.running.url
        self.clients = []
        self.hash = hash_password(PASSWORD)

    def person(self, handle, role="annotator"):
        return add_person(self.store, handle, role=role, password_hash=self.hash)

    def anonymous(self, **headers):
        made = httpx.Client(base_url=self.url + API, headers=headers, timeout=120)
        self.clients.append(made)
        return made

    def client(self, handle):
        made = self.anonymous(Origin=self.url)
        reply = made.post("/auth/login", json={"handle": handle, "password": PASSWORD})
        assert reply.status_code == 200, reply.text
        made.headers["X-CSRF-Token"] = reply.json()["csrf"]
        return made

    def token(self, client, *scopes):
        made = client.post("/tokens", json={"name": "t", "scopes": list(scopes), "days": 1})
        assert made.status_code == 201, made.text
        return self.anonymous(Authorization=f"Bearer {made.json()['token']}")

    def close(self):
        for one in self.clients:
            one.close()
        self.running.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_room(tmp_path, clock):
    """Opens rooms; they are closed at the end."""
    opened = []

    def make(where=None, *, clock=clock, **settings):
        store = Store(where or tmp_path / "feedback.db", clock=clock)
        room = Room(store, **{"limits": Limits(rate=1000, burst=1000), **settings})
        opened.append(room)
        return room

    yield make
    for room in opened:
        room.close()
        room.store.close()


@pytest.fixture
def room(open_room):
    """A room with one person for each role, by the name of the role."""
    made = open_room()
    for role in ROLES:
        made.person(role, role)
    return made


SECRETS = ("generator-one", "generator-two", "hidden explanation")


@pytest.fixture
def project(room):
    """A live project with one pairwise template and three pairs of overlap two."""
    made = create_project(room.store, "demo")
    template = add_template(
        room.store, made, "pairwise", "which is better", {"min_seconds": 1, "note_to_leads": "a secret of the leads"}
    )
    rows = [
        NewItem(
            f"Question {i}?",
            (f"good {i}", f"bad {i}"),
            generators=("generator-one", "generator-two"),
            context={"principle": "be kind", "model": "generator-one"},
        )
        for i in range(3)
    ]
    import_items(room.store, template, rows, overlap=2)
    room.template = template
    return made


def key(number=0):
    return f"idempotency-{number:04}"


def prefer(seat, place=0, strength=2) -> Mapping:
    return {"kind": "pairwise", "preferred": seat["responses"][place]["id"], "strength": strength}


def place_of(seat, beginning):
    """Where the response stands that begins so."""
    return [r["text"].startswith(beginning) for r in seat["responses"]].index(True)


def take(client, project):
    reply = client.post(f"/projects/{project}/next")
    assert reply.status_code == 200, reply.text
    return reply.json()["seat"]


def judge(client, seat, number=0, place=0, **body):
    return client.post(
        f"/items/{seat['item']}/judgments",
        json={"answer": prefer(seat, place), **body},
        headers={"Idempotency-Key": key(number)},
    )
