"""Curves as SVG: few colours, direct labels, the same look in every report."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]

INK, GREY = "#334155", "#94a3b8"
COLOURS = ("#2563eb", "#d97706", "#059669", "#be185d", "#7c3aed")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: what it shows in words, and its SVG."""

    name: str
    title: str
    caption: str
    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


def steps_and_values(rows: Rows, name: str) -> tuple[list[float], list[float]]:
    """Steps and values of a metric; steps that lack it, or where it is not a number, are left out."""
    points = [(float(r["step"]), float(r[name])) for r in rows if isinstance(r.get(name), int | float)]
    return [s for s, _ in points], [v for _, v in points]


def panels(
    name: str,
    title: str,
    caption: str,
    rows: Rows,
    wanted: Sequence[tuple[str, str]],
    bands: Mapping[str, tuple[float, float]] | None = None,
) -> Figure | None:
    """One panel per metric over a shared step axis; ``bands`` shades a target range. None if nothing was logged."""
    drawn = [(metric, label, *steps_and_values(rows, metric)) for metric, label in wanted]
    drawn = [d for d in drawn if len(d[2]) > 0]
    if not drawn:
        return None
    figure, axes = _canvas(len(drawn))
    for index, (axis, (metric, label, steps, values)) in enumerate(zip(axes, drawn, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        sparse = len(values) < 12
        axis.plot(
            steps, values, color=colour, linewidth=1.0 if not sparse else 1.6, alpha=0.35 if not sparse else 1.0,
            marker="o" if sparse else None, markersize=3,
        )  # fmt: skip
        if not sparse:
            axis.plot(steps, smooth(values), color=colour, linewidth=1.8)
        if bands and metric in bands:
            low, high = bands[metric]
            axis.axhspan(low, high, color=GREY, alpha=0.25, linewidth=0)
            axis.annotate(
                "target", (1.0, high), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8
            )
        axis.set_title(label, loc="left", fontsize=10, color=INK)
    axes[-1].set_xlabel("step", fontsize=9, color=INK)
    return Figure(name, title, caption, _svg(figure))


def intervals(name: str, title: str, caption: str, entries: Sequence[tuple[str, float, float, float]]) -> Figure:
    """Estimates (label, estimate, low, high) as dots with 95 % bars, best read from top to bottom."""
    figure, (axis,) = _canvas(1, height=0.5 + 0.38 * len(entries))
    for index, (label, estimate, low, high) in enumerate(entries):
        colour = COLOURS[index % len(COLOURS)]
        axis.plot([low, high], [-index, -index], color=colour, linewidth=2.5)
        axis.plot([estimate], [-index], "o", color=colour, markersize=6)
        axis.annotate(
            f"{estimate:.3f}", (high, -index), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9
        )
        axis.annotate(label, (0, -index), xytext=(-8, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", va="center", fontsize=9, color=INK)  # fmt: skip
    axis.set_yticks([])
    axis.margins(x=0.15, y=0.25)
    axis.spines["left"].set_visible(False)
    return Figure(name, title, caption, _svg(figure))


@dataclass(frozen=True, slots=True)
class Series:
    """A line or a cloud of points over KL: its points, a band around them, and how it is drawn."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    line: bool = True
    dashed: bool = False


def over_root_kl(
    name: str, title: str, caption: str, parts: Sequence[tuple[str, Sequence[Series]]], marks: Sequence[float] = ()
) -> Figure:
    """Panels (label, series) over KL on a square-root axis, on which a good reward rises in a line.

    Args:
        name, title, caption: Of the figure.
        parts: One panel each, such as gold and proxy.
        marks: KL at which a vertical line is drawn.
    """
    figure, axes = _canvas(len(parts), height=3.0 * len(parts) + 0.4)
    labels = list(dict.fromkeys(series.label for _, several in parts for series in several))
    for axis, (label, several) in zip(axes, parts, strict=True):
        for series in several:
            _draw(axis, series, COLOURS[labels.index(series.label) % len(COLOURS)])
        for mark in marks:
            axis.axvline(mark, color=INK, linewidth=1, linestyle=":")
        axis.set_title(label, loc="left", fontsize=10, color=INK)
        axis.set_xscale("function", functions=(_root, np.square))
        # Sampled KL may be 0 or below near the start; the axis needs a length all the same.
        axis.set_xlim(0, 1.1 * max([1e-3, *(x for _, several in parts for series in several for x in series.x)]))
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles.keys(), fontsize=8, frameon=False, loc="outside lower center", ncols=3, labelcolor=INK
    )
    axes[-1].set_xlabel("KL to the reference, nats per sequence (square-root axis)", fontsize=9, color=INK)
    return Figure(name, title, caption, _svg(figure))


def _draw(axis: Any, series: Series, colour: str) -> None:
    style = "--" if series.dashed else "-"
    axis.plot(
        series.x,
        series.y,
        color=colour,
        linestyle=style if series.line else "none",
        linewidth=1.6,
        marker=None if series.dashed else "o",
        markersize=4,
        label=series.label,
    )
    known = [
        (x, low, high)
        for x, low, high in zip(series.x, series.low, series.high, strict=False)
        if low is not None and high is not None
    ]
    if not known:
        return
    x, low, high = zip(*known, strict=True)
    if series.line:
        axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    else:
        axis.vlines(x, low, high, color=colour, linewidth=1.2, alpha=0.6)


def _root(values: Any) -> Any:
    return np.sqrt(np.maximum(values, 0.0))


def smooth(values: Sequence[float], share: float = 0.12) -> list[float]:
    """Centred running mean over ``share`` of the points."""
    width = max(1, int(len(values) * share) // 2)
    array = np.asarray(values, dtype=np.float64)
    return [float(array[max(0, i - width) : i + width + 1].mean()) for i in range(len(array))]


def _canvas(rows: int, height: float | None = None) -> tuple[Any, Any]:
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(7.2, height or 1.55 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for axis in axes:
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axis.spines[side].set_color(GREY)
        axis.tick_params(colors=INK, labelsize=8)
        axis.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.6)
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib

    buffer = io.StringIO()
    # A fixed salt and no date: the same run gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "trueup", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return re.sub(r'font: ([0-9.]+px) [^;"]*', r"font: \1 sans-serif", text)
