"""Who may come in: passwords, sessions of browsers, tokens of programs.

Passwords are hashed with Argon2id. A session or a token is 256 random bits that only the holder keeps; the database
holds their SHA-256, so a stolen copy of it opens no door. A token is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, and_, delete, insert, select, update

from trueup.errors import NotHere, UsageError, nearest
from trueup.feedback.store import audit
from trueup.feedback.store.database import Store
from trueup.feedback.store.handles import IMPORTED
from trueup.feedback.store.passwords import LONGEST, check_password
from trueup.feedback.store.projects import add_person, update_person
from trueup.feedback.store.schema import api_token, new_id, person, session, stamp
from trueup.feedback.store.texts import sha256_of

SESSION = timedelta(days=7)
"""How long a sign-in lasts."""

SCOPES = ("annotate", "read", "lead", "admin", "ingest")
ROLE_SCOPES = {
    "viewer": ("read",),
    "annotator": ("annotate", "read"),
    "adjudicator": ("annotate", "read"),
    "lead": ("annotate", "read", "lead", "ingest"),
    "admin": SCOPES,
}
"""What a token of each role may be given: a token never opens more than its owner may do."""

TOKEN_PREFIX = "trueup_"
USED_EVERY = timedelta(minutes=1)
"""How exactly the last use of a token is kept; finer would be a write for every read."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a request speaks for. ``scopes`` is None for a session, which may do all that its role may."""

    id: str
    handle: str
    pseudonym: str
    role: str
    simulated: bool
    scopes: frozenset[str] | None = None
    csrf: str | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A new API token; ``text`` exists only here."""

    id: str
    text: str
    expires_at: str


def hash_password(password: str, handle: str = "") -> str:
    """Argon2id hash of a new password, with its salt and parameters.

    Raises:
        UsageError: It is weak for somebody of this handle (see ``passwords``).
    """
    check_password(password, handle)
    return _hash(password)


def _hash(password: str) -> str:
    return _hasher().hash(password.encode("utf-8", "surrogatepass"))


def sign_in(store: Store, handle: str, password: str, *, address: str = "") -> tuple[Principal, str] | None:
    """Open a session; returns whose it is and the cookie's value, or None for a wrong handle or password.

    An unknown handle takes as long as a wrong password, so that the time does not tell which handles exist.

    Args:
        store: The database.
        handle: As given.
        password: As given.
        address: Keyed hash of where it came from; never the address itself.
    """
    with store.read() as connection:
        row = connection.execute(select(person).where(person.c.handle == handle)).first()
    usable = row is not None and row.active and row.password_hash is not None
    stored_hash = row.password_hash if row is not None and usable else _decoy()
    if not _matches(stored_hash, password) or row is None or not usable:
        return None
    text = secrets.token_urlsafe(32)
    with store.write() as connection:
        if _hasher().check_needs_rehash(stored_hash):
            update_person(connection, person.c.id == row.id, password_hash=_hash(password))
        connection.execute(delete(session).where(session.c.expires_at <= store.now()))
        connection.execute(
            insert(session).values(
                id=new_id(),
                person=row.id,
                sha256=sha256_of(text),
                expires_at=stamp(store.clock() + SESSION),
                address=address,
                created_at=store.now(),
            )
        )
        audit.record(connection, store.now(), row.pseudonym, "sign_in", row.id)
    return _principal(row, csrf=csrf_of(text)), text


def by_session(store: Store, text: str) -> Principal | None:
    """Whose session a cookie is; None if it is unknown, over, or its owner is not active any more."""
    with store.read() as connection:
        row = _held(connection, session, text, store.now())
    return None if row is None else _principal(row, csrf=csrf_of(text))


def by_token(store: Store, text: str) -> Principal | None:
    """Whose token it is, with its scopes cut to what the owner's role may have today; None if it opens nothing."""
    now = store.now()
    with store.read() as connection:
        row = _held(connection, api_token, text, now)
    if row is None:
        return None
    if row.last_used is None or row.last_used < stamp(store.clock() - USED_EVERY):
        with store.write() as connection:
            connection.execute(update(api_token).where(api_token.c.id == row.entry).values(last_used=now))
    return _principal(row, scopes=frozenset(row.scopes) & frozenset(ROLE_SCOPES[row.role]))


def sign_out(store: Store, text: str) -> None:
    """End one session; an unknown one is ended already."""
    with store.write() as connection:
        connection.execute(delete(session).where(session.c.sha256 == sha256_of(text)))


def csrf_of(text: str) -> str:
    """The CSRF token of a session: it follows from the cookie, so it needs no place of its own."""
    return hmac.new(text.encode(), b"trueup csrf", hashlib.sha256).hexdigest()


def make_token(store: Store, owner: Principal, name: str, scopes: Sequence[str], days: int) -> Token:
    """A token for programs.

    Args:
        store: The database.
        owner: For whom it speaks.
        name: To recognise it by.
        scopes: Some of ``SCOPES``.
        days: Until it ends, 1 to 366.

    Raises:
        UsageError: A scope that is unknown or that the owner's role does not have, or days out of range.
    """
    allowed = ROLE_SCOPES[owner.role]
    for scope in scopes:
        if scope not in allowed:
            raise UsageError(f"scope {scope!r}", where="scopes", expected=nearest(scope, allowed))
    if not scopes or not 1 <= days <= 366:
        raise UsageError(
            f"{len(scopes)} scopes, {days} days", where="token", expected="one scope or more, 1 to 366 days"
        )
    text, token_id, until = (
        TOKEN_PREFIX + secrets.token_urlsafe(32),
        new_id(),
        stamp(store.clock() + timedelta(days=days)),
    )
    with store.write() as connection:
        connection.execute(
            insert(api_token).values(
                id=token_id,
                person=owner.id,
                name=name,
                sha256=sha256_of(text),
                scopes=sorted(set(scopes)),
                expires_at=until,
                created_at=store.now(),
            )
        )
        audit.record(connection, store.now(), owner.pseudonym, "make_token", token_id, scopes=sorted(set(scopes)))
    return Token(token_id, text, until)


@dataclass(frozen=True, slots=True)
class TokenSummary:
    """A token as its owner sees it later, without what would let anybody use it."""

    id: str
    name: str
    scopes: Sequence[str]
    created_at: str
    expires_at: str
    last_used: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def tokens_of(store: Store, person_id: str) -> list[TokenSummary]:
    """A person's tokens, newest first, without what would let anybody use them."""
    with store.read() as connection:
        rows = connection.execute(
            select(api_token).where(api_token.c.person == person_id).order_by(api_token.c.id.desc())
        ).all()
    return [TokenSummary(row.id, row.name, row.scopes, row.created_at, row.expires_at, row.last_used) for row in rows]


def revoke_token(store: Store, owner: Principal, token_id: str) -> bool:
    """Delete one of the owner's tokens; False if there is no such token of theirs."""
    with store.write() as connection:
        gone = connection.execute(
            delete(api_token).where(api_token.c.id == token_id, api_token.c.person == owner.id)
        ).rowcount
        if gone:
            audit.record(connection, store.now(), owner.pseudonym, "revoke_token", token_id)
    return bool(gone)


def change_person(
    store: Store,
    person_id: str,
    *,
    actor: str,
    active: bool | None = None,
    role: str | None = None,
    password: str | None = None,
) -> None:
    """Change an account. Any change ends its sessions; deactivating it or a new password also ends its tokens.

    Raises:
        NotHere: No such person.
        UsageError: An unknown role, a weak password, or nobody would be left to administer.
    """
    if role is not None and role not in ROLE_SCOPES:
        raise UsageError(f"role is {role!r}", where="person", expected=nearest(role, ROLE_SCOPES))
    if active is None and role is None and password is None:
        return
    with store.write() as connection:
        row = connection.execute(select(person).where(person.c.id == person_id)).first()
        if row is None:
            raise NotHere(f"there is no person {person_id!r}", where="person")
        if row.handle.startswith(IMPORTED):
            raise UsageError(f"{row.handle!r} is only known from a file", where="person", fix="make an account instead")
        hashed = hash_password(password, row.handle) if password is not None else None
        wanted = {"active": active, "role": role, "password_hash": hashed}
        values = {name: value for name, value in wanted.items() if value is not None}
        update_person(connection, person.c.id == person_id, **values)
        left = connection.execute(
            select(person.c.id).where(
                person.c.role == "admin", person.c.active.is_(True), person.c.password_hash.is_not(None)
            )
        ).first()
        was_admin = row.role == "admin" and row.active and row.password_hash is not None
        if was_admin and left is None:
            raise UsageError("nobody would be left to administer", where="person", fix="make another admin first")
        connection.execute(delete(session).where(session.c.person == person_id))
        if password is not None or active is False:
            connection.execute(delete(api_token).where(api_token.c.person == person_id))
        kept = {name: value for name, value in values.items() if name != "password_hash"}
        audit.record(connection, store.now(), actor, "change_person", person_id, password=password is not None, **kept)


def change_own_password(store: Store, owner: Principal, old: str, new: str, *, keep: str = "") -> bool:
    """Give oneself another password; False if ``old`` is not the one in force.

    Everything that the old one opened is closed: other sessions, tokens, and browsers that were known.

    Args:
        store: The database.
        owner: Whose.
        old: The password in force.
        new: The next one.
        keep: Cookie of the session that goes on.

    Raises:
        UsageError: The new one is weak, or it is the old one.
    """
    with store.read() as connection:
        stored_hash = connection.execute(select(person.c.password_hash).where(person.c.id == owner.id)).scalar()
    if not _matches(stored_hash or _decoy(), old) or stored_hash is None:
        return False
    if new == old:
        raise UsageError("the new password is the old one", where="password", expected="another one")
    hashed = hash_password(new, owner.handle)
    with store.write() as connection:
        unchanged = and_(person.c.id == owner.id, person.c.password_hash == stored_hash)
        if not update_person(connection, unchanged, password_hash=hashed):  # somebody else changed it meanwhile
            return False
        connection.execute(delete(session).where(session.c.person == owner.id, session.c.sha256 != sha256_of(keep)))
        connection.execute(delete(api_token).where(api_token.c.person == owner.id))
        audit.record(connection, store.now(), owner.pseudonym, "change_password", owner.id)
    return True


def principal_of(store: Store, handle: str) -> Principal | None:
    """Whose handle it is, if the account is active."""
    with store.read() as connection:
        row = connection.execute(select(person).where(person.c.handle == handle, person.c.active.is_(True))).first()
    return None if row is None else _principal(row)


def mark_browser(store: Store, handle: str) -> str:
    """What a browser keeps that has signed in to this account, to be known again; a new password makes it void."""
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_mark(_held_hash(store, handle), handle, nonce)}"


def knows_browser(store: Store, handle: str, mark: str) -> bool:
    """Whether a browser's mark is of this account and of the password in force."""
    nonce, _, signature = mark.partition(".")
    return hmac.compare_digest(
        _mark(_held_hash(store, handle), handle, nonce).encode(), signature.encode("utf-8", "replace")
    )


def _held_hash(store: Store, handle: str) -> str:
    with store.read() as connection:
        stored_hash = connection.execute(select(person.c.password_hash).where(person.c.handle == handle)).scalar()
    return str(stored_hash) if stored_hash is not None else _decoy()


def _mark(stored_hash: str, handle: str, nonce: str) -> str:
    text = "\0".join(("trueup browser", handle, nonce)).encode("utf-8", "surrogatepass")
    return hmac.new(stored_hash.encode(), text, hashlib.sha256).hexdigest()


def set_admin(store: Store, handle: str, password: str) -> str:
    """Make an admin of this handle, or give the one there is this password; returns the id.

    Raises:
        UsageError: The handle belongs to somebody who is not an admin, or the password is weak.
    """
    with store.read() as connection:
        row = connection.execute(select(person).where(person.c.handle == handle)).first()
    check_password(password, handle)
    if row is None:
        return add_person(store, handle, role="admin", password_hash=hash_password(password, handle))
    if row.role != "admin":
        raise UsageError(
            f"{handle!r} is {row.role}, not admin", where="person", fix="choose another handle for the admin"
        )
    if not (row.active and row.password_hash and _matches(row.password_hash, password)):
        change_person(store, str(row.id), actor="system", active=True, password=password)
    return str(row.id)


def has_admin(store: Store) -> bool:
    """Whether an active admin with a password exists."""
    with store.read() as connection:
        query = select(person.c.id).where(
            person.c.role == "admin", person.c.active.is_(True), person.c.password_hash.is_not(None)
        )
        return connection.execute(query).first() is not None


def _held(connection: Connection, table: Any, text: str, now: str) -> Any:
    """The unexpired row of a secret with its active owner. Looked up by hash, then compared in constant time."""
    digest = sha256_of(text)
    extra = [table.c.scopes, table.c.last_used] if table is api_token else []
    row = connection.execute(
        select(person, table.c.id.label("entry"), table.c.sha256.label("secret"), *extra)
        .join(person, person.c.id == table.c.person)
        .where(table.c.sha256 == digest, table.c.expires_at > now, person.c.active.is_(True))
    ).first()
    return row if row is not None and hmac.compare_digest(row.secret, digest) else None


def _principal(row: Any, *, scopes: frozenset[str] | None = None, csrf: str | None = None) -> Principal:
    return Principal(row.id, row.handle, row.pseudonym, row.role, bool(row.simulated), scopes, csrf)


@lru_cache(maxsize=1)
def _hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1)


@lru_cache(maxsize=1)
def _decoy() -> str:
    """A hash that nothing matches, to spend the same time on handles that do not exist."""
    return _hasher().hash(secrets.token_bytes(32))


def _matches(stored_hash: str, password: str) -> bool:
    try:
        return _hasher().verify(stored_hash, password.encode("utf-8", "surrogatepass")[: 4 * LONGEST])
    except (VerificationError, InvalidHashError):
        return False
