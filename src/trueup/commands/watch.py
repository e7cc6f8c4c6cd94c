"""``trueup watch``: detectors on a run, while it trains or afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trueup.commands.options import AskedProject, AskedVotes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trueup.commands.live.desk import Desk
    from trueup.ledger.alerts import Alert

LOOK_SECONDS = 2.0


def watch(
    run_directory: Annotated[Path, typer.Argument(help="Directory of one run.")],
    once: Annotated[bool, typer.Option("--once", help="Look at what is there, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    feedback: Annotated[
        str | None,
        typer.Option(
            "--feedback", metavar="FILE.db", help="Have people of this database judge answers at each alert, blindly."
        ),
    ] = None,
    project: AskedProject = None,
    votes: AskedVotes = 2,
) -> None:
    """Say when a run goes wrong: KL that runs away, lost entropy, repetition, length, both log-probabilities falling.

    It follows the run until that ends. Exit code 1: an alert was open at the end. With `--feedback` each alert becomes
    blind pairs for people, once: the answers nearest to it against those at the start; what they said is told too.

    Example: `trueup watch runs/ppo || echo look at it`; `trueup watch runs/ppo --feedback feedback.db`
    """
    import json
    import time

    from trueup.commands.explore import desk
    from trueup.commands.live.follow import Followed
    from trueup.ledger import read_run
    from trueup.ledger.alerts import alerts

    read_run(run_directory)  # before a database is made for a run that is not there
    followed = Followed(run_directory)
    room = desk(feedback, project, votes, "trueup watch")
    people = None if room is None else _People(room, run_directory)
    told: dict[tuple[str, int], Alert] = {}
    while True:
        record = read_run(run_directory)  # before the numbers: a run that has ended writes none after that
        origin = followed.refresh().origin
        now = {(alert.rule, alert.step): alert for alert in alerts(followed.metrics, record["config"])}
        for key, alert in now.items():
            if told.get(key) != alert:
                typer.echo(json.dumps(alert.to_dict()) if as_json else _line(alert))
        told, ended = now, once or record["status"] != "running"
        if people is not None:
            for row, line in people.look(list(now.values()), origin, ended=ended):
                typer.echo(json.dumps({"asked": row}) if as_json else line)
        if ended:
            break
        time.sleep(LOOK_SECONDS)
    if followed.left_out:
        typer.echo(f"warning: {followed.left_out} damaged lines are left out", err=True)
    for problem in [] if people is None else people.problems.values():
        typer.echo(f"warning: nobody could be asked: {problem}", err=True)
    if any(alert.until is None for alert in told.values()):
        raise typer.Exit(1)
    if not told and not as_json:
        typer.echo(f"no alert in {followed.metrics.rows} steps; the run is {record['status']}")


class _People:
    """Has people asked about the alerts of a run, and tells what is new of that."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        from trueup.commands.live.samples import Samples

        self._desk, self._name, self._samples = desk, folder.resolve().name, Samples(folder)
        self._told: dict[tuple[str, int], dict[str, Any]] = {}
        self.problems: dict[tuple[str, int], str] = {}
        """By alert: why nobody could be asked about it by now."""

    def look(self, raised: list[Alert], origin: str, *, ended: bool) -> Iterator[tuple[dict[str, Any], str]]:
        """Ask about what was not asked yet; gives what is new, as it is and as a line.

        In a run that goes on, an alert waits for a probe that came after it.
        """
        from trueup.commands.live.desk import said
        from trueup.errors import RunError

        self._samples.refresh()
        for alert in raised:
            key = (alert.rule, alert.step)
            if not ended and key not in self._told and max(self._samples.steps, default=-1) < alert.step:
                continue
            try:
                row = self._desk.ask(self._samples, origin, self._name, alert)
            except RunError as error:
                self.problems[key] = f"{alert.rule} at step {alert.step}: {error}"
                continue
            self.problems.pop(key, None)
            row.pop("new")
            if self._told.get(key) != row:
                self._told[key] = row
                yield row, f"step {alert.step}: {alert.rule}: {said(row)}"


def _line(alert: Alert) -> str:
    ended = "" if alert.until is None else f" (over at step {alert.until})"
    return f"step {alert.step}: {alert.rule}{ended}: {alert.message}"
