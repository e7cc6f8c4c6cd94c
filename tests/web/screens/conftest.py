"""A browser, the real server, and pages that fail a test on any console error or policy violation."""

from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace

import pytest

from tests.web.conftest import PASSWORD, Room
from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import NewItem, add_guideline, add_template, create_project, import_items
from trueup.feedback.store.reading import read_project
from trueup.web.shell.limits import Limits

BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium; the tests are skipped without one, except in CI."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("playwright is not installed")
    if BROWSER is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must install chromium")
        pytest.skip("no Chromium here")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


def expect(*args):
    """What playwright expects of a locator, tried again until it holds: a page is drawn while a test looks at it."""
    from playwright.sync_api import expect as of

    return of(*args)


class Desk:
    """The server under the pages, and what a lead would have set up."""

    def __init__(self, where):
        self.store = Store(where)
        self.room = Room(self.store, limits=Limits(rate=1000, burst=1000))
        self.url = self.room.url
        self.count = 0

    def person(self, role="annotator", handle=None):
        """A person with a password."""
        self.count += 1
        name = handle or f"{role} {self.count}"
        return SimpleNamespace(id=self.room.person(name, role), handle=name)

    def project(self, name=None):
        """An empty project."""
        self.count += 1
        return SimpleNamespace(id=create_project(self.store, name or f"project {self.count}"))

    def items(self, project, kind, rows, config=None, overlap=1):
        """Items of one kind in a project."""
        self.count += 1
        template = add_template(self.store, project.id, kind, f"{kind} {self.count}", config or {})
        done = import_items(self.store, template, rows, overlap=overlap)
        assert done.rejected == ()
        return done.items

    def item(self, project, kind, prompt, responses=(), config=None, **more):
        """One item."""
        return self.items(project, kind, [NewItem(prompt, tuple(responses), **more)], config)[0]

    def guideline(self, project, text):
        """A guideline that must be read first."""
        return add_guideline(self.store, project.id, text)

    def judged(self, project):
        """Current judgments."""
        return read_project(self.store, project.id).judgments

    def close(self):
        self.room.close()
        self.store.close()


@pytest.fixture(scope="session")
def desk(tmp_path_factory):
    made = Desk(tmp_path_factory.mktemp("room") / "feedback.db")
    yield made
    made.close()


class Visit:
    """One person's browser window, with a record of what went wrong and what was posted."""

    def __init__(self, browser, desk, **options):
        self.desk = desk
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.faults, self.dialogs, self.sent = [], [], []
        self.expected = ()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._request)
        self.page.set_default_timeout(30_000)

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _request(self, request):
        if request.method not in ("GET", "HEAD") and "/api/v1/" in request.url:
            body = request.post_data
            path = request.url.split("/api/v1", 1)[1]
            parsed = json.loads(body) if body and body.startswith(("{", "[")) else body
            self.sent.append(SimpleNamespace(method=request.method, path=path, body=parsed, headers=request.headers))

    def posts(self, ending):
        """What was posted to paths with this ending, oldest first."""
        return [one for one in self.sent if one.path.endswith(ending)]

    def sign_in(self, person):
        """Sign in by the form, as a person does."""
        self.page.goto(self.desk.url + "/login")
        self.page.get_by_label("Handle").fill(person.handle)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("heading", name="Projects").wait_for()
        self.person = person
        return self

    def go(self, path):
        """Open a page of this server."""
        self.page.goto(self.desk.url + path)

    def annotate(self, project):
        """Open the queue and agree to take part; returns the seat that the server gave."""
        with self.page.expect_response(lambda r: r.url.endswith("/next")) as waited:
            self.go(f"/annotate/{project.id}")
            self.page.get_by_role("heading", name="Before you start").wait_for()
            self.press("Enter")
        return waited.value.json()["seat"]

    def press(self, *keys):
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def submitted(self, *keys, ending="/judgments"):
        """Press keys that submit; returns the request once the server has answered."""
        self.page.locator("main .work[inert]").wait_for(state="detached")  # the last answer is still being sent
        count = len(self.posts(ending))
        with self.page.expect_response(lambda r: r.url.endswith(ending)) as waited:
            self.press(*keys)
        assert waited.value.ok, waited.value.text()
        assert len(self.posts(ending)) == count + 1
        return self.posts(ending)[-1]

    def close(self):
        """End the visit; any fault that was not expected fails the test."""
        self.context.close()
        faults = [fault for fault in self.faults if not any(word in fault for word in self.expected)]
        assert faults == []
        assert self.dialogs == []


@pytest.fixture
def visit(chromium, desk):
    """Opens windows: ``visit(person, **context options)``."""
    opened = []

    def start(person=None, **options):
        one = Visit(chromium, desk, **options)
        opened.append(one)
        return one.sign_in(person) if person else one

    yield start
    for one in opened:
        one.close()
