"""The annotation app: routes behind one gate.

create_app(Store("feedback.db"))
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

from fastapi import FastAPI

from trueup import __version__
from trueup.feedback.store.database import Store
from trueup.web.annotate import adjudication, audit, auth, exports, pages, people, projects, quality, queue
from trueup.web.shell import problems
from trueup.web.shell.access import IMPORT_SCOPES, LEADS
from trueup.web.shell.limits import Limits, LoginGuard
from trueup.web.shell.pages import serve_files
from trueup.web.shell.security import Doors, Gate, StoredAccounts

API = "/api/v1"
DOORS = Doors(
    f"{API}/auth/login",
    re.compile(rf"{API}/projects/[^/]+/import"),
    LEADS,
    IMPORT_SCOPES,
    "trueup serve --allow-host NAME",
)
HASHES_AT_ONCE = 2
"""Passwords that are checked at the same time: each takes 32 MiB and most of a core."""


def create_app(
    store: Store, *, exports_dir: Path | None = None, limits: Limits | None = None, hosts: frozenset[str] | None = None
) -> FastAPI:
    """The app on an open store; it keeps no state of its own but the rate limits, which live in this process.

    Args:
        store: The database; the caller closes it.
        exports_dir: Where exported files are kept; beside the database file by default.
        limits: Sizes, times and rates; the defaults suit people.
        hosts: Host names that are answered; None for all.
    """
    limits = limits or Limits()
    app = FastAPI(title="trueup feedback room", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.store = store
    app.state.guard = LoginGuard(limits)
    app.state.hashing = threading.Semaphore(HASHES_AT_ONCE)
    app.state.exports = exports_dir or beside(store)
    problems.install(app)
    for room in (auth, people, projects, queue, adjudication, quality, exports, audit):
        app.include_router(room.router, prefix=API)
    app.include_router(pages.signs, prefix=API)
    app.include_router(pages.signs)
    serve_files(app, pages.HERE / "static")
    app.include_router(pages.router)
    accounts = StoredAccounts(store)
    app.add_middleware(Gate, accounts=accounts, limits=limits, guard=app.state.guard, doors=DOORS, hosts=hosts)
    return app


def beside(store: Store) -> Path:
    """Folder of exports: next to an SQLite file, in the working directory for a database server."""
    if store.dialect != "sqlite":
        return Path("feedback.exports")
    return Path(f"{store.where.removeprefix('sqlite:///')}.exports")
