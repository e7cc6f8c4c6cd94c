"""Nothing lost, nothing doubled: a crowd over real HTTP with clients that vanish, and a server that is killed."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx
import pytest
from sqlalchemy import func, select

from tests.feedback.conftest import where  # noqa: F401  (SQLite and PostgreSQL)
from tests.web.conftest import API, PASSWORD
from trueup.feedback.store import audit
from trueup.feedback.store.accounts import hash_password, make_token, sign_in
from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import NewItem, add_person, add_template, create_project, import_items
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.schema import audit_event

PEOPLE, ITEMS, OVERLAP = 50, 60, 3
STARTING_SECONDS = 120


class Gone(Exception):
    """This client was killed in the middle of its work."""


class Worker:
    """One simulated annotator: asks, sometimes vanishes, sometimes sends twice, retries what got no answer."""

    def __init__(self, url, token, project, number):
        self.url, self.token, self.project = url, token, project
        self.draw = random.Random(number)
        self.deadline = time.monotonic() + 240
        self.acknowledged, self.unsure, self.surplus, self.doubles = {}, [], 0, 0

    def session(self):
        return httpx.Client(base_url=self.url + API, headers={"Authorization": f"Bearer {self.token}"}, timeout=120)

    def work(self, lives=40):
        """Live again after each death, until nothing is left."""
        for _ in range(lives):
            try:
                with self.session() as client:
                    self.resend(client)
                    if self.until_done(client):
                        return
            except Gone:
                continue
        raise AssertionError("never done")

    def until_done(self, client):
        while True:
            found = self.asked(client)
            if found["seat"] is None:
                if found["reason"] == "done":
                    return True
                assert time.monotonic() < self.deadline, found
                time.sleep(0.05)
                continue
            self.judge(client, found["seat"])

    def asked(self, client):
        while (reply := client.post(f"/projects/{self.project}/next")).status_code == 503:
            time.sleep(0.05)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def judge(self, client, seat):
        fate = self.draw.random()
        if fate < 0.06:
            raise Gone  # died with the seat in hand; the next life gets the same one
        if fate < 0.10:
            client.put(f"/seats/{seat['id']}/draft", json={"x": 1}, headers={"X-Seat-Token": seat["token"]})
        if fate < 0.14:
            client.post(f"/seats/{seat['id']}/release", headers={"X-Seat-Token": seat["token"]})
            return
        shown = [r["id"] for r in seat["responses"]]
        body = {"answer": {"kind": "pairwise", "preferred": shown[0], "strength": 2}, "shown": shown}
        key = f"{self.draw.getrandbits(64):016x}"
        if fate < 0.20:
            self.unsure.append((seat["item"], key, body))
            self.cut_off(client, seat["item"], key, body)
        self.send(client, seat["item"], key, body)
        if fate > 0.85:
            self.doubles += 1
            self.send(client, seat["item"], key, body)

    def cut_off(self, client, item, key, body):
        """The request is sent and the connection dies before the reply is read."""
        with client.stream("POST", f"/items/{item}/judgments", json=body, headers={"Idempotency-Key": key}) as reply:
            assert reply.status_code in (200, 201)
        raise Gone

    def resend(self, client):
        while self.unsure:
            self.send(client, *self.unsure[-1])
            self.unsure.pop()

    def send(self, client, item, key, body):
        path, headers = f"/items/{item}/judgments", {"Idempotency-Key": key}
        while (reply := client.post(path, json=body, headers=headers)).status_code == 503:
            time.sleep(0.05)
        assert reply.status_code in (200, 201), reply.text
        found = reply.json()
        before = self.acknowledged.setdefault((item, key), found["judgment"])
        assert before == found["judgment"], "a retry was stored twice"
        self.surplus += found["surplus"] and not found["replayed"]


def prepared(store, people, items, overlap):
    """A live project and tokens of annotators."""
    project = create_project(store, "busy", simulated=True)
    template = add_template(store, project, "pairwise", "t")
    import_items(store, template, [NewItem(f"Q{i}?", (f"x{i}", f"y{i}")) for i in range(items)], overlap=overlap)
    hashed = hash_password(PASSWORD)
    add_person(store, "root", role="lead", password_hash=hashed)
    owner, _ = sign_in(store, "root", PASSWORD)
    tokens = []
    for number in range(people):
        made = add_person(store, f"w{number}", simulated=True)
        who = type(owner)(made, f"w{number}", "p", "annotator", True)
        tokens.append(make_token(store, who, "t", ["annotate"], 1).text)
    return project, tokens


def run_all(workers, at_work=None):
    errors = []

    def go(worker):
        try:
            worker.work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=go, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    if at_work is not None:
        at_work()
    for thread in threads:
        thread.join()
    assert errors == []


def assert_whole(store, project, workers, items, overlap):
    """Every acknowledged judgment is stored, none twice, every item has its overlap of different people."""
    judged = read_project(store, project)
    acknowledged = [made for worker in workers for made in worker.acknowledged.values()]
    assert len(acknowledged) == len(set(acknowledged))
    assert {j.id for j in judged.judgments} == set(acknowledged)
    assert max(Counter((j.item, j.annotator) for j in judged.judgments).values()) == 1
    full = Counter(j.item for j in judged.judgments if not j.surplus)
    assert full == dict.fromkeys(judged.items, overlap)
    assert len(judged.items) == items
    with store.read() as connection:
        assert audit.first_fault(connection) is None


@pytest.mark.slow
def test_fifty_annotators_with_kills_expired_leases_and_doubles(open_room, where):  # noqa: F811
    """The clock is moved past the leases while they work, so that seats are taken back from the living as well."""
    from tests.feedback.conftest import Clock

    clock = Clock()
    room = open_room(where, clock=clock)
    project, tokens = prepared(room.store, PEOPLE, ITEMS, OVERLAP)
    workers = [Worker(room.url, token, project, n) for n, token in enumerate(tokens)]

    def jump():
        for _ in range(6):
            time.sleep(0.3)
            clock.forward(minutes=11)

    run_all(workers, jump)
    assert_whole(room.store, project, workers, ITEMS, OVERLAP)
    assert sum(worker.doubles for worker in workers) > 5
    with room.store.read() as connection:
        taken_back = select(func.count()).select_from(audit_event).where(audit_event.c.action == "reclaim_seat")
        assert connection.execute(taken_back).scalar_one() > 0


class Process:
    """`trueup serve` in a process of its own."""

    def __init__(self, db, port=0, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trueup", "serve", "--db", str(db), "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.lines = []
        until = time.monotonic() + STARTING_SECONDS
        while not (self.lines and self.lines[-1].startswith("http://")):
            assert time.monotonic() < until
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            self.lines.append(line.strip())
        self.url = self.lines[-1].rstrip("/")

    def end(self, how):
        self.process.send_signal(how)
        code = self.process.wait(120)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


class Stubborn(Worker):
    """Keeps every answer until the server has acknowledged it, across deaths of the server."""

    def work(self):
        while not self.stop.is_set():
            try:
                with self.session() as client:
                    self.resend(client)
                    while not self.stop.is_set():
                        seat = self.asked(client)["seat"]
                        if seat is None:
                            return
                        shown = [r["id"] for r in seat["responses"]]
                        body = {"answer": {"kind": "pairwise", "preferred": shown[0], "strength": 1}, "shown": shown}
                        self.unsure.append((seat["item"], f"{self.draw.getrandbits(64):016x}", body))
                        self.resend(client)
            except httpx.TransportError:
                time.sleep(0.05)


@pytest.mark.slow
def test_a_server_killed_in_mid_write_keeps_every_acknowledged_judgment(tmp_path):
    db, people = tmp_path / "feedback.db", 8
    with Store(db) as store:
        project, tokens = prepared(store, people, 400, people)
    server = Process(db)
    port = int(server.url.rsplit(":", 1)[1])
    stop = threading.Event()
    workers = [Stubborn(server.url, token, project, n) for n, token in enumerate(tokens)]
    for worker in workers:
        worker.stop = stop
    kept = []

    def kill_twice():
        nonlocal server
        for kill in (1, 2):
            while sum(len(worker.acknowledged) for worker in workers) < 30 * kill:
                time.sleep(0.05)
            assert server.end(signal.SIGKILL) == -signal.SIGKILL
            # Whatever was acknowledged before the kill must be in the file that is left behind.
            before = {made for worker in workers for made in list(worker.acknowledged.values())}
            with Store(db) as store:
                stored = {j.id for j in read_project(store, project).judgments}
                with store.read() as connection:
                    assert audit.first_fault(connection) is None
            assert before <= stored
            kept.append(len(before))
            server = Process(db, port)
        while sum(len(worker.acknowledged) for worker in workers) < 90:
            time.sleep(0.05)
        stop.set()

    run_all(workers, kill_twice)
    assert server.end(signal.SIGTERM) == 0
    assert kept[0] > 20
    assert kept[1] > kept[0]
    with Store(db) as store:
        judged = read_project(store, project)
        acknowledged = {made for worker in workers for made in worker.acknowledged.values()}
        unsure = sum(len(worker.unsure) for worker in workers)
        assert acknowledged <= {j.id for j in judged.judgments}
        assert len(judged.judgments) <= len(acknowledged) + unsure
        assert max(Counter((j.item, j.annotator) for j in judged.judgments).values()) == 1
    found = subprocess.run(
        [sys.executable, "-m", "trueup", "feedback", "verify", "--db", str(db)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "whole" in found.stdout


def test_sigterm_finishes_what_has_begun(tmp_path):
    """A body that is still arriving when the signal comes is taken, stored and acknowledged."""
    db = tmp_path / "feedback.db"
    with Store(db) as store:
        project, (token,) = prepared(store, 1, 1, 1)
    server = Process(db)
    headers = {"Authorization": f"Bearer {token}"}
    seat = httpx.post(f"{server.url}{API}/projects/{project}/next", headers=headers).json()["seat"]

    def slowly():
        yield b'{"skip_reason": '
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        yield b'"other"}'

    reply = httpx.post(
        f"{server.url}{API}/items/{seat['item']}/judgments",
        content=slowly(),
        headers=headers | {"Idempotency-Key": "idempotency-1", "Content-Type": "application/json"},
        timeout=120,
    )
    assert reply.status_code == 201
    assert server.process.wait(30) == 0
    with Store(db) as store:
        assert [j.id for j in read_project(store, project).judgments] == [reply.json()["judgment"]]
