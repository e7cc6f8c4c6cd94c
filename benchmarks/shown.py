"""Numbers and figures as the pages show them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any


def interval(value: Mapping[str, Any], form: str = ".3f") -> str:
    """An estimate with its interval, which is left out where it is not known."""
    if value["low"] is None or value["high"] is None:
        return f"{value['estimate']:{form}}"
    return f"{value['estimate']:{form}} ({value['low']:{form}} to {value['high']:{form}})"


def svg(figure: Any) -> str:
    """A matplotlib figure as SVG, the same bytes for the same figure; on white, since the pages may be dark."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "trueup", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def without_frame(axes: Any) -> None:
    """Take the upper and the right line off."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
