"""``trueup watch``: detectors on a run, while it trains or afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trueup.ledger.alerts import Alert

LOOK_SECONDS = 2.0


def watch(
    run_directory: Annotated[Path, typer.Argument(help="Directory of one run.")],
    once: Annotated[bool, typer.Option("--once", help="Look at what is there, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Say when a run goes wrong: KL that runs away, lost entropy, repetition, length, both log-probabilities falling.

    It follows the run until that ends. Exit code 1: an alert was open at the end.

    Example: `trueup watch runs/ppo || echo look at it`
    """
    import json
    import time

    from trueup.commands.live.follow import Followed
    from trueup.ledger import read_run
    from trueup.ledger.alerts import alerts

    followed = Followed(run_directory)
    told: dict[tuple[str, int], Alert] = {}
    while True:
        record = read_run(run_directory)  # before the numbers: a run that has ended writes none after that
        followed.refresh()
        now = {(alert.rule, alert.step): alert for alert in alerts(followed.metrics, record["config"])}
        for key, alert in now.items():
            if told.get(key) != alert:
                typer.echo(json.dumps(alert.to_dict()) if as_json else _line(alert))
        told = now
        if once or record["status"] != "running":
            break
        time.sleep(LOOK_SECONDS)
    if followed.left_out:
        typer.echo(f"warning: {followed.left_out} damaged lines are left out", err=True)
    if any(alert.until is None for alert in told.values()):
        raise typer.Exit(1)
    if not told and not as_json:
        typer.echo(f"no alert in {followed.metrics.rows} steps; the run is {record['status']}")


def _line(alert: Alert) -> str:
    ended = "" if alert.until is None else f" (over at step {alert.until})"
    return f"step {alert.step}: {alert.rule}{ended}: {alert.message}"
