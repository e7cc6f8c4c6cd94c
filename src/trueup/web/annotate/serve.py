"""Running the feedback room: one process, one database, a clean end.

By default it answers on this computer alone. To answer others it wants an admin with a password, and a proxy before
it that speaks TLS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trueup.errors import UsageError
from trueup.feedback.store.accounts import has_admin, set_admin
from trueup.feedback.store.database import Store
from trueup.web.annotate.app import create_app
from trueup.web.shell.limits import Limits
from trueup.web.shell.server import is_loopback, run

ADMIN = "admin"
"""Handle of the admin that ``--admin-password`` makes."""


def serve_feedback(
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
        run(app, host, port, proxy=proxy, limits=limits or Limits(), tell=tell)
