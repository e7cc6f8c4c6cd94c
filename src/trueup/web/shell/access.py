"""Who may make which call: a role, and for tokens a scope, named beside each route and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict

from trueup.feedback.store.accounts import Principal
from trueup.feedback.store.database import Store
from trueup.web.shell.problems import Forbidden, NotSignedIn

ANYBODY = ("viewer", "annotator", "adjudicator", "lead", "admin")
ANNOTATORS = ("annotator", "adjudicator", "lead", "admin")
ADJUDICATORS = ("adjudicator", "lead", "admin")
READERS = ("viewer", "lead", "admin")
LEADS = ("lead", "admin")
ADMINS = ("admin",)
ANY_SCOPE = ("annotate", "read", "lead", "admin", "ingest")
IMPORT_SCOPES = ("lead", "ingest")


class Body(BaseModel):
    """A request body: unknown fields are errors, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Reply(BaseModel):
    """What a call answers; the order of its fields is that of the JSON."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


def allow(roles: tuple[str, ...], *scopes: str) -> Callable[[Request], Principal]:
    """A dependency that lets these roles in, and their tokens with one of these scopes.

    Args:
        roles: Who may.
        scopes: For tokens; none means that it takes a session, a person at a browser.
    """

    def check(request: Request) -> Principal:
        return permitted(request.state.principal, roles, *scopes)

    return check


def permitted(who: Principal | None, roles: tuple[str, ...], *scopes: str) -> Principal:
    """Who it is, if they may.

    Raises:
        NotSignedIn: Nobody is signed in.
        Forbidden: The role or the token's scopes do not reach so far.
    """
    if who is None:
        raise NotSignedIn("nobody is signed in", fix="sign in, or send a bearer token")
    if who.role not in roles:
        raise Forbidden(f"the role {who.role} may not do this", expected=" or ".join(roles))
    if who.scopes is not None and not who.scopes & set(scopes):
        raise Forbidden(
            f"the token has the scopes {', '.join(sorted(who.scopes)) or 'none'}",
            where="Authorization",
            expected=" or ".join(scopes) or "a session: sign in with a password",
        )
    return who


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


Database = Annotated[Store, Depends(_store)]
Anybody = Annotated[Principal, Depends(allow(ANYBODY, *ANY_SCOPE))]
Somebody = Annotated[Principal, Depends(allow(ANYBODY))]
Onlooker = Annotated[Principal, Depends(allow(ANYBODY, "read", "annotate"))]
Acceptor = Annotated[Principal, Depends(allow(ANYBODY, "annotate"))]
Annotator = Annotated[Principal, Depends(allow(ANNOTATORS, "annotate"))]
Adjudicator = Annotated[Principal, Depends(allow(ADJUDICATORS, "annotate"))]
Reader = Annotated[Principal, Depends(allow(READERS, "read"))]
LeadReads = Annotated[Principal, Depends(allow(LEADS, "read", "lead"))]
Lead = Annotated[Principal, Depends(allow(LEADS, "lead"))]
Importer = Annotated[Principal, Depends(allow(LEADS, *IMPORT_SCOPES))]
Admin = Annotated[Principal, Depends(allow(ADMINS, "admin"))]
