"""Quality pages, gold items."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response

from trueup.feedback import desk
from trueup.feedback.reading import read_project
from trueup.web.annotate.access import Database, ItemId, Lead, ProjectId, Reader

router = APIRouter()


@router.get("/projects/{project_id}/quality/{page}")
def quality_page(
    store: Database,
    who: Reader,
    project_id: ProjectId,
    page: Literal["agreement", "annotators", "bias", "disagreement", "gold", "overlap"],
) -> Any:
    """One page of the quality report, from the judgments as they are now."""
    from trueup.feedback.quality import report  # loads scipy: only when somebody looks

    return getattr(report, page)(read_project(store, project_id))


@router.get("/projects/{project_id}/gold")
def list_gold(store: Database, who: Reader, project_id: ProjectId) -> list[dict[str, Any]]:
    """Items with a known answer and how often each was seen."""
    return desk.gold_items(store, project_id)


@router.post("/items/{item_id}/gold/retire", status_code=204)
def retire_gold(store: Database, who: Lead, item_id: ItemId) -> Response:
    """Show a known item to nobody any more."""
    desk.retire_gold(store, item_id, actor=who.pseudonym)
    return Response(status_code=204)
