"""A page of sections, each words, a figure, a table or commands: HTML that stands alone, Markdown, JSON, terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.ledger import write_atomic
from trueup.reports.figures import Figure


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they are to be read."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: bool = False
    """Whether cells are texts, which wrap, and not numbers."""

    def plain(self) -> str:
        """For a terminal: columns at equal widths, the first to the left, numbers to the right."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i == 0 or self.texts else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page; what it lacks is left out."""

    heading: str
    intro: tuple[str, ...] = ()
    table: Table | None = None
    figure: Figure | None = None
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a page."""

    html: Path
    markdown: Path
    summary: Path


def write_page(
    out: Path, title: str, verdict: Sequence[str], sections: Sequence[Section], data: Mapping[str, Any]
) -> Written:
    """Write ``report.html``, ``report.md``, ``summary.json`` and ``figures/`` into ``out``.

    Args:
        out: Folder; made if absent.
        title: Headline.
        verdict: Sentences on top.
        sections: In their order.
        data: What the summary holds.
    """
    page = {"title": title, "verdict": list(verdict), "sections": list(sections)}
    files = Written(out / "report.html", out / "report.md", out / "summary.json")
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        if section.figure is not None:
            write_atomic(folder / f"{section.figure.name}.svg", section.figure.svg.encode())
    write_atomic(files.html, rendered("page.html.j2", page))
    write_atomic(files.markdown, rendered("page.md.j2", page))
    text = json.dumps({"title": title, "verdict": list(verdict), **data}, indent=2, ensure_ascii=False)
    write_atomic(files.summary, (text + "\n").encode("utf-8", "replace"))
    return files


def rendered(template: str, page: Mapping[str, Any]) -> bytes:
    """A template of ours, filled. HTML escapes everything that is not marked as our own SVG: model text is hostile."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    html = template.endswith(".html.j2")
    environment = Environment(
        loader=PackageLoader("trueup.reports"), autoescape=html, undefined=StrictUndefined, trim_blocks=not html
    )
    environment.filters.update(number=number, span=span, oneline=oneline)
    return environment.get_template(template).render(page).encode("utf-8", "replace")


def number(value: Any, digits: int = 3) -> str:
    """A number for a table cell; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1e5:
        return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
    return f"{value:.{digits}g}" if 0 < abs(value) < 10**-digits else f"{value:.{digits}f}"


def span(interval: Mapping[str, Any] | None) -> str:
    """The bounds of an interval for a table cell; a dash where nothing is known."""
    if not interval or interval["low"] is None or interval["high"] is None:
        return "–"
    return f"{number(interval['low'])} to {number(interval['high'])}"


def oneline(text: str) -> str:
    """Text for a Markdown cell or quote: one line, nothing that is markup."""
    flat = " ".join(str(text).split())
    for sign in "\\`*_{}[]<>#|":
        flat = flat.replace(sign, f"\\{sign}")
    return flat
