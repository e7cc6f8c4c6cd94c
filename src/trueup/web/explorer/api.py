"""The calls of the explorer. All of ``router`` read.

Two others act, for a lead alone, and are there only where the server was started for it: ``questions`` writes to a
feedback database, ``controls`` asks a run that allows it to pause or to stop.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from trueup.web.explorer import panels
from trueup.web.explorer.keys import Lead, Reader
from trueup.web.explorer.snapshot import take_snapshot
from trueup.web.explorer.source import MOST_RUNS, Action, Asked, Order, Samples, Source
from trueup.web.explorer.stream import Follower, stream
from trueup.web.shell.access import LEADS, Body
from trueup.web.shell.problems import BadRequest

router = APIRouter()
questions = APIRouter()
"""What only a server with a feedback database has."""
controls = APIRouter()
"""What only a server has that was started with ``--control``."""
MOST_TEXT = 200


def _source(request: Request, who: Reader) -> Source:
    """The runs, for whoever may read them."""
    source: Source = request.app.state.source
    return source


Reads = Annotated[Source, Depends(_source)]
Name = Annotated[str, Query(max_length=4096)]


def _book(source: Reads, run: Name, of: Asked = "probes") -> Samples:
    return source.samples(run, of)


Book = Annotated[Samples, Depends(_book)]
Names = Annotated[list[str] | None, Query(max_length=MOST_RUNS)]
Step = Annotated[int | None, Query(ge=0, le=2**53 - 1)]
Offset = Annotated[int, Query(ge=0, le=10**9)]
Limit = Annotated[int, Query(ge=1, le=100)]


class Json(Response):
    """JSON in ASCII: half pairs in texts of a run reach the page, which shows them as what they are."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


@router.get("/runs")
def runs(request: Request, source: Reads, who: Reader) -> Json:
    """One line for each run, what a guided tour says of them, and what whoever asks may do here."""
    may = who.role in LEADS
    acts = {"asks": may and request.app.state.asks, "controls": may and request.app.state.controls}
    return Json({"runs": source.runs(), "tour": source.tour(), "role": who.role, **acts})


@router.get("/run")
def describe(request: Request, source: Reads, run: Name) -> Json:
    """One run: settings, verdict, and which charts it has."""
    return Json(panels.described(source, request.app.state.means, run))


@router.get("/series")
def series(
    source: Reads,
    run: Name,
    metric: Annotated[list[str] | None, Query(max_length=200)] = None,
    points: Annotated[int, Query(ge=4, le=10_000)] = 1_000,
    first: Step = None,
    last: Step = None,
) -> Json:
    """Steps and values of metrics, all of them where none is named."""
    return Json(source.series(run, metric or (), points, first, last))


@router.get("/events")
def events(
    request: Request,
    source: Reads,
    run: Names = None,
    after: Annotated[str, Query(max_length=4096)] = "",
    last_event_id: Annotated[str, Header(max_length=4096)] = "",
) -> StreamingResponse:
    """What is new in some runs, for as long as the connection stands; see ``stream``."""
    follower = Follower(source, run or (), last_event_id or after)
    return StreamingResponse(stream(follower, request.app.state.closing), media_type="text/event-stream")


@router.get("/probes")
def probes(book: Book) -> Json:
    """The steps at which the fixed prompts were answered, or of which answers that were learned from are there."""
    return Json({"probes": book.summary()})


@router.get("/samples")
def samples(
    book: Book,
    step: Annotated[int, Query(ge=0, le=2**53 - 1)],
    sort: Order = "probe",
    offset: Offset = 0,
    limit: Limit = 20,
) -> Json:
    """Answers of one step, each with the answers at the step before and at the first one."""
    return Json(book.page(step, sort=sort, offset=offset, limit=limit))


@router.get("/history")
def history(
    book: Book,
    prompt: Annotated[str, Query(max_length=MOST_TEXT)],
    offset: Offset = 0,
    limit: Limit = 20,
) -> Json:
    """The answers to one prompt along the run, oldest first, each with the one before it and the first one."""
    return Json(book.history(prompt, offset=offset, limit=limit))


@router.get("/sample")
def sample(
    book: Book,
    run: Name,
    step: Annotated[int, Query(ge=0, le=2**53 - 1)],
    prompt: Annotated[str, Query(min_length=1, max_length=MOST_TEXT)],
    turn: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Json:
    """One sample as a file: all that the run wrote of it."""
    row = {"run": run, **book.raw(step, prompt, turn)}
    return Json(row, headers={"Content-Disposition": "attachment"})  # the page's link names the file


@router.get("/search")
def search(book: Book, text: Annotated[str, Query(min_length=1, max_length=MOST_TEXT)]) -> Json:
    """Answers that hold a text, in the prompt or in the answer."""
    return Json(book.search(text))


@router.get("/differences")
def differences(source: Reads, run: Names = None) -> Json:
    """Settings that are not the same in all of the runs."""
    if not run or len(run) < 2:
        raise BadRequest("nothing to compare", where="run", expected="two runs or more")
    return Json({"runs": run, "settings": source.differences(run)})


@router.get("/snapshot")
def snapshot(
    request: Request, source: Reads, run: Names = None, place: Annotated[str, Query(max_length=4096)] = ""
) -> Response:
    """Some runs as one HTML file that needs no server; see ``snapshot``."""
    if not run:
        raise BadRequest("nothing to show", where="run", expected="a run or more")
    run = list(dict.fromkeys(run))
    taken = take_snapshot(source, request.app.state.means, run, place)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", run[0] if len(run) == 1 else f"{len(run)}-runs").strip("-.") or "run"
    head = {"Content-Disposition": f'attachment; filename="trueup-{name}.html"'}
    return Response(taken.page, media_type="text/html; charset=utf-8", headers=head)


class Question(Body):
    """Which alert people are asked about."""

    run: str = Field(max_length=4096)
    rule: str = Field(max_length=MOST_TEXT)
    step: int = Field(ge=0, le=2**53 - 1)


@questions.post("/ask")
def ask(source: Reads, who: Lead, question: Question) -> Json:
    """Blind pairs about an alert into the feedback room; a second time changes nothing."""
    return Json(source.ask(question.run, question.rule, question.step))


class Control(Body):
    """What is asked of a run."""

    run: str = Field(max_length=4096)
    action: Action


@controls.post("/control")
def control(source: Reads, who: Lead, asked: Control) -> Json:
    """Ask the process that trains a run to pause or to stop it after its running step."""
    return Json(source.control(asked.run, asked.action, who.role))
