"""Who somebody is to the explorer: a viewer, who reads, or a lead, who may also act. A token each, and no accounts.

The tokens live as long as the server. A browser brings one once and has a session from then on, whose cookie no script
can read; a program sends it as a bearer token with every call.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from trueup.feedback.store.accounts import Principal
from trueup.web.shell.access import LEADS, READERS, Body, Reply, permitted
from trueup.web.shell.problems import Forbidden, NotSignedIn, Refused

Role: TypeAlias = Literal["viewer", "lead"]
ROLES: tuple[Role, ...] = get_args(Role)
SCOPES = {"viewer": frozenset({"read"}), "lead": frozenset({"read", "lead"})}
COOKIE = "trueup_explorer_"
"""Begins the names of its cookies: browsers send cookies of all ports of a computer to each of them."""
MOST_TOKEN = 200
OPEN_AGAIN = "open the address that trueup explore told when it started, with all that stands behind #"
OPEN_AS_LEAD = (
    "open the first address that trueup explore told when it started, which is a lead's; the other only looks"
)

router = APIRouter()


@dataclass(frozen=True)
class Keys:
    """The tokens of one server.

    Args:
        tokens: By role. Without one nobody has that role by a token.
        closed: Reading takes a token too; else everybody who reaches the server is a viewer.
    """

    tokens: Mapping[Role, str]
    closed: bool = False

    def by_token(self, text: str) -> Principal | None:
        """Whose bearer token it is; None where nobody knows it."""
        role = self._role(text)
        return None if role is None else _principal(role, scopes=SCOPES[role])

    def by_cookies(self, cookies: Mapping[str, str]) -> Principal | None:
        """Whose session one of the cookies is; None where none is one."""
        brought = [value for name, value in cookies.items() if name.startswith(COOKIE)]
        for role, token in self.tokens.items():
            if any(hmac.compare_digest(value.encode(), session(token).encode()) for value in brought):
                return _principal(role, csrf=_derived(token, "csrf"))
        return None

    def enter(self, text: str) -> tuple[Principal, str] | None:
        """A session for whoever has a token: who it is, and the value of the cookie. None for no token of ours."""
        role = self._role(text)
        if role is None:
            return None
        return _principal(role, csrf=_derived(text, "csrf")), session(text)

    def anybody(self) -> Principal | None:
        """Who somebody without a token is."""
        return None if self.closed else _principal("viewer", scopes=SCOPES["viewer"])

    def _role(self, text: str) -> Role | None:
        matches = [role for role, token in self.tokens.items() if hmac.compare_digest(text.encode(), token.encode())]
        return matches[0] if matches else None


def session(token: str) -> str:
    """The value of the cookie of a token's sessions; it does not tell the token."""
    return _derived(token, "session")


def _derived(token: str, what: str) -> str:
    return hmac.new(token.encode(), what.encode(), hashlib.sha256).hexdigest()


def _principal(role: Role, *, scopes: frozenset[str] | None = None, csrf: str | None = None) -> Principal:
    return Principal(role, role, role, role, simulated=False, scopes=scopes, csrf=csrf)


def _allow(request: Request, roles: tuple[str, ...], scope: str) -> Principal:
    keys: Keys = request.app.state.keys
    try:
        return permitted(request.state.principal or keys.anybody(), roles, scope)
    except Refused as error:
        if isinstance(error, Forbidden):
            raise Forbidden(error.what, where=error.where, expected="lead", fix=OPEN_AS_LEAD) from None
        raise type(error)(error.what, where=error.where, expected=error.expected, fix=OPEN_AGAIN) from None


def reader(request: Request) -> Principal:
    """Whoever may read.

    Raises:
        NotSignedIn: Reading takes a token here, and none came.
    """
    return _allow(request, READERS, "read")


def lead(request: Request) -> Principal:
    """Whoever may act.

    Raises:
        NotSignedIn, Forbidden: It is nobody of that role.
    """
    return _allow(request, LEADS, "lead")


Reader = Annotated[Principal, Depends(reader)]
Lead = Annotated[Principal, Depends(lead)]


class Brought(Body):
    """A token, from behind the ``#`` of the address that the server told."""

    token: Annotated[str, Field(max_length=MOST_TOKEN)]


class Me(Reply):
    """Who somebody is here."""

    role: str
    csrf: str | None


@router.post("/session")
def begin_session(request: Request, response: Response, brought: Brought) -> Me:
    """A session for this browser; it lasts until the browser or the server ends."""
    keys: Keys = request.app.state.keys
    entered = keys.enter(brought.token)
    if entered is None:
        raise NotSignedIn("the token is not of this server", where="token", fix=OPEN_AGAIN)
    who, value = entered
    name = f"{COOKIE}{request.url.port or 0}"
    response.set_cookie(name, value, path="/", httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return Me.model_validate(who)


@router.get("/me")
def who_am_i(who: Reader) -> Me:
    """Who this is, with the CSRF token of a session."""
    return Me.model_validate(who)
