"""Commands of the feedback room: serve it, make accounts, check the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueup.errors import DataError, RunError, UsageError

if TYPE_CHECKING:
    from trueup.feedback.store import Store

app = typer.Typer(no_args_is_help=True, help="The feedback database: accounts and the audit log.")
user_app = typer.Typer(no_args_is_help=True, help="Accounts.")
app.add_typer(user_app, name="user")

Database = Annotated[str, typer.Option("--db", help="File, or postgresql+psycopg://user@host/name.")]
PASSWORD_VARIABLE = "TRUEUP_PASSWORD"
MOST_TOLD = 20
"""Refused rows that are told one by one."""

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

    from trueup.web.annotate.serve import serve as go

    password = os.environ.get(ADMIN_VARIABLE)
    if admin_password:
        password = typer.prompt("Password of admin", hide_input=True, confirmation_prompt=True)
    go(
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

    from trueup.demo import ROLES, build
    from trueup.errors import UsageError
    from trueup.web.annotate.serve import serve as go

    if host not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError(
            f"the demo answers on this computer alone, not on {host}", where="--host", fix="leave --host out"
        )
    with tempfile.TemporaryDirectory(prefix="trueup-demo-") as folder:
        made = build(Path(folder) / "demo.db", tell=typer.echo)
        typer.echo(f"sign in as {', '.join(f'demo-{role}' for role in ROLES)}; password {made.password}")
        go(str(made.db), host, port, exports_dir=Path(folder) / "exports", tell=typer.echo)


@app.command()
def verify(db: Database = "feedback.db") -> None:
    """Follow the audit log from its first event and say whether every one is as it was written.

    Example: `trueup feedback verify --db feedback.db`
    """
    from trueup.feedback import audit

    with _existing(db) as store, store.read() as connection:
        broken = audit.verify(connection)
        count, head = audit.head(connection)
    if broken is not None:
        raise RunError(f"event {broken.seq}: {broken.why}", where=db, fix="compare with a backup from before it")
    typer.echo(f"{count} events, whole; the last one's hash is {head}")


@user_app.command("add")
def user_add(
    handle: Annotated[str, typer.Argument(help="Name to sign in with.")],
    db: Database = "feedback.db",
    role: Annotated[str, typer.Option("--role", help="admin, lead, adjudicator, annotator or viewer.")] = "annotator",
) -> None:
    """Make an account; the password is asked for, or taken from TRUEUP_PASSWORD.

    Example: `trueup feedback user add ada --role lead`
    """
    import os

    from trueup.feedback.accounts import hash_password
    from trueup.feedback.projects import add_person
    from trueup.feedback.store import Store

    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    with Store(db) as store:
        add_person(store, handle, role=role, password_hash=hash_password(password))
    typer.echo(f"{handle} is {role} now")


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="File of judged data; gzipped is fine.")],
    project: Annotated[str, typer.Option("--project", help="Name of the project; made if there is none.")],
    format: Annotated[str, typer.Option("--format", help="preference, kto, hh, ranking, ... see the guide.")],
    db: Database = "feedback.db",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look for faults and store nothing.")] = False,
) -> None:
    """Take items with the answers they were given elsewhere into a project; refused rows are told with their lines.

    People named in the file get accounts that are marked as imported and never open.

    Example: `trueup feedback import pairs.jsonl --db feedback.db --project help --format preference`
    """
    import tempfile

    from trueup.feedback.exchange.formats import read_in
    from trueup.feedback.exchange.landing import land
    from trueup.feedback.store import Store

    found = read_in(file, format)
    for line, why in found.rejected[:MOST_TOLD]:
        typer.echo(f"{file}:{line}: {' '.join(why.split())}", err=True)
    if len(found.rejected) > MOST_TOLD:
        typer.echo(f"... and {len(found.rejected) - MOST_TOLD} more", err=True)
    if not found.rows:
        raise DataError(
            f"all {len(found.rejected)} rows were refused", where=str(file), expected=f"the format {format}"
        )
    with tempfile.TemporaryDirectory() as empty:
        fresh = dry_run and "://" not in db and not Path(db).exists()
        with Store(str(Path(empty) / "empty.db") if fresh else db) as store:
            done = land(store, found, project, dry_run=dry_run)
    typer.echo(
        f"{len(found.rows)} items, {done.answers} answers, {done.people} new people, {len(found.rejected)} refused"
        + ("; nothing was stored" if dry_run else f"; project {done.project}")
    )


@app.command("export")
def export_file(
    project: Annotated[str, typer.Argument(help="Id or name of the project.")],
    format: Annotated[str, typer.Option("--format", help="preference, kto, hh, ranking, ... see the guide.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; one that is there is replaced.")],
    db: Database = "feedback.db",
) -> None:
    """Write a project's current judgments to a file, and say what the format could not carry.

    Example: `trueup feedback export help --db feedback.db --format judgments --out help.jsonl`
    """
    from collections import Counter

    from trueup.feedback.adjudication import settled
    from trueup.feedback.exchange.formats import format_of, write_out
    from trueup.feedback.exchange.landing import project_named
    from trueup.feedback.reading import read_project

    format_of(format)
    with _existing(db) as store:
        identity = project_named(store, project)
        judged = read_project(store, identity)
        final = {name: verdict["answer"] for name, verdict in settled(store, identity).items()}
    done = write_out(judged, out, format, adjudicated=final)
    typer.echo(f"{done.rows} rows in {done.path}")
    for reason, count in sorted(Counter(reason for _, reason in done.left_out).items()):
        typer.echo(f"left out: {count} x {' '.join(reason.split())}")


def _existing(db: str) -> Store:
    from trueup.feedback.store import Store

    if "://" not in db and not Path(db).is_file():
        raise UsageError("there is no such file", where=db, expected="a feedback database")
    return Store(db)
