"""Some runs as one HTML file that opens from a disk without a server: the page's code, and the data it would ask for.

The modules of the page lie in the file's import map, each as a ``data:`` address; ``offline.js`` answers their calls
from the data. The file may load nothing and send nothing: its policy allows the code that is in it, by hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from trueup import __version__
from trueup.errors import UsageError
from trueup.web.explorer.panels import described
from trueup.web.explorer.source import MOST_RUNS, Meaning, Samples, Source
from trueup.web.shell.pages import SHELL, templates

HERE = Path(__file__).parent
MOST_POINTS, LEAST_POINTS = 200_000, 100
"""Points of all curves together, and of one curve at least."""
CURVE_POINTS = 1_000
"""Points of one curve at most, as on the served page."""
MOST_TEXT = 4_000_000
"""Bytes of all answers together."""
ANSWERS = 100
"""Answers of one step at most."""
_MOST_READ = 2
"""Answers that are read to keep some of them, over what may be kept."""
_IMPORT = re.compile(r'^(import [^;]*?from )"(\./[^"]+)";$', re.MULTILINE)
_STYLES = ("shell/css/tokens.css", "shell/css/page.css", "vendor/uplot/uPlot.min.css", "css/explorer.css")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file, and what is not in it."""

    page: bytes
    notes: tuple[str, ...]
    """What the file holds less of than the runs do, a phrase each."""


def take_snapshot(
    source: Source, means: Callable[[str], Meaning | None], names: Sequence[str], place: str = ""
) -> Snapshot:
    """The file of some runs.

    Args:
        source: Who reads the runs.
        means: What a metric is, by its name.
        names: The runs, in the order in which they are compared.
        place: Where it opens, as the part of the page's address from ``#`` on; by default at the first run, or at the
            comparison of several.

    Raises:
        UsageError: There is no run, or there are too many.
    """
    if not 1 <= len(names) <= MOST_RUNS:
        raise UsageError(f"{len(names)} runs", where="a snapshot", expected=f"1 to {MOST_RUNS} runs")
    runs = {name: described(source, means, name) for name in names}
    curves = sum(len(run["metrics"]) for run in runs.values())
    points = min(CURVE_POINTS, max(LEAST_POINTS, MOST_POINTS // max(curves, 1)))
    longest = max(run["rows"] for run in runs.values())
    thinned = f"Curves of more than {points:,} points are thinned to so many, which keep every peak"
    samples, notes = {}, [thinned] if longest > points else []
    for name in names:
        if runs[name]["trained"]:
            notes.append(f"{name}: answers that it learned from are left out")
            runs[name] = {**runs[name], "trained": 0}
        samples[name], told = _answers(source.samples(name), MOST_TEXT // len(names))
        notes += [f"{name}: {one}" for one in told]
    settings = source.differences(names) if len(names) > 1 else []
    data = {
        "place": place if place.startswith("#") else _default_place(names),
        "runs": [line for line in source.runs() if line["name"] in runs],
        "described": runs,
        "series": {name: source.series(name, (), points) for name in names},
        "probes": {
            name: {"probes": [row for row in source.samples(name).summary() if str(row["step"]) in samples[name]]}
            for name in names
        },
        "samples": samples,
        "differences": {"runs": list(names), "settings": settings},
    }
    return Snapshot(_page(data, names, notes), tuple(notes))


def _default_place(names: Sequence[str]) -> str:
    asked = [("run", names[0])] if len(names) == 1 else [("view", "compare"), *(("with", name) for name in names)]
    return f"#{urlencode(asked)}"


def _answers(samples: Samples, budget: int) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Answers by step, within a number of bytes, and what was left out of them."""
    answered = {row["step"]: row["answers"] for row in samples.summary()}
    steps = kept = list(answered)
    if steps:  # what an answer takes, by a page in the middle: so no more is read than will be kept, or little more
        middle = _page_of(samples, steps[len(steps) // 2])
        each = len(json.dumps(middle)) / len(middle)
        while len(kept) > 2 and sum(min(answered[step], ANSWERS) for step in kept) * each > _MOST_READ * budget:
            kept = _half(kept)
    pages = {step: _page_of(samples, step) for step in kept}
    sizes = {step: len(json.dumps(rows)) for step, rows in pages.items()}
    while len(kept) > 2 and sum(sizes[step] for step in kept) > budget:
        kept = _half(kept)
    notes = [f"answers of {len(kept)} of {len(steps)} probe steps"] if len(kept) < len(steps) else []
    if any(answered[step] > ANSWERS for step in kept):
        notes.append(f"the first {ANSWERS} answers of each step")
    return {str(step): pages[step] for step in kept}, notes


def _half(steps: Sequence[int]) -> list[int]:
    """Every second step, and the last one."""
    return [*steps[:-1:2], steps[-1]]


def _page_of(samples: Samples, step: int) -> list[dict[str, Any]]:
    """Answers of a step; the one before each is at the step before, and need not be there twice."""
    rows = samples.page(step, sort="probe", offset=0, limit=ANSWERS)["rows"]
    return [{key: value for key, value in row.items() if key != "before"} for row in rows]


def _page(data: dict[str, Any], names: Sequence[str], notes: Sequence[str]) -> bytes:
    style = "\n".join(map(_static, _STYLES))
    theme, offline = _static("shell/theme.js"), _static("offline.js")
    modules = json.dumps({"imports": {_bare(name): _as_data(text) for name, text in _modules().items()}})
    entry = f'import "{_bare("explorer.js")}";'
    allowed = " ".join(_hash(text) for text in (theme, offline, modules, entry))
    policy = f"default-src 'none'; script-src data: {allowed}; style-src {_hash(style)}; img-src data:; base-uri 'none'"
    icon = base64.b64encode((SHELL / "static" / "icon.svg").read_bytes()).decode("ascii")
    # ``<`` never stands in the data, so nothing in it can end its element or begin a comment.
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    page = templates(HERE / "templates").get_template("snapshot.html")
    html = page.render(
        title=names[0] if len(names) == 1 else f"{len(names)} runs",
        policy=Markup(policy),  # holds hashes and our own words alone; a quote in it must stay one
        icon=f"data:image/svg+xml;base64,{icon}",
        home="#",
        style=Markup(style),
        theme=Markup(theme),
        data=Markup(text),
        offline=Markup(offline),
        modules=Markup(modules),
        entry=Markup(entry),
        said=f"Snapshot of {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, trueup {__version__}",
        notes=list(notes),
    )
    return html.encode("utf-8", "replace")


def _static(name: str) -> str:
    """A file of the page, by its name below ``/static/``."""
    inner = name.removeprefix("shell/")
    folder = SHELL if inner != name else HERE
    return (folder / "static" / inner).read_text(encoding="utf-8")


def _modules() -> dict[str, str]:
    """Every module that the page loads, by its name below ``/static/``, with bare names in its imports."""
    texts: dict[str, str] = {}
    waiting = ["explorer.js"]
    while waiting:
        name = waiting.pop()
        if name in texts:
            continue
        folder = name.rpartition("/")[0]
        text = _static(name)
        for beginning, spec in _IMPORT.findall(text):
            imported = f"{folder}/{spec[2:]}".lstrip("/")
            text = text.replace(f'{beginning}"{spec}";', f'{beginning}"{_bare(imported)}";')
            waiting.append(imported)
        texts[name] = text
    return texts


def _bare(name: str) -> str:
    return f"trueup/{name}"


def _as_data(text: str) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode('ascii')}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
