"""``trueup serve``: the feedback room in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trueup.commands.options import Database

ADMIN_VARIABLE = "TRUEUP_ADMIN_PASSWORD"


def serve(
    db: Database = "feedback.db",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8400,
    admin_password: Annotated[
        bool, typer.Option("--admin-password", help="Ask for the password of `admin`; or set TRUEUP_ADMIN_PASSWORD.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another host name to answer to; repeatable.")
    ] = None,
    proxy: Annotated[
        str | None, typer.Option("--proxy", help="Addresses of a TLS proxy before it, comma-separated.")
    ] = None,
    exports: Annotated[
        Path | None, typer.Option("--exports", help="Folder of exported files; default: beside the database.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="A room filled by simulated annotators, gone when the server ends.")
    ] = False,
) -> None:
    """Open the feedback room in a browser: people judge, leads look after quality, judgments are exported.

    Example: `trueup serve --db feedback.db --admin-password`, or `trueup serve --demo` to look around
    """
    if demo:
        _serve_demo(host, port)
        return
    import os

    from trueup.web.annotate.serve import serve_feedback

    password = os.environ.get(ADMIN_VARIABLE)
    if admin_password:
        password = typer.prompt("Password of admin", hide_input=True, confirmation_prompt=True)
    serve_feedback(
        db,
        host,
        port,
        admin_password=password,
        allow_hosts=allow_host or (),
        proxy=proxy,
        exports_dir=exports,
        tell=typer.echo,
    )


def _serve_demo(host: str, port: int) -> None:
    import tempfile

    from trueup.commands.demo import ROLES, build
    from trueup.errors import UsageError
    from trueup.web.annotate.serve import serve_feedback

    if host not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError(
            f"the demo answers on this computer alone, not on {host}", where="--host", fix="leave --host out"
        )
    with tempfile.TemporaryDirectory(prefix="trueup-demo-") as folder:
        demo = build(Path(folder) / "demo.db", tell=typer.echo)
        typer.echo(f"sign in as {', '.join(f'demo-{role}' for role in ROLES)}; password {demo.password}")
        serve_feedback(str(demo.db), host, port, exports_dir=Path(folder) / "exports", tell=typer.echo)
