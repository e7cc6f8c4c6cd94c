"""A page of sections, each words, a figure, a table or commands: HTML that stands alone, Markdown, JSON, terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueup.ledger import write_atomic, write_file
from trueup.reports.figures import Figure

_NUMBER = re.compile(r"\s*(?:[-+−±<>≥≤~]\s*)?(?:\.?\d|inf\b|nan\b)", re.IGNORECASE)
_GAPS = ("", "-", "–", "—")


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they are to be read."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: bool = False
    """Whether what is no number is a text, which wraps, and not a word or two."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """How each column stands: ``word`` or ``text`` to the left, empty for numbers, which stand to the right. A
        column is of numbers where most of its cells are, gaps apart."""
        words = "text" if self.texts else "word"
        return tuple("" if _numeric([row[i] for row in self.rows]) else words for i in range(len(self.columns)))

    def _repr_html_(self) -> str:
        return rendered("sections.html.j2", {"sections": [Section("", table=self)]}).decode()

    def plain(self) -> str:
        """For a terminal: columns at equal widths, the first and words to the left, numbers to the right."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i == 0 or kind else cell.rjust(width)
                for i, (cell, width, kind) in enumerate(zip(line, widths, self.kinds, strict=True))
            ).rstrip()
            for line in lines
        )


def _numeric(cells: Sequence[str]) -> bool:
    """Whether most cells of a column begin as numbers do; of a column of gaps nobody can tell, and it is."""
    said = [cell for cell in cells if cell.strip() not in _GAPS]
    return 2 * sum(_NUMBER.match(cell) is not None for cell in said) >= len(said)


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


@dataclass(frozen=True, slots=True, repr=False)
class Page:
    """A page before it is written; in a notebook it shows itself."""

    title: str
    verdict: tuple[str, ...]
    """What it says first."""
    sections: tuple[Section, ...]
    data: Mapping[str, Any]
    """What its summary holds."""

    def __repr__(self) -> str:
        return "\n".join([self.title, *self.verdict])

    def _repr_html_(self) -> str:
        shown = {"title": self.title, "verdict": self.verdict, "sections": self.sections}
        return rendered("shown.html.j2", shown).decode()

    @property
    def figures(self) -> dict[str, Figure]:
        """Its figures, by name; each shows itself in a notebook, and has its ``svg``."""
        return {s.figure.name: s.figure for s in self.sections if s.figure is not None}

    @property
    def tables(self) -> dict[str, Table]:
        """Its tables, by heading."""
        return {s.heading: s.table for s in self.sections if s.table is not None}

    def write(self, out: Path) -> Written:
        """Write it, as ``write_page``."""
        return write_page(out, self.title, self.verdict, self.sections, self.data)

    def write_html(self, file: Path) -> Path:
        """Write the page alone, as one file that needs no other; its folders are made."""
        page = {"title": self.title, "verdict": list(self.verdict), "sections": list(self.sections)}
        write_file(file, rendered("page.html.j2", page), "the page")
        return file


class ShowsPage:
    """A result that shows itself as its page: in a notebook the page, elsewhere its title and verdict."""

    __slots__ = ()

    if TYPE_CHECKING:  # a field or a property of each; a base's attribute would be taken for the field's default

        @property
        def page(self) -> Page:
            """What is shown."""

    def __repr__(self) -> str:
        return repr(self.page)

    def _repr_html_(self) -> str:
        return self.page._repr_html_()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the page says first."""
        return self.page.verdict


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
