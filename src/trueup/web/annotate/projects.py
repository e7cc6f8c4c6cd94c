"""Projects with their guidelines, templates and items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlalchemy import select

from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import (
    add_guideline,
    add_template,
    change_template,
    create_project,
    import_items,
    set_state,
)
from trueup.feedback.store.schema import guideline, template
from trueup.feedback.workflow import dashboard
from trueup.feedback.workflow.assignment import acknowledge
from trueup.feedback.workflow.summaries import Progress as ProjectProgress
from trueup.feedback.workflow.summaries import ProjectSummary, TemplateSummary
from trueup.web.annotate.intake import read_items
from trueup.web.annotate.paths import ProjectId, require
from trueup.web.shell.access import Acceptor, Body, Database, Importer, Lead, LeadReads, Onlooker, Reader, Reply
from trueup.web.shell.markdown import to_html
from trueup.web.shell.problems import NotFound

router = APIRouter()


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


class TemplateChange(Body):
    """New settings of a way of asking."""

    config: dict[str, Any]


class Guideline(Reply):
    """A version of a guideline, as Markdown and as sanitised HTML."""

    id: str
    number: int
    markdown: str
    sha256: str
    acknowledged: bool
    html: str


class Template(Reply):
    """A way of asking."""

    id: str
    name: str
    kind: str
    config: Any
    """As it is stored: settings that an older version let in may be of any shape."""


class UnusableTemplate(Template):
    """A way of asking whose stored settings are wrong, and what is wrong with them."""

    problem: str


class RefusedRow(Reply):
    """A row of a file that could not be an item."""

    line: int
    reason: str


class ImportResult(Reply):
    """What became of a file."""

    rows: int
    items: int
    rejected: list[RefusedRow]
    unused: Mapping[str, int]
    notes: list[str]


@router.get("/projects")
def list_projects(store: Database, who: Onlooker) -> list[ProjectSummary]:
    """All projects with their counts."""
    return dashboard.projects_for(store, who.id)


@router.post("/projects", status_code=201)
def new_project(store: Database, who: Lead, body: NewProject) -> ProjectSummary:
    """A new live project."""
    project_id = create_project(store, body.name.strip(), simulated=body.simulated, actor=who.pseudonym)
    return _summary(store, project_id, who.id)


@router.patch("/projects/{project_id}")
def patch_project(store: Database, who: Lead, project_id: ProjectId, body: ProjectChange) -> ProjectSummary:
    """Open, pause or close it."""
    set_state(store, project_id, body.state, actor=who.pseudonym)
    return _summary(store, project_id, who.id)


@router.get("/projects/{project_id}/progress")
def project_progress(store: Database, who: Reader, project_id: ProjectId) -> ProjectProgress:
    """Counts by stream and day, and the time left."""
    return dashboard.progress(store, project_id)


@router.get("/projects/{project_id}/guideline")
def read_guideline(store: Database, who: Onlooker, project_id: ProjectId) -> Guideline | None:
    """The newest version, as Markdown and as sanitised HTML."""
    newest = dashboard.newest_guideline(store, project_id, who.id)
    if newest is None:
        return None  # a project without a guideline is nothing out of the ordinary
    return Guideline(**newest.to_dict(), html=to_html(newest.markdown))


@router.post("/projects/{project_id}/guideline", status_code=201)
def new_guideline(store: Database, who: Lead, project_id: ProjectId, body: NewGuideline) -> Guideline | None:
    """The next version; annotators accept it before their next item."""
    add_guideline(store, project_id, body.markdown, actor=who.pseudonym)
    return read_guideline(store, who, project_id)


@router.post("/guidelines/{guideline_id}/ack", status_code=204)
def accept_guideline(store: Database, who: Acceptor, guideline_id: str) -> Response:
    """Say that one has read a version."""
    acknowledge(store, who.id, require(store, guideline, guideline_id))
    return Response(status_code=204)


@router.get("/projects/{project_id}/templates")
def list_templates(store: Database, who: LeadReads, project_id: ProjectId) -> list[Template | UnusableTemplate]:
    """The ways of asking."""
    return _templates(store, project_id)


@router.post("/projects/{project_id}/templates", status_code=201)
def new_template(store: Database, who: Lead, project_id: ProjectId, body: NewTemplate) -> Template:
    """A new way of asking."""
    template_id = add_template(store, project_id, body.kind, body.name, body.config, actor=who.pseudonym)
    return Template(id=template_id, name=body.name, kind=body.kind, config=body.config)


@router.patch("/projects/{project_id}/templates/{template_id}")
def patch_template(
    store: Database, who: Lead, project_id: ProjectId, template_id: str, body: TemplateChange
) -> Template | UnusableTemplate:
    """New settings of a way of asking, in place of all that it had."""
    _own_template(store, project_id, template_id)
    change_template(store, template_id, body.config, actor=who.pseudonym)
    return next(row for row in _templates(store, project_id) if row.id == template_id)


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
    encoding: Annotated[str, Query(max_length=40)] = "",
) -> ImportResult:
    """Items from a file; refused rows are told with their lines, the others go in all or none.

    A dry run stores nothing. What was not used of the rows is told by name.
    """
    data = await request.body()
    return await run_in_threadpool(
        _import, store, project_id, template, data, format, encoding, dry_run, overlap, priority, who.pseudonym
    )


def _import(
    store: Store,
    project_id: str,
    template_id: str,
    data: bytes,
    format: str,
    encoding: str,
    dry_run: bool,
    overlap: int,
    priority: int,
    actor: str,
) -> ImportResult:
    _own_template(store, project_id, template_id)
    read = read_items(data, format, encoding or None)
    done = import_items(
        store, template_id, read.items, overlap=overlap, priority=priority, actor=actor, dry_run=dry_run
    )
    refused = [*read.rejected, *((read.lines[number], why) for number, why in done.rejected)]
    return ImportResult(
        rows=len(read.items) + len(read.rejected),
        items=len(done.items),
        rejected=[RefusedRow(line=line, reason=why) for line, why in sorted(refused)],
        unused=dict(read.unused),
        notes=list(read.notes),
    )


def _own_template(store: Store, project_id: str, template_id: str) -> None:
    with store.read() as connection:
        own = select(template.c.id).where(template.c.id == template_id, template.c.project == project_id)
        if connection.execute(own).first() is None:
            raise NotFound(f"this project has no template {template_id!r}", where="template")


def _templates(store: Store, project_id: str) -> list[Template | UnusableTemplate]:
    return [_template(row) for row in dashboard.templates_of(store, project_id)]


def _template(row: TemplateSummary) -> Template | UnusableTemplate:
    return (Template if row.problem is None else UnusableTemplate).model_validate(row)


def _summary(store: Store, project_id: str, person_id: str) -> ProjectSummary:
    return next(summary for summary in dashboard.projects_for(store, person_id) if summary.id == project_id)
