"""Projects with their guidelines, templates and items."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlalchemy import select

from trueup.feedback import desk
from trueup.feedback.assignment import acknowledge
from trueup.feedback.projects import add_guideline, add_template, create_project, import_items
from trueup.feedback.schema import guideline, template
from trueup.feedback.store import Store
from trueup.web.annotate.access import (
    Acceptor,
    Body,
    Database,
    Importer,
    Lead,
    LeadReads,
    Onlooker,
    ProjectId,
    Reader,
    require,
)
from trueup.web.annotate.intake import read_items
from trueup.web.annotate.markdown import to_html
from trueup.web.annotate.problems import NotFound

router = APIRouter()

BATCH = 200
"""Rows of an import in one transaction: nobody waits longer for the database than for these."""


class NewProject(Body):
    """A project to make."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    simulated: bool = False


class ProjectChange(Body):
    """What to change of a project."""

    state: Literal["draft", "live", "paused", "closed"]


class NewGuideline(Body):
    """The next version of a guideline."""

    markdown: Annotated[str, Field(min_length=1, max_length=200_000)]


class NewTemplate(Body):
    """A way of asking."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    kind: str
    config: dict[str, Any] = Field(default_factory=dict)


@router.get("/projects")
def list_projects(store: Database, who: Onlooker) -> list[dict[str, Any]]:
    """All projects with their counts."""
    return desk.projects_for(store, who.id)


@router.post("/projects", status_code=201)
def new_project(store: Database, who: Lead, body: NewProject) -> dict[str, Any]:
    """A new live project."""
    made = create_project(store, body.name.strip(), simulated=body.simulated, actor=who.pseudonym)
    return _one(store, made, who.id)


@router.patch("/projects/{project_id}")
def patch_project(store: Database, who: Lead, project_id: ProjectId, body: ProjectChange) -> dict[str, Any]:
    """Open, pause or close it."""
    desk.set_state(store, project_id, body.state, actor=who.pseudonym)
    return _one(store, project_id, who.id)


@router.get("/projects/{project_id}/progress")
def project_progress(store: Database, who: Reader, project_id: ProjectId) -> dict[str, Any]:
    """Counts by stream and day, and the time left."""
    return desk.progress(store, project_id)


@router.get("/projects/{project_id}/guideline")
def read_guideline(store: Database, who: Onlooker, project_id: ProjectId) -> dict[str, Any] | None:
    """The newest version, as Markdown and as sanitised HTML."""
    found = desk.newest_guideline(store, project_id, who.id)
    if found is None:
        return None  # a project without a guideline is nothing out of the ordinary
    return found | {"html": to_html(found["markdown"])}


@router.post("/projects/{project_id}/guideline", status_code=201)
def new_guideline(store: Database, who: Lead, project_id: ProjectId, body: NewGuideline) -> dict[str, Any] | None:
    """The next version; annotators accept it before their next item."""
    add_guideline(store, project_id, body.markdown, actor=who.pseudonym)
    return read_guideline(store, who, project_id)


@router.post("/guidelines/{guideline_id}/ack", status_code=204)
def accept_guideline(store: Database, who: Acceptor, guideline_id: str) -> Response:
    """Say that one has read a version."""
    acknowledge(store, who.id, require(store, guideline, guideline_id))
    return Response(status_code=204)


@router.get("/projects/{project_id}/templates")
def list_templates(store: Database, who: LeadReads, project_id: ProjectId) -> list[dict[str, Any]]:
    """The ways of asking."""
    return desk.templates_of(store, project_id)


@router.post("/projects/{project_id}/templates", status_code=201)
def new_template(store: Database, who: Lead, project_id: ProjectId, body: NewTemplate) -> dict[str, Any]:
    """A new way of asking."""
    made = add_template(store, project_id, body.kind, body.name, body.config, actor=who.pseudonym)
    return {"id": made, "name": body.name, "kind": body.kind, "config": body.config}


@router.post("/projects/{project_id}/import")
async def import_file(
    request: Request,
    store: Database,
    who: Importer,
    project_id: ProjectId,
    template: str,
    format: str = "jsonl",
    dry_run: bool = False,
    overlap: Annotated[int, Query(ge=1, le=50)] = 2,
    priority: Annotated[int, Query(ge=-100, le=100)] = 0,
) -> dict[str, Any]:
    """Items from a file; refused rows are told with their lines, a dry run stores nothing."""
    data = await request.body()
    return await run_in_threadpool(
        _import, store, project_id, template, data, format, dry_run, overlap, priority, who.pseudonym
    )


def _import(
    store: Store,
    project_id: str,
    template_id: str,
    data: bytes,
    format: str,
    dry_run: bool,
    overlap: int,
    priority: int,
    actor: str,
) -> dict[str, Any]:
    with store.read() as connection:
        own = select(template.c.id).where(template.c.id == template_id, template.c.project == project_id)
        if connection.execute(own).first() is None:
            raise NotFound(f"this project has no template {template_id!r}", where="template")
    read = read_items(data, format)
    stored, refused = 0, list(read.rejected)
    # A dry run sees the whole file at once, so that it finds the faults between rows; what is stored goes in by
    # batches, so that annotators can write in between.
    size = max(1, len(read.items)) if dry_run else BATCH
    for start in range(0, len(read.items), size):
        done = import_items(
            store,
            template_id,
            read.items[start : start + size],
            overlap=overlap,
            priority=priority,
            actor=actor,
            dry_run=dry_run,
        )
        stored += len(done.items)
        refused += [(read.lines[start + number], why) for number, why in done.rejected]
    return {
        "rows": len(read.items) + len(read.rejected),
        "items": stored,
        "rejected": [{"line": line, "reason": why} for line, why in sorted(refused)],
    }


def _one(store: Store, project_id: str, person_id: str) -> dict[str, Any]:
    return next(row for row in desk.projects_for(store, person_id) if row["id"] == project_id)
