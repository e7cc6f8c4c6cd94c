"""Signing in and out, who is here, one's own tokens."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from trueup.feedback.store.accounts import (
    SESSION,
    TokenSummary,
    change_own_password,
    knows_browser,
    make_token,
    mark_browser,
    revoke_token,
    sign_in,
    sign_out,
    tokens_of,
)
from trueup.feedback.store.handles import skeleton
from trueup.feedback.store.passwords import WeakPassword
from trueup.web.shell.access import Anybody, Body, Database, Reply, Somebody
from trueup.web.shell.limits import LoginGuard
from trueup.web.shell.problems import Forbidden, NotFound, NotSignedIn, TooMany
from trueup.web.shell.security import COOKIE, address

router = APIRouter()

BROWSER = "trueup_browser"
"""Cookie of a browser that has signed in to an account: strangers who guess do not hold it up."""
KNOWN = timedelta(days=180)


class Login(Body):
    """Handle and password."""

    handle: Annotated[str, Field(max_length=80)]
    password: Annotated[str, Field(max_length=1000)]


class NewPassword(Body):
    """One's password, and the one that takes its place."""

    old: Annotated[str, Field(max_length=1000)]
    new: Annotated[str, Field(max_length=1000)]


class NewToken(Body):
    """A token to make."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    scopes: Annotated[list[str], Field(max_length=10)]
    days: int = 30


class Me(Reply):
    """A principal as the pages know it."""

    id: str
    handle: str
    pseudonym: str
    role: str
    simulated: bool
    csrf: str | None


class SignedIn(Reply):
    """A new session: whose it is, and its CSRF token."""

    me: Me
    csrf: str | None


class CreatedToken(Reply):
    """A new token with its text."""

    id: str
    token: str
    expires_at: str


@router.post("/auth/login")
def login(request: Request, response: Response, store: Database, body: Login) -> SignedIn:
    """Open a session; after some wrong tries from one address, or for one account, the wait doubles with each."""
    guard: LoginGuard = request.app.state.guard
    origin, account = address(request.scope), skeleton(body.handle)
    mark = request.cookies.get(BROWSER, "")
    browser = mark if mark and knows_browser(store, body.handle, mark) else None
    _wait(guard.enter(origin, account, browser))
    with request.app.state.hashing:
        session = sign_in(store, body.handle, body.password, address=guard.name(origin))
    if session is None:
        raise NotSignedIn("handle and password do not match")
    guard.forgive(origin, account, browser)
    who, cookie = session
    _keep(request, response, COOKIE, cookie, SESSION)
    if browser is None:
        _keep(request, response, BROWSER, mark_browser(store, who.handle), KNOWN)
    return SignedIn(me=Me.model_validate(who), csrf=who.csrf)


@router.post("/auth/password", status_code=204)
def change_password(request: Request, store: Database, who: Somebody, body: NewPassword) -> Response:
    """Another password for oneself. It ends one's other sessions and all one's tokens; this session goes on."""
    guard: LoginGuard = request.app.state.guard
    tried = f"password of {who.id}"  # whoever holds a session must not guess, nor hold up the sign-in of its owner
    _wait(guard.enter(tried))
    try:
        with request.app.state.hashing:
            done = change_own_password(store, who, body.old, body.new, keep=request.cookies[COOKIE])
    except WeakPassword as error:
        raise WeakPassword(error.what, where="new", expected=error.expected, fix=error.fix) from None
    if not done:
        raise Forbidden("this is not your password", where="old", fix="type the password that you sign in with today")
    guard.forgive(tried)
    response = Response(status_code=204)
    _keep(request, response, BROWSER, mark_browser(store, who.handle), KNOWN)
    return response


def _wait(wait: float) -> None:
    if wait:
        seconds = math.ceil(wait)
        raise TooMany("too many wrong tries", fix=f"wait {seconds} s", headers={"Retry-After": str(seconds)})


def _keep(request: Request, response: Response, name: str, value: str, how_long: timedelta) -> None:
    secure = request.url.scheme == "https"
    age = int(how_long.total_seconds())
    response.set_cookie(name, value, max_age=age, path="/", httponly=True, samesite="lax", secure=secure)


@router.post("/auth/logout", status_code=204)
def logout(request: Request, store: Database, who: Somebody) -> Response:
    """End this session."""
    sign_out(store, request.cookies[COOKIE])
    done = Response(status_code=204)
    done.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
    return done


@router.get("/me")
def who_am_i(who: Anybody) -> Me:
    """Who is signed in, with the CSRF token of the session."""
    return Me.model_validate(who)


@router.get("/tokens")
def list_tokens(store: Database, who: Somebody) -> list[TokenSummary]:
    """One's own tokens."""
    return tokens_of(store, who.id)


@router.post("/tokens", status_code=201)
def create_token(store: Database, who: Somebody, body: NewToken) -> CreatedToken:
    """A new token; its text is shown here and never again."""
    token = make_token(store, who, body.name, body.scopes, body.days)
    return CreatedToken(id=token.id, token=token.text, expires_at=token.expires_at)


@router.delete("/tokens/{token_id}", status_code=204)
def delete_token(store: Database, who: Somebody, token_id: str) -> Response:
    """Revoke one of one's own tokens."""
    if not revoke_token(store, who, token_id):
        raise NotFound("there is no such token of yours", where="token")
    return Response(status_code=204)
