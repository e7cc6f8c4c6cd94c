"""``trueup explore``: runs in a browser, while they train and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueup.commands.options import AskedProject, AskedVotes

if TYPE_CHECKING:
    from trueup.commands.live.desk import Desk
    from trueup.commands.live.runs import Runs
    from trueup.metrics import Metric


def explore(
    runs: Annotated[
        Path | None, typer.Argument(help="A run, or a folder in which runs are looked for.", show_default="runs")
    ] = None,
    tour: Annotated[
        bool, typer.Option("--tour", help="A guided tour of two recorded runs that come with trueup: two minutes.")
    ] = False,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            "--snapshot",
            metavar="FILE.html",
            help="Write one file that opens without a server, and end.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--run", help="A run of the snapshot, by its name in the list; may stand often.")
    ] = None,
    feedback: Annotated[
        str | None,
        typer.Option(
            "--feedback", metavar="FILE.db", help="Alerts get a button that has people of this database judge answers."
        ),
    ] = None,
    project: AskedProject = None,
    votes: AskedVotes = 2,
    control: Annotated[
        bool,
        typer.Option(
            "--control", help="The address that is printed first lets its bearer pause and stop runs that allow it."
        ),
    ] = False,
    token: Annotated[
        bool, typer.Option("--token", help="Reading takes a token too: an address for viewers is printed.")
    ] = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; this computer's own.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8401,
) -> None:
    """Open runs in a browser: reward and KL live on one time axis, every metric, samples step by step, comparisons.

    Example: `trueup explore runs`, while a run in it trains; `trueup explore --tour`, to learn what to look at;
    `trueup explore runs --snapshot runs.html`, to hand it on; `trueup explore runs --control --token`, to pause and
    stop runs that were started with `--set control=true`, and to let in only whom you give a printed address
    """
    from trueup.errors import UsageError
    from trueup.web.explorer.app import serve_explorer

    source = _source(runs, tour=tour)
    source.desk = desk(feedback, project, votes, "trueup explore", make=snapshot is None)
    if snapshot is not None:
        if control or token:
            raise UsageError(
                "a snapshot has no server", where="--control" if control else "--token", fix="leave it out"
            )
        _write_snapshot(source, snapshot, only or [])
        return
    if only:
        raise UsageError("--run chooses what a snapshot holds", where="--run", fix="add --snapshot FILE.html")
    acts = {"asks": feedback is not None, "controls": control, "closed": token}
    serve_explorer(source, means, host, port, **acts, tell=typer.echo)


def _write_snapshot(source: Runs, file: Path, only: list[str]) -> None:
    from trueup.errors import UsageError
    from trueup.ledger import write_file
    from trueup.web.explorer.snapshot import take_snapshot
    from trueup.web.explorer.source import MOST_RUNS

    readable = [run["name"] for run in source.runs() if run["status"] != "unreadable"]
    names = list(dict.fromkeys(only)) or readable
    if not names:
        raise UsageError("there is no run here that can be read", where=str(source.root), expected="a run or more")
    if len(names) > MOST_RUNS:
        raise UsageError(
            f"{len(names)} runs are too many for one file",
            where=str(source.root),
            expected=f"at most {MOST_RUNS}",
            fix="choose with --run NAME, which may stand often",
        )
    taken = take_snapshot(source, means, names)
    write_file(file, taken.page, "the snapshot")
    typer.echo(f"{file}: {', '.join(names)}; {len(taken.page) / 1e6:.1f} MB")
    for note in taken.notes:
        typer.echo(f"  {note}")


def desk(db: str | None, project: str | None, votes: int, actor: str, *, make: bool = True) -> Desk | None:
    """Who asks people about alerts; None without a feedback database. It is made where there is none, unless ``make``
    is False: who only shows what people said makes nothing.

    Raises:
        UsageError: A project without a database, or one that cannot be.
        DataError: The database cannot be used.
    """
    from trueup.errors import UsageError

    if db is None:
        if project is not None:
            raise UsageError("a project of which database?", where="--project", fix="add --feedback FILE.db")
        return None
    from trueup.commands.live.desk import PROJECT, Desk  # loads scipy.stats: 40 MB that a server without it is spared

    asks = Desk(db, PROJECT if project is None else project, votes, actor)
    asks.check(make=make)
    return asks


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
