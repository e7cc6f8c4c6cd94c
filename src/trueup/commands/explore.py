"""``trueup explore``: runs in a browser, while they train and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explore(
    runs: Annotated[Path, typer.Argument(help="A run, or a folder in which runs are looked for.")] = Path("runs"),
    host: Annotated[str, typer.Option("--host", help="Address to listen on; this computer's own.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8401,
) -> None:
    """Open runs in a browser: reward and KL live on one time axis, every metric, samples step by step, comparisons.

    Example: `trueup explore runs`, while a run in it trains
    """
    from trueup.metrics import METRICS
    from trueup.reports.live.runs import Runs
    from trueup.web.explorer.app import serve_explorer

    serve_explorer(Runs(runs), METRICS.get, host, port, tell=typer.echo)
