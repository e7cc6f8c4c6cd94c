"""``trueup explore``: runs in a browser, while they train and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trueup.commands.live.runs import Runs
    from trueup.metrics import Metric


def explore(
    runs: Annotated[
        Path | None, typer.Argument(help="A run, or a folder in which runs are looked for.", show_default="runs")
    ] = None,
    tour: Annotated[
        bool, typer.Option("--tour", help="A guided tour of two recorded runs that come with trueup: two minutes.")
    ] = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; this computer's own.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8401,
) -> None:
    """Open runs in a browser: reward and KL live on one time axis, every metric, samples step by step, comparisons.

    Example: `trueup explore runs`, while a run in it trains; `trueup explore --tour`, to learn what to look at
    """
    from trueup.web.explorer.app import serve_explorer

    serve_explorer(_source(runs, tour=tour), means, host, port, tell=typer.echo)


def _source(runs: Path | None, *, tour: bool) -> Runs:
    from trueup.commands.live.runs import Runs
    from trueup.commands.live.tour import TourRuns
    from trueup.errors import UsageError

    if not tour:
        return Runs(Path("runs") if runs is None else runs)
    if runs is not None:
        raise UsageError(
            f"--tour shows runs of its own, not {runs}",
            where="trueup explore",
            fix=f"trueup explore --tour, or trueup explore {runs}",
        )
    return TourRuns()


def means(name: str) -> Metric | None:
    """What a metric is, also of those that ``timing.jsonl`` measures; None where this installation does not know."""
    from trueup.metrics import Metric, metric_of

    if name == "gold":  # no run logs it: whoever knows the truth adds it afterwards
        return Metric(
            "True quality of the answers to the fixed prompts, known in the sandbox alone; training never saw it",
            "mean over the fixed prompts, measured afterwards",
            "gold",
            "up",
        )
    if name == "seconds":
        return Metric("Time that the step took", "clock, without saving", "s", "down")
    counted, rate, _ = name.partition("_per_second")
    if rate:
        return Metric(f"{counted.capitalize()} that a second of the step got through", "count / seconds", "1/s", "up")
    return metric_of(name)
