"""Quality pages, gold items."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response

from trueup.feedback.store.reading import read_project
from trueup.feedback.workflow import dashboard
from trueup.feedback.workflow.summaries import GoldItem
from trueup.web.annotate.paths import ItemId, ProjectId
from trueup.web.shell.access import Database, Lead, Reader

router = APIRouter()


@router.get("/projects/{project_id}/quality/{page}")
def quality_page(
    store: Database,
    who: Reader,
    project_id: ProjectId,
    page: Literal["agreement", "annotators", "bias", "disagreement", "gold", "overlap"],
) -> Any:
    """One page of the quality report, from the judgments as they are now; ``surplus`` says how many are not counted."""
    from trueup.feedback.quality.report import PAGES  # loads scipy: only when somebody looks

    judged = read_project(store, project_id)
    # Annotators are told of with what they gave in late, beside measures that do not count it.
    report = PAGES[page](judged if page == "annotators" else judged.without_surplus())
    return report.to_dict() | {"surplus": judged.surplus}


@router.get("/projects/{project_id}/gold")
def list_gold(store: Database, who: Reader, project_id: ProjectId) -> list[GoldItem]:
    """Items with a known answer and how often each was seen."""
    return dashboard.gold_items(store, project_id)


@router.post("/items/{item_id}/gold/retire", status_code=204)
def retire_gold_item(store: Database, who: Lead, item_id: ItemId) -> Response:
    """Show a known item to nobody any more."""
    dashboard.retire_gold(store, item_id, actor=who.pseudonym)
    return Response(status_code=204)
