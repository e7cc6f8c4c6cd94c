"""The pages themselves: templates that hold no data (it comes over the API), and signs of life."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, TemplateNotFound, select_autoescape
from sqlalchemy import text

from trueup import __version__
from trueup.web.annotate.access import Database
from trueup.web.annotate.problems import NotFound

HERE = Path(__file__).parent
PAGES = {"": "projects", "login": "login", "annotate": "annotate", "adjudicate": "adjudicate", "lead": "lead"}
PAGES |= {"admin": "admin"}
"""First part of the path -> template."""

router = APIRouter(include_in_schema=False)
signs = APIRouter()

_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(default=True), auto_reload=False
)


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
def alive() -> dict[str, Any]:
    """The process answers."""
    return {"ok": True, "version": __version__}


@signs.get("/readyz")
def ready(store: Database) -> dict[str, Any]:
    """The database answers too."""
    with store.read() as connection:
        connection.execute(text("SELECT 1"))
    return {"ok": True, "database": store.dialect}
