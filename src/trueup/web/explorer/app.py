"""The explorer's app: calls that read, one page, behind the shell's gate. Nobody signs in: it answers this computer.

create_app(source, metric_of)
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from trueup import __version__
from trueup.errors import UsageError
from trueup.web.explorer import api
from trueup.web.explorer.source import Meaning, Source
from trueup.web.shell import problems
from trueup.web.shell.limits import Limits, LoginGuard
from trueup.web.shell.pages import serve_files, templates
from trueup.web.shell.security import Doors, Gate
from trueup.web.shell.server import is_loopback, run

API = "/api/v1"
HERE = Path(__file__).parent
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
DOORS = Doors("", re.compile(r"(?!)"), (), (), "open it by the address that trueup explore told")
"""There is no sign-in call here, and no call takes a large body."""


def create_app(
    source: Source, means: Callable[[str], Meaning | None], *, token: str | None = None, limits: Limits | None = None
) -> FastAPI:
    """The app on a source of runs.

    Args:
        source: Who reads the runs.
        means: What a metric is, by its name; None where nobody knows.
        token: Whoever has it may have people asked; None: nobody may, and every call reads.
        limits: Sizes, times and rates.
    """
    limits = limits or Limits()
    app = FastAPI(title="trueup explorer", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.source, app.state.means, app.state.closing = source, means, threading.Event()
    app.state.token = token
    problems.install(app)
    app.include_router(api.router, prefix=API)
    if token is not None:
        app.include_router(api.questions, prefix=API)
    serve_files(app, HERE / "static")
    page = templates(HERE / "templates").get_template("explorer.html").render(version=__version__)

    @app.get("/", include_in_schema=False)
    def front() -> HTMLResponse:
        return HTMLResponse(page)

    app.add_middleware(Gate, store=None, limits=limits, guard=LoginGuard(limits), doors=DOORS, hosts=LOOPBACK)
    return app


def serve_explorer(
    source: Source,
    means: Callable[[str], Meaning | None],
    host: str = "127.0.0.1",
    port: int = 8401,
    *,
    asks: bool = False,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        source: Who reads the runs.
        means: What a metric is, by its name.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        asks: Whoever opens the address that is told may have people asked about alerts: behind its ``#`` stands a
            token, which never leaves the browser but in the header of that call.
        tell: Gets the address once it listens.

    Raises:
        UsageError: Others could reach the address, or it cannot be used.
    """
    if not is_loopback(host):
        raise UsageError(
            f"{host} can be reached by others, and the explorer asks nobody who they are",
            where="--host",
            expected="127.0.0.1",
            fix=f"leave it out; from another computer: ssh -L {port}:127.0.0.1:{port} THIS-COMPUTER",
        )
    token = secrets.token_urlsafe(24) if asks else None
    app = create_app(source, means, token=token)

    def told(address: str) -> None:
        tell(address if token is None else f"{address}#token={token}")

    run(app, host, port, proxy=None, limits=Limits(), tell=told, closing=app.state.closing)
