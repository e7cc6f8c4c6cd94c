"""A small server of the HTTP contract for the screens: real feedback store below, plain rules of the contract above.

It keeps its state in a store of its own, so that what the pages post is checked by the code that will take it. What the
store does not know yet (tokens, quality rows, adjudication, exports) is kept in dictionaries.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from sqlalchemy import select

import trueup
from trueup.errors import TrueupError
from trueup.feedback import assignment, judgments, projects
from trueup.feedback.schema import item, item_response, response
from trueup.feedback.store import Store

HERE = Path(trueup.__file__).parent / "web" / "annotate"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
PASSWORD = "correct horse battery"
PAGES = {
    "": "projects.html",
    "login": "login.html",
    "annotate": "annotate.html",
    "lead": "lead.html",
    "adjudicate": "adjudicate.html",
    "admin": "admin.html",
}


@dataclass
class Person:
    """Somebody who can sign in."""

    id: str
    handle: str
    role: str
    active: bool = True


@dataclass
class Project:
    """What the store does not keep of a project."""

    id: str
    name: str
    state: str = "live"
    guideline: dict[str, Any] | None = None
    acknowledged: set[str] = field(default_factory=set)
    templates: list[dict[str, Any]] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    quality: dict[str, Any] = field(default_factory=dict)
    gold: list[dict[str, Any]] = field(default_factory=list)
    adjudicate: list[str] = field(default_factory=list)
    settled: dict[str, dict[str, Any]] = field(default_factory=dict)


class Refusal(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.more = status, detail, more


class Room:
    """The server's state, and the ways in which tests fill it."""

    def __init__(self, where: Path) -> None:
        self.store = Store(where / "feedback.db")
        self.people: dict[str, Person] = {}
        self.projects: dict[str, Project] = {}
        self.kinds: dict[str, tuple[str, str]] = {}  # item -> (project, template)
        self.sessions: dict[str, tuple[str, str]] = {}
        self.tokens: list[dict[str, Any]] = []
        self.exports: dict[str, bytes] = {}
        self.drafts: dict[str, Any] = {}
        self.flags: list[dict[str, Any]] = []
        self.beats: list[str] = []
        self.lease: Any = assignment.LEASE
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"room": self}))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.store.close()

    def person(self, role: str = "annotator", handle: str | None = None) -> Person:
        handle = handle or f"{role}-{secrets.token_hex(3)}"
        made = projects.add_person(self.store, handle, role=role)
        self.people[made] = Person(made, handle, role)
        return self.people[made]

    def project(self, name: str | None = None, *, guideline: str | None = None) -> Project:
        name = name or f"Project {secrets.token_hex(3)}"
        made = projects.create_project(self.store, name)
        self.projects[made] = Project(made, name)
        if guideline:
            self.guideline(made, guideline)
        return self.projects[made]

    def guideline(self, project: str, markdown: str, html: str | None = None) -> str:
        made = projects.add_guideline(self.store, project, markdown)
        of = self.projects[project]
        number = (of.guideline["number"] if of.guideline else 0) + 1
        of.guideline = {
            "id": made,
            "number": number,
            "markdown": markdown,
            "html": html or f"<h1>Guideline</h1><p>{markdown}</p>",
            "sha256": "0" * 64,
        }
        of.acknowledged = set()
        return made

    def template(self, project: str, kind: str, config: dict[str, Any] | None = None) -> dict[str, Any]:
        name = f"{kind} {secrets.token_hex(2)}"
        made = projects.add_template(self.store, project, kind, name, config or {})
        row = {"id": made, "kind": kind, "name": name, "config": config or {}}
        self.projects[project].templates.append(row)
        return row

    def item(
        self,
        project: Project,
        kind: str,
        prompt: Any,
        responses: tuple[str, ...] = (),
        *,
        config: dict[str, Any] | None = None,
        **more: Any,
    ) -> str:
        template = self.template(project.id, kind, config)
        row = projects.NewItem(prompt, responses, **more)
        done = projects.import_items(self.store, template["id"], [row], overlap=3)
        assert not done.rejected, done.rejected
        self.kinds[done.items[0]] = (project.id, template["id"])
        project.items.append(done.items[0])
        return done.items[0]

    def responses(self, item_id: str) -> list[dict[str, str]]:
        query = (
            select(response.c.id, response.c.text)
            .join(item_response, item_response.c.response == response.c.id)
            .where(item_response.c.item == item_id)
            .order_by(item_response.c.place)
        )
        with self.store.read() as connection:
            return [{"id": row.id, "text": row.text} for row in connection.execute(query)]

    def judged(self, project: Project) -> list[Any]:
        from trueup.feedback.reading import read_project

        return list(read_project(self.store, project.id).judgments)

    def shown(self, item_id: str, order: tuple[str, ...]) -> dict[str, Any]:
        """The part of a seat that describes the item."""
        with self.store.read() as connection:
            row = connection.execute(select(item).where(item.c.id == item_id)).one()
        project_id, template_id = self.kinds[item_id]
        of = self.projects[project_id]
        template = next(one for one in of.templates if one["id"] == template_id)
        texts = {one["id"]: one["text"] for one in self.responses(item_id)}
        turns = self.turns(row.prompt)
        return {
            "item": item_id,
            "kind": template["kind"],
            "prompt": turns,
            "responses": [{"id": one, "text": texts[one]} for one in order],
            "config": template["config"],
            "context": row.context,
            "guideline": {"id": of.guideline["id"], "number": of.guideline["number"]} if of.guideline else None,
        }

    def turns(self, prompt_id: str) -> list[dict[str, str]]:
        from trueup.feedback.schema import prompt

        with self.store.read() as connection:
            turns = connection.execute(select(prompt.c.turns).where(prompt.c.id == prompt_id)).scalar_one()
        return [{"role": "user", "content": turns}] if isinstance(turns, str) else turns


class _Handler(BaseHTTPRequestHandler):
    room: Room
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Requests are looked at in the browser."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/api/v1/"):
            self.api("GET")
        elif path.startswith("/static/"):
            self.static(path.removeprefix("/static/"))
        elif path.split("/")[1] in PAGES:
            pages = Environment(
                loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(), undefined=StrictUndefined
            )
            text = pages.get_template(PAGES[path.split("/")[1]]).render(version="test")
            self.reply(200, text.encode(), "text/html; charset=utf-8")
        else:
            self.reply(404, b"not found", "text/plain")

    def do_POST(self) -> None:
        self.api("POST")

    def do_PUT(self) -> None:
        self.api("PUT")

    def do_PATCH(self) -> None:
        self.api("PATCH")

    def do_DELETE(self) -> None:
        self.api("DELETE")

    def static(self, name: str) -> None:
        path = (HERE / "static" / name).resolve()
        if not path.is_file() or (HERE / "static") not in path.parents:
            self.reply(404, b"not found", "text/plain")
            return
        self.reply(200, path.read_bytes(), TYPES[path.suffix] + "; charset=utf-8")

    def reply(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def api(self, method: str) -> None:
        from tests.web.screens.routes import ROUTES

        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path = url.path.removeprefix("/api/v1")
        try:
            for verb, pattern, least, run in ROUTES:
                match = re.fullmatch(pattern, path)
                if verb == method and match:
                    who = self.who(least, method)
                    query = {name: values[0] for name, values in parse_qs(url.query).items()}
                    call = Call(self, who, [unquote(one) for one in match.groups()], query, raw)
                    status, body, headers = run(self.room, call)
                    break
            else:
                raise Refusal(404, f"{method} {path} is not in the contract")
        except Refusal as error:
            status, headers = error.status, error.more.pop("headers", {})
            body = {"type": "about:blank", "title": "Refused", "status": status, "detail": error.detail, **error.more}
        except TrueupError as error:
            status = 422 if isinstance(error, judgments.ReusedKey) else 400
            parts = {"where": error.where, "expected": error.expected, "fix": error.fix}
            body, headers = {"title": "Refused", "status": status, "detail": error.what, **parts}, {}
        if isinstance(body, bytes):
            self.reply(status, body, "application/octet-stream", **headers)
            return
        text = b"" if body is None else json.dumps(body).encode()
        self.reply(status, text, "application/json", **headers)

    def who(self, least: str | None, method: str) -> Person | None:
        if least is None:
            return None
        cookie = re.search(r"trueup_session=([\w-]+)", self.headers.get("Cookie") or "")
        session = self.room.sessions.get(cookie[1]) if cookie else None
        if session is None:
            raise Refusal(401, "sign in first")
        person, csrf = self.room.people[session[0]], session[1]
        if method != "GET" and self.headers.get("X-CSRF-Token") != csrf:
            raise Refusal(403, "the CSRF token is missing or another one")
        ranks = ["viewer", "annotator", "adjudicator", "lead", "admin"]
        if ranks.index(person.role) < ranks.index(least):
            raise Refusal(403, f"this needs the role {least}")
        return person


@dataclass
class Call:
    """One request, read."""

    handler: _Handler
    who: Person | None
    ids: list[str]
    query: dict[str, str]
    raw: bytes

    @property
    def person(self) -> Person:
        assert self.who is not None
        return self.who

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw or b"{}")
        return found

    def header(self, name: str) -> str:
        value = self.handler.headers.get(name)
        if not value:
            raise Refusal(400, f"the header {name} is missing")
        return str(value)

    @property
    def session(self) -> str:
        found = re.search(r"trueup_session=([\w-]+)", self.handler.headers.get("Cookie") or "")
        return found[1] if found else ""


def as_json(value: Any) -> Any:
    """A store's dataclass as JSON."""
    return json.loads(json.dumps(asdict(value), default=dict))
