"""Documentation in step with the program: reference pages regenerate to the same text, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trueup.commands.reference import PAGES

ROOT = Path(__file__).parents[1]
PROSE = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_reference_pages_are_those_of_the_code(name):
    assert (ROOT / "docs/reference" / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("page", PROSE, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_mark_of_a_merge_is_left(page):
    marks = [line for line in page.read_text(encoding="utf-8").splitlines() if re.match(r"(<<<<<<<|>>>>>>>) ", line)]
    assert marks == []


@pytest.mark.parametrize("page", PROSE, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PROSE, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_the_docs_exist(page):
    from typer.main import get_command

    from trueup.commands.app import app

    known = set(get_command(app).commands)
    used = re.findall(r"(?:^|`)trueup ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(set(used) - known) == []


def test_every_metric_and_command_has_its_line():
    from trueup.metrics import METRICS

    metrics = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    assert [name for name in METRICS if f"`{name}`" not in metrics] == []
