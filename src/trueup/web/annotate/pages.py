"""The pages themselves: templates that hold no data (it comes over the API), and signs of life."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from jinja2 import TemplateNotFound
from sqlalchemy import text

from trueup import __version__
from trueup.web.shell.access import Database, Reply
from trueup.web.shell.pages import templates
from trueup.web.shell.problems import NotFound

HERE = Path(__file__).parent
PAGES = {"": "projects", "login": "login", "annotate": "annotate", "adjudicate": "adjudicate", "lead": "lead"}
PAGES |= {"admin": "admin"}
"""First part of the path -> template."""

router = APIRouter(include_in_schema=False)
signs = APIRouter()

_templates = templates(HERE / "templates")


class Alive(Reply):
    """The process answers, and which version it is."""

    ok: bool
    version: str


class Ready(Reply):
    """The database answers, and which kind it is."""

    ok: bool
    database: str


def _page(name: str) -> HTMLResponse:
    try:
        template = _templates.get_template(f"{PAGES[name]}.html")
    except (KeyError, TemplateNotFound):
        raise NotFound(f"there is no page /{name}", where="path") from None
    return HTMLResponse(template.render(version=__version__))


@router.get("/")
def front_page() -> HTMLResponse:
    """The list of projects."""
    return _page("")


@router.get("/{page}")
def page(page: str) -> HTMLResponse:
    """One of the pages."""
    return _page(page)


@router.get("/{page}/{project_id}")
def project_page(page: str, project_id: str) -> HTMLResponse:
    """One of the pages of a project; the page's own script reads which."""
    return _page(page)


@signs.get("/healthz")
def alive() -> Alive:
    """The process answers."""
    return Alive(ok=True, version=__version__)


@signs.get("/readyz")
def ready(store: Database) -> Ready:
    """The database answers too."""
    with store.read() as connection:
        connection.execute(text("SELECT 1"))
    return Ready(ok=True, database=store.dialect)
