"""Training files made from the judgments, and their download."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from trueup.errors import DataError, nearest
from trueup.feedback.store.records import DEFAULT_METHOD
from trueup.feedback.store.schema import new_id
from trueup.feedback.workflow import dashboard
from trueup.feedback.workflow.adjudication import settled
from trueup.web.annotate.paths import ProjectId
from trueup.web.shell.access import Database, Lead, LeadReads, Reply
from trueup.web.shell.problems import Conflict, NotFound

router = APIRouter()

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every member of an archive, so that the same content gives the same bytes."""


class NewExport(BaseModel):
    """What to export, and the curator's settings."""

    model_config = ConfigDict(extra="allow", strict=True)
    format: Annotated[str, Field(min_length=1, max_length=40)]
    method: Annotated[str, Field(min_length=1, max_length=40)] = DEFAULT_METHOD
    min_votes: Annotated[int, Field(ge=1)] = 1
    min_strength: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.5
    drop_annotators: Annotated[list[Annotated[str, Field(max_length=80)]], Field(max_length=10_000)] = []


class FinishedExport(Reply):
    """An export that can be downloaded, and what was left out of it by reason."""

    id: str
    rows: int
    sha256: str
    dropped: dict[str, int]


@router.post("/projects/{project_id}/exports", status_code=201)
def make_export(request: Request, store: Database, who: Lead, project_id: ProjectId, body: NewExport) -> FinishedExport:
    """Curate a project into files; settled items override the votes, what was left out is counted by reason."""
    from trueup.feedback.snapshot.curate import curate  # loads scipy: only when somebody exports

    known = set(NewExport.model_fields)
    for name in body.model_extra or {}:
        raise DataError(f"there is no setting {name!r}", where="body", expected=nearest(name, known))
    options = body.model_dump(exclude={"format"})
    verdicts = {name: settlement.answer for name, settlement in settled(store, project_id).items()}
    export_id, folder = new_id(), request.app.state.exports
    folder.mkdir(parents=True, exist_ok=True)
    done = curate(store, project_id, folder / export_id, format=body.format, adjudicated=verdicts, **options)
    path = _one_file(Path(done.path), folder / f"{export_id}.zip")
    digest, rows = _sha256(path), sum(done.rows.values())
    dropped = Counter(done.manifest["items_dropped"]) + Counter(done.manifest["pairs_dropped"])
    dashboard.note_export(
        store,
        project_id,
        who.id,
        export_id=export_id,
        path=str(path.relative_to(folder)),
        format=body.format,
        options=options,
        rows=rows,
        sha256=digest,
        dropped=dropped,
    )
    return FinishedExport(id=export_id, rows=rows, sha256=digest, dropped=dict(dropped))


@router.get("/exports/{export_id}/download")
def download(request: Request, store: Database, who: LeadReads, export_id: str) -> FileResponse:
    """The file of an export, if it is still the one that was made."""
    row = dashboard.find_export(store, export_id)
    if row is None:
        raise NotFound(f"there is no export {export_id!r}", where="export")
    path: Path = request.app.state.exports / row.path
    if not path.is_file():
        raise NotFound("the file of this export was removed", where="export", fix="export again")
    if _sha256(path) != row.sha256:
        raise Conflict("the file is not the one that was exported", where="export", fix="export again")
    return FileResponse(path, filename=path.name, media_type="application/octet-stream")


def _one_file(written: Path, archive: Path) -> Path:
    """The file itself, or a folder's files in one archive."""
    if written.is_file():
        return written
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_DEFLATED) as target:
        for path in sorted(written.rglob("*")):
            if path.is_file():
                target.writestr(zipfile.ZipInfo(str(path.relative_to(written)), EPOCH), path.read_bytes())
    return archive


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
