"""Pages of an app on the shell: its templates extend ours, its files lie beside ours.

Templates hold no data: it comes over the API.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, select_autoescape

SHELL = Path(__file__).parent
STATIC = "/static/"


def templates(folder: Path) -> Environment:
    """The templates of an app, which may extend ``base.html``."""
    loader = ChoiceLoader([FileSystemLoader(folder), FileSystemLoader(SHELL / "templates")])
    return Environment(loader=loader, autoescape=select_autoescape(default=True), auto_reload=False)


def serve_files(app: FastAPI, folder: Path) -> None:
    """Serve the files of an app below ``/static/`` and the shell's below ``/static/shell/``."""
    app.mount(f"{STATIC}shell", StaticFiles(directory=SHELL / "static"), name="shell")
    app.mount(STATIC.rstrip("/"), StaticFiles(directory=folder), name="static")
