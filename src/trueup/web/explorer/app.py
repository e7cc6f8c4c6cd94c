"""The explorer's app: calls that read and, where it was started for it, act; one page; behind the shell's gate.

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
from trueup.web.explorer import api, keys
from trueup.web.explorer.keys import OPEN_AGAIN, Keys, Role
from trueup.web.explorer.source import Meaning, Source
from trueup.web.shell import problems
from trueup.web.shell.limits import Limits, LoginGuard
from trueup.web.shell.pages import serve_files, templates
from trueup.web.shell.security import Doors, Gate
from trueup.web.shell.server import is_loopback, run

API = "/api/v1"
HERE = Path(__file__).parent
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
DOORS = Doors(
    f"{API}/session", re.compile(r"(?!)"), (), (), "open it by the address that trueup explore told", OPEN_AGAIN
)
"""No call takes a large body."""


def create_app(
    source: Source,
    means: Callable[[str], Meaning | None],
    *,
    tokens: Keys | None = None,
    asks: bool = False,
    controls: bool = False,
    limits: Limits | None = None,
) -> FastAPI:
    """The app on a source of runs.

    Args:
        source: Who reads the runs.
        means: What a metric is, by its name; None where nobody knows.
        tokens: Who may read and who may act; None: everybody may read, and nobody act.
        asks: A lead may have people asked about alerts.
        controls: A lead may pause and stop runs that allow it.
        limits: Sizes, times and rates.
    """
    limits = limits or Limits()
    app = FastAPI(title="trueup explorer", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.source, app.state.means, app.state.closing = source, means, threading.Event()
    app.state.keys = tokens = tokens or Keys({})
    app.state.asks, app.state.controls = asks, controls
    problems.install(app)
    routers = [keys.router, api.router, *([api.questions] if asks else []), *([api.controls] if controls else [])]
    for router in routers:
        app.include_router(router, prefix=API)
    serve_files(app, HERE / "static")
    page = templates(HERE / "templates").get_template("explorer.html").render(version=__version__)

    @app.get("/", include_in_schema=False)
    def front() -> HTMLResponse:
        return HTMLResponse(page)

    app.add_middleware(Gate, accounts=tokens, limits=limits, guard=LoginGuard(limits), doors=DOORS, hosts=LOOPBACK)
    return app


def serve_explorer(
    source: Source,
    means: Callable[[str], Meaning | None],
    host: str = "127.0.0.1",
    port: int = 8401,
    *,
    asks: bool = False,
    controls: bool = False,
    closed: bool = False,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        source: Who reads the runs.
        means: What a metric is, by its name.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        asks: A lead may have people asked about alerts.
        controls: A lead may pause and stop runs that allow it.
        closed: Reading takes a token too.
        tell: Gets the addresses once it listens, one for each role. Behind the ``#`` of an address stands its token,
            which the browser sends to nobody but this server, and there in no address.

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
    needed: dict[Role, bool] = {"lead": asks or controls, "viewer": closed}
    roles = [role for role, is_needed in needed.items() if is_needed]
    tokens = Keys({role: secrets.token_urlsafe(24) for role in roles}, closed)
    app = create_app(source, means, tokens=tokens, asks=asks, controls=controls)

    def told(address: str) -> None:
        for line in addresses(address, tokens):
            tell(line)

    run(app, host, port, proxy=None, limits=Limits(), tell=told, closing=app.state.closing)


def addresses(address: str, tokens: Keys) -> list[str]:
    """What the server tells: the address of whoever started it, and one for those who only look."""
    own = {role: f"{address}#token={token}" for role, token in tokens.tokens.items()}
    if "lead" not in own:
        return [own.get("viewer", address)]
    return [own["lead"], f"to look only: {own.get('viewer', address)}"]
