"""Tie a run directory, a stepper and a checkpoint together: save after a step, resume to the same bytes."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trueup.engine import checkpoint
from trueup.engine.step import Stepper
from trueup.errors import CheckpointError, TrueupError
from trueup.ledger import REWOUND, Position, Run, Stream, StreamError, identity, positions_of, read_run


def resume_from_checkpoint(run: Run, stepper: Stepper) -> dict[str, Any]:
    """Restore the newest checkpoint of ``run`` into ``stepper`` and rewind the logs to it.

    Returns:
        What the recipe stored beside it (see ``saver``), empty for a new run.

    Raises:
        CheckpointError: The checkpoint is damaged or of another run, or a log is not what it counts on.
    """
    snapshot = checkpoint.load(run.path)
    if snapshot is None:
        if (saved := run.saved_step()) is not None:
            raise CheckpointError(
                f"{saved} steps of this run were saved, but there is no checkpoint any more",
                where=str(run.path / "checkpoints"),
                fix="put the checkpoints back, or start anew with --fresh, which moves this directory aside",
            )
        run.rewind(0, {})
        return {}
    name = f"step-{snapshot.step:08d}"
    try:
        positions = _positions(snapshot.state, run.identity)
        stepper.restore(snapshot.tensors, snapshot.state["stepper"])
        extra: dict[str, Any] = snapshot.state["extra"]
        for what, carried in run.carried.items():
            carried.restore(snapshot.state["carried"][what])
        run.rewind(snapshot.step, positions)
    except StreamError as error:
        go_on = f"trueup resume {shlex.quote(str(run.path))} --accept-damaged-logs goes on with the log as it is"
        raise CheckpointError(
            f"{error.what}; checkpoint {name} counts on it", where=error.where, fix=f"{_older(run, name)}; or {go_on}"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, TrueupError):
            raise
        raise CheckpointError(
            f"its state cannot be used: {error!r}", where=str(run.path / "checkpoints" / name), fix=_older(run, name)
        ) from error
    return extra


def saver(run: Run, stepper: Stepper, extra: Callable[[], dict[str, Any]] = dict) -> Callable[[int], None]:
    """A function that checkpoints everything a resume needs; pass it to ``Loop``."""

    def save(done: int) -> None:
        tensors = stepper.tensors()
        if not run.writes:
            return
        try:
            positions = {name: position.to_json() for name, position in run.sync().items()}
        except OSError as error:
            raise checkpoint.write_error(run.path, done, error) from error
        state = {"run": run.identity, "stepper": stepper.state(), "positions": positions, "extra": extra()}
        if run.carried:
            state["carried"] = {what: carried.state() for what, carried in run.carried.items()}
        checkpoint.save(run.path, done, tensors, state)

    return save


def _positions(state: dict[str, Any], run: str) -> dict[str, Position]:
    if state["run"] != run:
        raise CheckpointError(
            f"the checkpoint belongs to another run ({state['run']}, this one is {run})",
            fix="put back the run.json that it was written with, or start anew with --fresh",
        )
    return positions_of(state["positions"], REWOUND)


def _older(run: Run, name: str) -> str:
    """The command that goes on from the newest checkpoint before ``name`` that can be used."""
    usable = [c.name for c in inspect_run(run.path).checkpoints if c.problem is None and c.name < name]
    return checkpoint.command(run.path, usable[-1] if usable else None)


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """One checkpoint and whether a run can go on from it."""

    name: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class RunState:
    """What ``trueup resume --verify`` looked at."""

    path: str
    status: str
    checkpoints: tuple[CheckpointState, ...]
    latest: str | None
    problem: str | None
    """Why the run cannot go on as it is, or None."""
    fix: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    def format_text(self) -> str:
        """For people."""
        lines = [f"{self.path}: {self.status}"]
        for state in self.checkpoints:
            mark = " (latest)" if state.name == self.latest else ""
            lines.append(f"  {state.name}{mark}: {state.problem or 'whole, and the logs are what it counts on'}")
        if not self.checkpoints:
            lines.append("  no checkpoint: the run starts from its beginning")
        return "\n".join(lines)


def inspect_run(path: Path) -> RunState:
    """Check every hash of a run: its checkpoints, and the logs as far as each checkpoint counts on them.

    Nothing is written and nothing locked, so that it works on a read-only disk.

    Raises:
        UsageError, RunError: There is no run, or its run.json is damaged.
    """
    record = read_run(path)
    checkpoints = tuple(
        CheckpointState(name, _problem(path, name, identity(record))) for name in checkpoint.names(path)
    )
    try:
        newest = checkpoint.latest(path)
    except CheckpointError as error:
        return RunState(str(path), record["status"], checkpoints, None, f"{error.where} {error.what}", error.fix)
    problems = {state.name: state.problem for state in checkpoints}
    problem = problems[newest] if newest is not None else None
    usable = [
        state.name for state in checkpoints if state.problem is None and newest is not None and state.name < newest
    ]
    fix = checkpoint.command(path, usable[-1] if usable else None) if problem is not None else None
    return RunState(str(path), record["status"], checkpoints, newest, problem, fix)


def _problem(path: Path, name: str, run: str) -> str | None:
    try:
        snapshot = checkpoint.load(path, name)
        assert snapshot is not None
        for stream, position in _positions(snapshot.state, run).items():
            Stream(path / f"{stream}.jsonl").verify(position)
    except StreamError as error:
        return f"{Path(str(error.where)).name}: {error.what}"
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        return error.what if isinstance(error, CheckpointError) else repr(error)
    return None
