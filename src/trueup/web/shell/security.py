"""The one gate that every request passes: headers, host, size, who it is, how often, and whether it was meant.

A request that changes something must not come from another site's page (``Origin``, ``Sec-Fetch-Site``), whoever it
speaks for, and with a session it carries its CSRF token. A bearer token needs none, because no browser adds one by
itself, and programs send neither of the two headers. Bodies are read here, bounded in size and time, so that nothing
behind the gate waits for a slow client.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trueup.feedback.store.accounts import Principal, by_session, by_token
from trueup.feedback.store.database import Store
from trueup.web.shell.access import permitted
from trueup.web.shell.limits import Buckets, Limits, LoginGuard
from trueup.web.shell.pages import STATIC
from trueup.web.shell.problems import (
    BadRequest,
    Forbidden,
    NotSignedIn,
    Refused,
    TooLarge,
    TooMany,
    TooSlow,
    problem,
    unforeseen,
)

log = logging.getLogger("trueup.web")

COOKIE = "trueup_session"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "font-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True, slots=True)
class Doors:
    """Calls of an app that the gate treats in a way of their own."""

    login: str
    """Path of the sign-in call. Whoever signs in anew has no CSRF token yet; where the request comes from is looked
    at all the same."""
    large: re.Pattern[str]
    """Paths that take a large body by POST; nothing of it is read for those who may not send one."""
    large_roles: tuple[str, ...]
    large_scopes: tuple[str, ...]
    host_fix: str
    """What to do about a host name that is not answered."""
    token_fix: str = "make a new token in the app"
    """What to do about a bearer token that nobody knows."""


class Accounts(Protocol):
    """Who a token or a cookie speaks for."""

    def by_token(self, text: str) -> Principal | None:
        """Whose bearer token it is; None where nobody knows it."""

    def by_cookies(self, cookies: Mapping[str, str]) -> Principal | None:
        """Whose session one of the cookies is; None where none is one."""


class StoredAccounts:
    """The sessions and tokens of a feedback database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def by_token(self, text: str) -> Principal | None:
        """Whose bearer token it is; None where nobody knows it."""
        return by_token(self._store, text)

    def by_cookies(self, cookies: Mapping[str, str]) -> Principal | None:
        """Whose session one of the cookies is; None where none is one."""
        cookie = cookies.get(COOKIE)
        return by_session(self._store, cookie) if cookie else None


class Gate:
    """ASGI middleware.

    Args:
        app: What is behind it.
        accounts: Who tokens and cookies speak for.
        limits: Sizes, times and rates.
        guard: Gives the keyed hash of addresses.
        doors: Calls that are treated in a way of their own.
        hosts: Host names that are answered; None for all. On a loopback address this keeps other sites from reaching
            the server through a name of theirs that resolves to it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        accounts: Accounts,
        limits: Limits,
        guard: LoginGuard,
        doors: Doors,
        hosts: frozenset[str] | None = None,
    ) -> None:
        self.app, self.accounts, self.limits, self.guard, self.hosts = app, accounts, limits, guard, hosts
        self.doors = doors
        self.buckets = Buckets(limits.rate, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started: list[bool] = []
        guarded = _with_headers(
            send, started, private=not scope["path"].startswith(STATIC), tls=scope["scheme"] == "https"
        )
        headers = Headers(scope=scope)
        try:
            self._host(headers)
            who = None
            if not scope["path"].startswith(STATIC):  # files that everybody may read, many for each page
                who = await self._who(scope, headers)
                self._often(scope, who)
            if scope["method"] not in SAFE:
                _meant(headers, None if scope["path"] == self.doors.login else who)
            body = await self._body(scope, headers, receive, who)
        except Refused as refused:
            if _goes_on(headers, self.limits.anonymous_body):
                refused.headers.setdefault("Connection", "close")
            await problem(refused)(scope, receive, guarded)
            return
        scope.setdefault("state", {})["principal"] = who
        try:
            await self.app(scope, _replayed(body, receive), guarded)
        except Exception:
            log.exception("%s %s", scope["method"], scope["path"])
            if not started:
                await unforeseen()(scope, receive, guarded)

    def _host(self, headers: Headers) -> None:
        name = urlsplit(f"//{headers.get('host', '')}").hostname
        if self.hosts is not None and name not in self.hosts:
            raise BadRequest(
                f"this server is not {name!r}",
                where="Host",
                expected=" or ".join(sorted(self.hosts)),
                fix=self.doors.host_fix,
            )

    async def _who(self, scope: Scope, headers: Headers) -> Principal | None:
        header = headers.get("authorization")
        if header is not None:
            scheme, _, text = header.partition(" ")
            principal = await run_sync(self.accounts.by_token, text.strip()) if scheme.lower() == "bearer" else None
            if principal is None:
                self._often(scope, None)
                raise NotSignedIn(
                    "the token opens nothing: it is unknown, over or revoked",
                    where="Authorization",
                    fix=self.doors.token_fix,
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return principal
        cookies = cookie_parser(headers.get("cookie", ""))
        return await run_sync(self.accounts.by_cookies, cookies) if cookies else None

    def _often(self, scope: Scope, who: Principal | None) -> None:
        wait = self.buckets.take(who.id if who is not None else self.guard.name(address(scope)))
        if wait:
            raise TooMany(
                "too many requests",
                expected=f"at most {self.limits.rate:g} a second",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    async def _body(self, scope: Scope, headers: Headers, receive: Receive, who: Principal | None) -> bytes:
        large = scope["method"] == "POST" and self.doors.large.fullmatch(scope["path"]) is not None
        if large:
            permitted(who, self.doors.large_roles, *self.doors.large_scopes)
        most = self.limits.import_body if large else self.limits.body
        if who is None:
            most = min(most, self.limits.anonymous_body)
        seconds = self.limits.import_seconds if large else self.limits.body_seconds
        declared = headers.get("content-length", "0")
        if not declared.isdecimal():
            raise BadRequest("is no number", where="Content-Length")
        if int(declared) > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(seconds):
                return await _read(receive, most)
        except TimeoutError:
            raise TooSlow(f"the body did not arrive within {seconds:g} seconds") from None


def address(scope: Mapping[str, Any]) -> str:
    """Where a request came from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _meant(headers: Headers, who: Principal | None) -> None:
    """Refuse what another site made a browser send, or sends itself with a token that it got hold of."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin", "none"):
        raise Forbidden(f"the request comes from another site ({site})", where="Sec-Fetch-Site", expected="same-origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise Forbidden(f"the request comes from {origin}", where="Origin", expected="this server's own address")
    token = headers.get("x-csrf-token", "")
    if who is not None and who.scopes is None and not hmac.compare_digest(token.encode(), str(who.csrf).encode()):
        raise Forbidden(
            "the CSRF token is missing or not of this session",
            where="X-CSRF-Token",
            fix="load the page again; programs use a bearer token instead of the cookie",
        )


async def _read(receive: Receive, most: int) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the client went away")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_large(most)
        more = message.get("more_body", False)
    return b"".join(parts)


def _goes_on(headers: Headers, little: int) -> bool:
    """Whether a body of unknown or large size may still be on its way, which nobody is going to read."""
    declared = headers.get("content-length", "0")
    return "transfer-encoding" in headers or not declared.isdecimal() or int(declared) > little


def _too_large(most: int) -> TooLarge:
    return TooLarge("the body is too large", expected=f"at most {most} bytes", headers={"Connection": "close"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Hands out the body that was read, then waits for the client to leave."""
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay


def _with_headers(send: Send, started: list[bool], *, private: bool, tls: bool) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.append(True)
            headers = MutableHeaders(raw=message["headers"])
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store" if private else "no-cache")
            if tls:
                headers["Strict-Transport-Security"] = "max-age=31536000"
        await send(message)

    return guarded
