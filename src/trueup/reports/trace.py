"""The life of one pair as a page that stands alone: from its judgments to what the models made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.ledger import write_file
from trueup.reports import figures
from trueup.reports.figures import Figure

CAPTION = (
    "The margin of the pair's two rewards at each step that trained on it, which is the logit of the probability that "
    "the model gives to the label; the pair's loss; and its share of the pull of all pairs of the step."
)


def write_trace(life: Mapping[str, Any], file: Path) -> None:
    """Write the page.

    Args:
        life: As ``Life.to_dict`` of ``commands.life`` gives it.
        file: Where; made with its folders.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("trueup.reports"), autoescape=True, undefined=StrictUndefined)
    curves = [curve for run, steps in life["runs"].items() if (curve := _curve(run, steps))]
    html = pages.get_template("trace.html.j2").render(life=life, curves=curves)
    write_file(file, html.encode("utf-8", "replace"), "the page")


def _curve(run: str, steps: Sequence[Mapping[str, Any]]) -> Figure | None:
    wanted = [("margin", "margin (logit)"), ("loss", "loss of this pair, nats"), ("share", "share of the step's pull")]
    seen = [(name, label) for name, label in wanted if any(step[name] is not None for step in steps)]
    return figures.panels(run, run, CAPTION, steps, seen)
