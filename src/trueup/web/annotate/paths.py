"""Parts of paths that name something in the database: whoever asks for what is not there is told so."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends

from trueup.feedback.store.database import Store
from trueup.feedback.store.schema import item, project
from trueup.feedback.workflow import dashboard
from trueup.web.shell.access import Database
from trueup.web.shell.problems import NotFound


def require(store: Store, table: Any, wanted: str) -> str:
    """The id, if a row has it.

    Raises:
        NotFound: None has.
    """
    if not dashboard.exists(store, table, wanted):
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
