"""``trueup feedback``: the feedback database, its accounts, its audit log, files in and out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueup.commands.options import Commands, Database
from trueup.errors import DataError, RunError, UsageError

if TYPE_CHECKING:
    from trueup.feedback.store.database import Store

app = Commands(no_args_is_help=True, help="The feedback database: accounts and the audit log.")
user_app = Commands(no_args_is_help=True, help="Accounts.")
app.add_typer(user_app, name="user")
key_app = Commands(no_args_is_help=True, help="The key that marks the audit log.")
app.add_typer(key_app, name="key")

PASSWORD_VARIABLE = "TRUEUP_PASSWORD"
OLD_PASSWORD_VARIABLE = "TRUEUP_OLD_PASSWORD"
MOST_TOLD = 20
"""Refused rows that are told one by one."""


@app.command()
def verify(
    db: Database = "feedback.db",
    expect: Annotated[
        str | None,
        typer.Option("--expect", help="N:HASH, as noted from an earlier verify: the log must still hold it."),
    ] = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="File of a key that marks the log; repeatable, older ones too.")
    ] = None,
) -> None:
    """Look whether everything is as it was written: the audit log, every row, the schema. Reads only.

    Example: `trueup feedback verify --db feedback.db --expect 1204:5e0c...`
    """
    from trueup.feedback.store.audit_key import key_of_environment, read_key
    from trueup.feedback.store.integrity import inspect_all, parse_expected
    from trueup.feedback.store.opening import shown

    expected = parse_expected(expect) if expect is not None else None
    keys = [read_key(path) for path in key or ()]
    environment = key_of_environment()
    if environment is not None and environment.id not in {known.id for known in keys}:
        keys.append(environment)
    with _existing(db) as store, store.read() as connection:
        done = inspect_all(connection, expect=expected, keys=keys)
    for note in done.notes:
        typer.echo(f"note: {note}")
    if done.faults:
        for fault in done.faults[:MOST_TOLD]:
            typer.echo(fault.why, err=True)
        if len(done.faults) > MOST_TOLD:
            typer.echo(f"... and {len(done.faults) - MOST_TOLD} more", err=True)
        raise RunError(
            f"{len(done.faults)} faults: this is not what was written",
            where=shown(db),
            fix="compare with a backup from before, or with a snapshot's manifest",
        )
    typer.echo(f"{done.events} events, whole; {done.rows} rows agree with them")
    if done.events:
        typer.echo(f"note this outside the database, for the next check: --expect {done.events}:{done.head}")


@app.command()
def upgrade(db: Database = "feedback.db") -> None:
    """Bring a database that an older trueup wrote up to this one's schema; nothing that it holds is lost.

    Example: `trueup feedback upgrade --db feedback.db`
    """
    from trueup.feedback.store.database import Store

    with Store(db, must_exist=True) as store:
        typer.echo(f"schema version {store.version}")


@key_app.command("new")
def key_new(file: Annotated[Path, typer.Argument(help="New file; only its owner can read it.")]) -> None:
    """Make a key for the audit log. Keep it outside the machine's backups of the database, and keep it.

    Example: `trueup feedback key new audit.key`
    """
    from trueup.feedback.store.audit_key import FILE_VARIABLE, new_key

    key = new_key(file)
    typer.echo(f"key {key.id} in {file}; it marks the log from the next change on where {FILE_VARIABLE} names it")


@key_app.command("change")
def key_change(
    db: Database = "feedback.db",
    key: Annotated[Path | None, typer.Option("--key", help="File of the key that marks the log today.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="File of the key that marks it from now on.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Mark it with none from now on.")] = False,
) -> None:
    """Mark the audit log with a key, with another one, or with none any more; the log says so under the old mark.

    Example: `trueup feedback key change --db feedback.db --key audit.key --to audit-2.key`
    """
    from trueup.feedback.store import chain
    from trueup.feedback.store.audit_key import FILE_VARIABLE, key_of_environment, read_key
    from trueup.feedback.store.database import Store

    if (to is None) != stop:
        raise UsageError("a new key or none", where="key change", expected="--to FILE, or --stop")
    old = read_key(key) if key is not None else key_of_environment()
    new = read_key(to) if to is not None else None
    with Store(db, key=old, must_exist=True) as store, store.write() as connection:
        chain.change_key(connection, store.now(), old, new)
    typer.echo(
        f"marked with the key {new.id} from now on; name its file in {FILE_VARIABLE} wherever the database is written"
        if new is not None
        else f"marked with no key from now on; {FILE_VARIABLE} must not be set any more"
    )


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

    from trueup.feedback.store.accounts import hash_password
    from trueup.feedback.store.database import Store
    from trueup.feedback.store.projects import add_person

    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    with Store(db) as store:
        add_person(store, handle, role=role, password_hash=hash_password(password, handle))
    typer.echo(f"{handle} is {role} now")


@user_app.command("password")
def user_password(
    handle: Annotated[str, typer.Argument(help="Whose password.")],
    db: Database = "feedback.db",
) -> None:
    """Change a password; the old one is asked for too, or taken from TRUEUP_OLD_PASSWORD, the new from TRUEUP_PASSWORD.

    It ends all sessions and tokens of the account.

    Example: `trueup feedback user password ada --db feedback.db`
    """
    import os

    from trueup.feedback.store.accounts import change_own_password, principal_of
    from trueup.feedback.store.database import Store
    from trueup.feedback.store.opening import require_file, sqlite_path

    if (path := sqlite_path(db)) is not None:
        require_file(path)  # before a password is asked for
    old = os.environ.get(OLD_PASSWORD_VARIABLE)
    if old is None:
        old = typer.prompt("Password of today", hide_input=True)
    new = os.environ.get(PASSWORD_VARIABLE)
    if new is None:
        new = typer.prompt("New password", hide_input=True, confirmation_prompt=True)
    with Store(db, must_exist=True) as store:
        who = principal_of(store, handle)
        if who is None or not change_own_password(store, who, old, new):
            raise UsageError("handle and password do not match", where="user password", expected="today's password")
    typer.echo(f"the password of {handle} is changed; its sessions and tokens are ended")


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="File of judged data; gzipped is fine.")],
    project: Annotated[str, typer.Option("--project", help="Name of the project; made if there is none.")],
    format: Annotated[
        str | None, typer.Option("--format", help="preference, kto, argilla, ...; default: by the columns.")
    ] = None,
    db: Database = "feedback.db",
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Of a text file that is not UTF-8: cp1252, latin-1, ...")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look for faults and store nothing.")] = False,
) -> None:
    """Take items with the answers they were given elsewhere into a project; refused rows are told with their lines.

    People named in the file get accounts that are marked as imported and never open.

    Example: `trueup feedback import pairs.jsonl --db feedback.db --project help --format preference`
    """
    import tempfile

    from trueup.data.content import load
    from trueup.feedback.exchange.formats import format_of, read_bytes, recognised
    from trueup.feedback.exchange.landing import land
    from trueup.feedback.store.database import Store

    if format is not None:
        format_of(format)
    data = load(file)
    if format is None:
        format = recognised(data, str(file), encoding)
        typer.echo(f"{file}: read as {format}, by its columns", err=True)
    incoming = read_bytes(data, format, str(file), encoding)
    for line, why in incoming.rejected[:MOST_TOLD]:
        typer.echo(f"{file}:{line}: {' '.join(why.split())}", err=True)
    if len(incoming.rejected) > MOST_TOLD:
        typer.echo(f"... and {len(incoming.rejected) - MOST_TOLD} more", err=True)
    if not incoming.rows:
        raise DataError(
            f"all {len(incoming.rejected)} rows were refused",
            where=str(file),
            expected=f"the format {format}",
            fix="; ".join(incoming.notes) or None,
        )
    if incoming.unused:
        typer.echo(f"{file}: not used: {_shortened(incoming.unused)}", err=True)
    for note in incoming.notes:
        typer.echo(f"{file}: {' '.join(note.split())}", err=True)
    with tempfile.TemporaryDirectory() as empty:
        fresh = dry_run and "://" not in db and not Path(db).exists()
        with Store(str(Path(empty) / "empty.db") if fresh else db, read_only=dry_run and not fresh) as store:
            done = land(store, incoming, project, dry_run=dry_run)
    refused = len(incoming.rejected)
    typer.echo(
        f"{len(incoming.rows)} items, {done.answers} answers, {done.people} new people, {refused} refused"
        + ("; nothing was stored" if dry_run else f"; project {done.project}")
    )


def _shortened(unused: Mapping[str, int]) -> str:
    named = [f"{' '.join(name.split())[:60]} ({count} row{'s' * (count > 1)})" for name, count in unused.items()]
    more = [f"and {len(named) - MOST_TOLD} more"] if len(named) > MOST_TOLD else []
    return ", ".join([*named[:MOST_TOLD], *more])


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

    from trueup.feedback.exchange.formats import format_of, write_out
    from trueup.feedback.exchange.landing import project_named
    from trueup.feedback.store.reading import read_project
    from trueup.feedback.workflow.adjudication import settled

    format_of(format)
    with _existing(db) as store:
        identity = project_named(store, project)
        judged = read_project(store, identity)
        final = {name: settlement.answer for name, settlement in settled(store, identity).items()}
    done = write_out(judged, out, format, adjudicated=final)
    typer.echo(f"{done.rows} rows in {done.path}")
    for note in done.notes:
        typer.echo(f"note: {note}", err=True)
    for reason, count in sorted(Counter(reason for _, reason in done.left_out).items()):
        typer.echo(f"left out: {count} x {' '.join(reason.split())}")


def _existing(db: str) -> Store:
    """A database that is there, for reading."""
    from trueup.feedback.store.database import Store

    return Store(db, read_only=True)
