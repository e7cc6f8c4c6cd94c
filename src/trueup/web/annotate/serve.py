"""Running the feedback room: one process, one database, a clean end.

By default it answers on this computer alone. To answer others it wants an admin with a password, and a proxy before
it that speaks TLS.
"""

from __future__ import annotations

import ipaddress
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from trueup.errors import UsageError
from trueup.feedback.accounts import has_admin, set_admin
from trueup.feedback.store import Store
from trueup.web.annotate.app import create_app
from trueup.web.annotate.limits import Limits

ADMIN = "admin"
"""Handle of the admin that ``--admin-password`` makes."""

DRAIN_SECONDS = 20
"""How long requests that have begun may take to end after SIGTERM."""


class Server(uvicorn.Server):
    """A server that tells its address once it listens."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[str], None]) -> None:
        super().__init__(config)
        self.tell = tell

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Open the socket, then tell the address."""
        await super().startup(sockets=None)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            self.tell(f"http://{shown}:{port}/")


def serve(
    db: str,
    host: str = "127.0.0.1",
    port: int = 8400,
    *,
    admin_password: str | None = None,
    allow_hosts: Sequence[str] = (),
    proxy: str | None = None,
    exports_dir: Path | None = None,
    limits: Limits | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM; requests that have begun are finished first.

    Args:
        db: File or URL of the feedback database.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        admin_password: Makes the account ``admin``, or gives it this password.
        allow_hosts: More host names to answer to than the loopback ones.
        proxy: Addresses of a proxy whose ``X-Forwarded-For`` and ``-Proto`` are believed, comma-separated.
        exports_dir: Where exported files are kept.
        limits: Sizes, times and rates.
        tell: Gets the lines for the user.

    Raises:
        UsageError: Others could reach it, and no admin has a password; or the address cannot be used.
    """
    with Store(db) as store:
        if admin_password is not None:
            set_admin(store, ADMIN, admin_password)
        local = is_loopback(host)
        if not has_admin(store):
            if not local:
                raise UsageError(
                    f"{host} can be reached by others, and no admin has a password",
                    where="--host",
                    expected="127.0.0.1, or an admin account",
                    fix="set TRUEUP_ADMIN_PASSWORD, or `trueup feedback user add NAME --role admin`",
                )
            tell("nobody can sign in yet: `trueup feedback user add NAME --role admin`, or --admin-password")
        if not local and proxy is None:
            tell("this is plain HTTP: put a proxy with TLS before it and name it with --proxy")
        names = {name.lower() for name in allow_hosts}
        hosts = frozenset(names | {"localhost", "127.0.0.1", "::1"}) if local or names else None
        app = create_app(store, exports_dir=exports_dir, limits=limits, hosts=hosts)
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,  # it would hold addresses of people
            server_header=False,
            proxy_headers=proxy is not None,
            forwarded_allow_ips=proxy or "",
            timeout_graceful_shutdown=DRAIN_SECONDS,
            lifespan="off",
        )
        _run(Server(config, tell), host, port)


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach an address; names other than ``localhost`` are taken to be public."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _run(server: Server, host: str, port: int) -> None:
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises the signal again after it has drained; this lets the database be closed in peace.
        signal.signal(signal.SIGTERM, _drained)
    try:
        server.run()
    except KeyboardInterrupt:
        return
    except SystemExit:  # uvicorn's way of saying that the address cannot be bound; its log says why
        raise UsageError(f"cannot listen on {host}:{port}", where="--port", fix="choose another port") from None


def _drained(number: int, frame: FrameType | None) -> None:
    """The drain is over; nothing is left to do."""
