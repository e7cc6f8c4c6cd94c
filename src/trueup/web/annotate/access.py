"""Who may make which call: a role, and for tokens a scope, named beside each route and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict

from trueup.feedback import desk
from trueup.feedback.accounts import Principal
from trueup.feedback.schema import item, project
from trueup.feedback.store import Store
from trueup.web.annotate.problems import Forbidden, NotFound, NotSignedIn

ANYBODY = ("viewer", "annotator", "adjudicator", "lead", "admin")
ANNOTATORS = ("annotator", "adjudicator", "lead", "admin")
ADJUDICATORS = ("adjudicator", "lead", "admin")
READERS = ("viewer", "lead", "admin")
LEADS = ("lead", "admin")
ADMINS = ("admin",)
ANY_SCOPE = ("annotate", "read", "lead", "admin", "ingest")


class Body(BaseModel):
    """A request body: unknown fields are errors, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


def allow(roles: tuple[str, ...], *scopes: str) -> Callable[[Request], Principal]:
    """A dependency that lets these roles in, and their tokens with one of these scopes.

    Args:
        roles: Who may.
        scopes: For tokens; none means that it takes a session, a person at a browser.
    """

    def check(request: Request) -> Principal:
        who: Principal | None = request.state.principal
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

    return check


def _store(request: Request) -> Store:
    found: Store = request.app.state.store
    return found


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
Importer = Annotated[Principal, Depends(allow(LEADS, "lead", "ingest"))]
Admin = Annotated[Principal, Depends(allow(ADMINS, "admin"))]


def require(store: Store, table: Any, wanted: str) -> str:
    """The id, if a row has it.

    Raises:
        NotFound: None has.
    """
    if not desk.exists(store, table, wanted):
        raise NotFound(f"there is no {table.name} {wanted!r}", where=table.name)
    return wanted


def known_project(store: Database, project_id: str) -> str:
    """Path parameter of an existing project."""
    return require(store, project, project_id)


def known_item(store: Database, item_id: str) -> str:
    """Path parameter of an existing item."""
    return require(store, item, item_id)


ProjectId = Annotated[str, Depends(known_project)]
ItemId = Annotated[str, Depends(known_item)]
