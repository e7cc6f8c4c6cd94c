"""The demo: a filled room that says it is simulated, and lets every role in."""

import re
import signal
import subprocess
import sys
import time

import httpx
import pytest

from trueup.commands.demo import ROLES


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    log = tmp_path_factory.mktemp("demo") / "log"
    with open(log, "wb") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", "trueup", "serve", "--demo", "--port", "0"], stdout=out, stderr=out
        )
    until = time.monotonic() + 240
    while not re.search(r"http://\S+", log.read_text()):
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)
    text = log.read_text()
    yield re.search(r"http://[^\s/]+", text).group(), re.search(r"password (\S+)", text).group(1)
    running.send_signal(signal.SIGTERM)
    assert running.wait(120) == 0


@pytest.mark.parametrize("role", ROLES)
def test_every_role_gets_in_and_sees_that_all_is_simulated(demo, role):
    url, password = demo
    with httpx.Client(base_url=f"{url}/api/v1", headers={"Origin": url}) as client:
        reply = client.post("/auth/login", json={"handle": f"demo-{role}", "password": password})
        assert reply.status_code == 200, reply.text
        assert reply.json()["me"]["role"] == role
        projects = client.get("/projects").json()
        assert len(projects) == 2
        assert all(one["simulated"] for one in projects)
        assert max(one["judgments"] for one in projects) > 1800


def test_the_lead_finds_who_does_not_read(demo):
    url, password = demo
    with httpx.Client(base_url=f"{url}/api/v1", headers={"Origin": url}, timeout=120) as client:
        client.post("/auth/login", json={"handle": "demo-lead", "password": password})
        judged = max(client.get("/projects").json(), key=lambda one: one["judgments"])
        rows = client.get(f"/projects/{judged['id']}/quality/annotators").json()["annotators"]
        suspects = [row for row in rows if len(row["signs"]) > 1]
        assert len(suspects) == 1
        assert "faster than the texts can be read" in suspects[0]["signs"][0]


def test_the_demo_is_for_this_computer_alone():
    ran = subprocess.run(
        [sys.executable, "-m", "trueup", "serve", "--demo", "--host", "0.0.0.0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "this computer alone" in ran.stderr
