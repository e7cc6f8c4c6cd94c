"""Every refusal as one JSON shape (RFC 9457): what was found, where, what was expected, how to fix it.

Nothing of the server's insides leaves it: an unforeseen error is logged here and says only that it happened.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError as ValueRefused
from sqlalchemy.exc import IntegrityError, OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from trueup.errors import ConfigError, DataError, NotAllowed, NotHere, RunError, TrueupError, UsageError

log = logging.getLogger("trueup.web")

MEDIA = "application/problem+json"


class Refused(TrueupError):
    """A request that is answered with a status of its own."""

    status = 400

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        fix: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what, where=where, expected=expected, fix=fix)
        self.headers = dict(headers or {})


class BadRequest(Refused):
    """The request itself is malformed."""


class NotSignedIn(Refused):
    """Nobody, or nobody known."""

    status = 401


class Forbidden(Refused):
    """Known, but not allowed to."""

    status = 403


class NotFound(Refused):
    """There is no such thing, or not for this person."""

    status = 404


class TooSlow(Refused):
    """The body did not arrive in time."""

    status = 408


class Conflict(Refused):
    """It does not fit the state that things are in."""

    status = 409


class TooLarge(Refused):
    """The body is over its limit."""

    status = 413


class Busy(Refused):
    """The database could not do it now; nothing was stored, and the same request may succeed in a moment."""

    status = 503


class TooMany(Refused):
    """Too often; ``Retry-After`` says when again."""

    status = 429


def status_of(error: TrueupError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, NotAllowed):
        return Forbidden.status
    if isinstance(error, NotHere):
        return NotFound.status
    if isinstance(error, (DataError, ConfigError)):
        return 422
    if isinstance(error, (UsageError, RunError)):  # right in itself, and not possible as things stand
        return 409
    return 400


def problem(error: TrueupError) -> Response:
    """An error as a response."""
    status = status_of(error)
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": error.what}
    extra = {"where": error.where, "expected": error.expected, "fix": error.fix}
    body |= {name: value for name, value in extra.items() if value is not None}
    headers = error.headers if isinstance(error, Refused) else {}
    return Response(_dump(body), status, headers=headers, media_type=MEDIA)


def install(app: FastAPI) -> None:
    """Answer every kind of error with a problem."""

    @app.exception_handler(TrueupError)
    def known(_: Request, error: TrueupError) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        what, expected = str(first["msg"]), "what the description of the call says"
        if first["type"] == "literal_error":  # one of a few words, so that what came instead is no secret
            what, expected = f"there is no {first['loc'][-1]} {first['input']!r:.80}", str(first["ctx"]["expected"])
        return problem(DataError(what, where=place, expected=expected))

    @app.exception_handler(HTTPException)
    def of_the_framework(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {request.url.path}: {error.detail}"
        body = {"type": "about:blank", "title": HTTPStatus(error.status_code).phrase, "status": error.status_code}
        return Response(_dump(body | {"detail": what}), error.status_code, headers=error.headers, media_type=MEDIA)

    @app.exception_handler(IntegrityError)
    def taken(_: Request, error: IntegrityError) -> Response:
        log.info("refused by the database: %s", error.orig)
        return problem(Conflict("the database holds one that excludes this", fix="load the page again and look"))

    @app.exception_handler(OperationalError)
    def not_now(_: Request, error: OperationalError) -> Response:
        log.warning("the database refused for now: %s", error.orig)
        return problem(Busy("the database could not do this now; nothing was stored", headers={"Retry-After": "1"}))

    @app.exception_handler(ValueRefused)
    @app.exception_handler(UnicodeEncodeError)
    def unstorable(_: Request, error: Exception) -> Response:
        log.info("cannot be stored: %r", error)
        return problem(
            DataError("a text holds a character that cannot be stored", expected="Unicode without NUL and half pairs")
        )


def unforeseen() -> Response:
    """What is said of an error that nobody foresaw; the log says the rest."""
    body = {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    detail = "an error that nobody foresaw; what was stored before stays, and the server's log tells more"
    return Response(_dump(body | {"detail": detail}), 500, media_type=MEDIA)


def _dump(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
