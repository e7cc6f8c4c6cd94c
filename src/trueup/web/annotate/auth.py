"""Signing in and out, who is here, one's own tokens."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from trueup.feedback.accounts import (
    SESSION,
    Principal,
    make_token,
    revoke_token,
    sign_in,
    sign_out,
    tokens_of,
)
from trueup.web.annotate.access import Anybody, Body, Database, Somebody
from trueup.web.annotate.limits import LoginGuard
from trueup.web.annotate.problems import NotFound, NotSignedIn, TooMany
from trueup.web.annotate.security import COOKIE, address

router = APIRouter()


class Login(Body):
    """Handle and password."""

    handle: Annotated[str, Field(max_length=80)]
    password: Annotated[str, Field(max_length=1000)]


class NewToken(Body):
    """A token to make."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    scopes: Annotated[list[str], Field(max_length=10)]
    days: int = 30


def me_json(who: Principal) -> dict[str, Any]:
    """A principal as the pages know it."""
    return {
        "id": who.id,
        "handle": who.handle,
        "pseudonym": who.pseudonym,
        "role": who.role,
        "simulated": who.simulated,
        "csrf": who.csrf,
    }


@router.post("/auth/login")
def login(request: Request, response: Response, store: Database, body: Login) -> dict[str, Any]:
    """Open a session; after some wrong tries from one address the wait doubles with each."""
    guard: LoginGuard = request.app.state.guard
    origin = address(request.scope)
    wait = guard.enter(origin)
    if wait:
        seconds = math.ceil(wait)
        raise TooMany("too many wrong tries", fix=f"wait {seconds} s", headers={"Retry-After": str(seconds)})
    with request.app.state.hashing:
        found = sign_in(store, body.handle, body.password, address=guard.name(origin))
    if found is None:
        raise NotSignedIn("handle and password do not match")
    guard.forgive(origin)
    who, cookie = found
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(SESSION.total_seconds()),
        path="/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return {"me": me_json(who), "csrf": who.csrf}


@router.post("/auth/logout", status_code=204)
def logout(request: Request, store: Database, who: Somebody) -> Response:
    """End this session."""
    sign_out(store, request.cookies[COOKIE])
    done = Response(status_code=204)
    done.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
    return done


@router.get("/me")
def me(who: Anybody) -> dict[str, Any]:
    """Who is signed in, with the CSRF token of the session."""
    return me_json(who)


@router.get("/tokens")
def list_tokens(store: Database, who: Somebody) -> list[dict[str, Any]]:
    """One's own tokens."""
    return tokens_of(store, who.id)


@router.post("/tokens", status_code=201)
def create_token(store: Database, who: Somebody, body: NewToken) -> dict[str, Any]:
    """A new token; its text is shown here and never again."""
    made = make_token(store, who, body.name, body.scopes, body.days)
    return {"id": made.id, "token": made.text, "expires_at": made.expires_at}


@router.delete("/tokens/{token_id}", status_code=204)
def delete_token(store: Database, who: Somebody, token_id: str) -> Response:
    """Revoke one of one's own tokens."""
    if not revoke_token(store, who, token_id):
        raise NotFound("there is no such token of yours", where="token")
    return Response(status_code=204)
