"""A run that is being written: one process appends, saves and says how it ended.

In a job of several processes the first one writes and the others follow it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from trueup.errors import Interrupted, RunError, UsageError
from trueup.ledger.control import CONTROL
from trueup.ledger.files import (
    Lock,
    clear_leftovers,
    storage_error,
    storage_problem,
    sync_folder,
    sync_tree,
    write_json,
)
from trueup.ledger.record import changes, identity, read_run, refusal, version_changes, versions, work_done
from trueup.ledger.streams import Damage, Position, Stream, StreamError, read_lines
from trueup.metrics import metric_of

REWOUND = ("metrics", "timing", "samples", "rollouts", "eval", "pairs")
"""Streams that a resume cuts back to its checkpoint."""


def metric_rows(path: str | Path, *, damaged: list[Damage] | None = None) -> list[dict[str, Any]]:
    """All rows of ``metrics.jsonl`` of a run; see ``read_lines`` for ``damaged``."""
    return read_lines(Path(path) / "metrics.jsonl", damaged=damaged)[0]


def _number(value: float) -> float | str:
    """JSON has no NaN; a typed gap (``"nan"``, ``"inf"``) cannot be mistaken for a value."""
    return value if math.isfinite(value) else str(value)


class Carried(Protocol):
    """What has a state that a resumed run goes on with."""

    def state(self) -> dict[str, Any]:
        """The state, in JSON form."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` gave."""


class Run:
    """An open run directory, locked for writing by this process.

    Use ``Run.start``, which creates the directory or resumes what is in it, and as a context manager.

    ``first_step`` is the first step that the logs do not have, ``latest`` the last value of each metric that was
    logged. ``probe`` and ``quiet`` are what was asked for; the loop of ``engine.loop`` goes by them.
    """

    def __init__(
        self, path: Path, record: dict[str, Any], lock: Lock | None, quiet: bool, probe: int | None = None
    ) -> None:
        self.path = path
        self.writes = lock is not None
        self.probe = probe
        self.accept_damage = False
        self.record = record
        self.quiet = quiet
        self.first_step = 0
        self._lock = lock
        self.latest: dict[str, float] = {}
        self.carried: dict[str, Carried] = {}
        self._streams = {name: Stream(path / f"{name}.jsonl") for name in (*REWOUND, "events")}

    @classmethod
    def start(
        cls,
        path: str | Path,
        *,
        kind: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        defaults: Mapping[str, Any] | None = None,
        resume: bool = True,
        quiet: bool = False,
        probe: int | None = None,
    ) -> Run:
        """Create a run, or resume the unfinished run of the same kind, config and inputs at ``path``.

        A run that never took a step holds nothing that could be lost: with other settings it is started anew, and
        that is said. ``defaults`` are what the settings would be if nobody had set any; a report compares with them.
        With ``probe`` only that many steps are to be taken (``engine.probe``): ``trueup plan`` measures so.

        Raises:
            UsageError: The directory holds a different run, or no run but files.
            RunError: Another process holds the run, run.json is missing or damaged, or the disk refuses.
        """
        folder = Path(path)
        lock = _enter(folder)
        try:
            _require_layout(folder)
            clear_leftovers(folder)
            void = (folder / CONTROL).exists()  # it was meant for a process that is gone
            (folder / CONTROL).unlink(missing_ok=True)
            wanted = {"kind": kind, "config": config, "inputs": inputs, "defaults": defaults or {}}
            wanted = json.loads(json.dumps(wanted))
            old = _record_to_resume(folder, wanted, resume)
            record = old or {**wanted, "pinned": {}, "versions": versions()}
            run = cls(folder, record | {"status": "running"}, lock, quiet, probe)
            run._save_record()
            run._say_versions(resumed=old is not None)
            if void:
                run.event("control_void")
        except OSError as error:
            lock.release()
            raise storage_error(error, "the run cannot be started", folder) from error
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def follow(cls, path: str | Path, *, probe: int | None = None) -> Run:
        """The same run as another process of the job sees it: it computes along and writes nothing."""
        return cls(Path(path), read_run(path), None, True, probe)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self._finish()
            elif issubclass(kind, (Interrupted, KeyboardInterrupt)):
                self._leave("interrupted")
                if self.writes and issubclass(kind, KeyboardInterrupt):
                    print(
                        f"{self.path}: stopped at once; the same command goes on from what was saved", file=sys.stderr
                    )
            else:
                self._leave("failed", error=str(error))
        finally:
            if self._lock is not None:
                self._lock.release()

    def _finish(self) -> None:
        """Say that the run is done, once everything it wrote is safe."""
        if not self.writes:
            return
        try:
            self.sync()
            sync_tree(self.path / "final")
        except OSError as error:
            waiting = {s.path.name: s.waiting for s in self._streams.values() if s.waiting}
            rows = (
                f"; not written: {', '.join(f'{n} rows of {name}' for name, n in waiting.items())}" if waiting else ""
            )
            failure = storage_error(error, f"all steps are done, but the disk did not take everything{rows}", self.path)
            self._leave("failed", error=str(failure))
            raise failure from error
        self.record["status"] = "done"
        self.event("done")
        try:
            self._streams["events"].sync()
            self._save_record()
        except OSError as error:
            raise storage_error(error, "all steps are done, but run.json cannot be written", self.path) from error

    def _leave(self, status: str, **facts: Any) -> None:
        """Write down how the run ended, as far as the disk allows: another error is already on its way."""
        self.record["status"] = status
        self.event(status, **facts)
        try:
            self._save_record()
        except OSError as error:
            print(f"warning: run.json does not say {status!r}: {storage_problem(error)[0]}", file=sys.stderr)

    def _say_versions(self, *, resumed: bool) -> None:
        """One line where the rest of a run comes from other versions than its beginning."""
        changed = version_changes(self.record) if resumed else []
        facts: dict[str, Any] = {"versions": versions()} if changed else {}
        self.event("resume" if resumed else "start", **facts)
        if changed:
            line = f"note: this run was started with {'; '.join(changed)}: the rest may differ in the last digits"
            print(line, file=sys.stderr)

    @property
    def kind(self) -> str:
        """Name of the method."""
        return str(self.record["kind"])

    @property
    def identity(self) -> str:
        """Hash of kind, settings and inputs; a checkpoint of another run has another one."""
        return identity(self.record)

    def _save_record(self) -> None:
        if self.writes:
            write_json(self.path / "run.json", self.record)

    def fingerprint(self, name: str) -> str | None:
        """The fingerprint pinned under ``name`` (``reference``), or None in a new run."""
        value = self.record["pinned"].get(name)
        return str(value) if value is not None else None

    def pin(self, name: str, fingerprint: str) -> None:
        """Fix an identity for the life of the run; a different one later is an error, never a silent swap."""
        known = self.fingerprint(name)
        if known is not None and known != fingerprint:
            raise RunError(
                f"{name} changed: this run was started with {known}, now {fingerprint}",
                where=str(self.path),
                fix=f"restore the original {name}, or start a new run directory",
            )
        self.record["pinned"][name] = fingerprint
        self._save_record()

    def carry(self, name: str, carried: Carried) -> None:
        """Make what outlives a step in ``carried`` a part of every checkpoint, whatever the recipe."""
        self.carried[name] = carried

    def note(self, **facts: Any) -> None:
        """Add facts (parameter count, dataset report) to run.json."""
        self.record.setdefault("facts", {}).update(json.loads(json.dumps(facts)))
        self._save_record()

    def log(self, step: int, *groups: Mapping[str, float], ids: Sequence[str] = (), keys: Sequence[str] = ()) -> None:
        """Append one line to metrics.jsonl. Unknown metric names are programming errors and raise.

        ``ids`` are what the data calls the step's examples, ``keys`` the hashes of their content; keys that are the
        ids are not written twice.
        """
        row: dict[str, Any] = {"step": step}
        for group in groups:
            for name, value in group.items():
                if metric_of(name) is None:
                    raise KeyError(f"metric {name!r} is not in trueup.metrics.METRICS")
                self.latest[name] = float(value)
                row[name] = _number(float(value))
        if ids:
            row["ids"] = list(ids)
        if keys and list(keys) != list(ids):
            row["keys"] = list(keys)
        self._append("metrics", row)

    def time(self, step: int, seconds: float, **rates: float) -> None:
        """Append what ``step`` took, and how much it did in that time, to timing.jsonl."""
        self._append("timing", {"step": step, "seconds": seconds, **rates})

    def sample(self, step: int, **row: Any) -> None:
        """Append one completion to samples.jsonl."""
        self._append("samples", {"step": step, **row})

    def rollout(self, step: int, **row: Any) -> None:
        """Append one answer that ``step`` learned from to rollouts.jsonl."""
        self._append("rollouts", {"step": step, **row})

    def pair(self, step: int, pair_id: str, chosen_reward: float, rejected_reward: float, *, key: str = "") -> None:
        """Append what one training pair's two sides were worth to the model at ``step`` to pairs.jsonl.

        ``pair_id`` is what the data calls it; ``key``, the hash of its content, is written where it is another.
        """
        row = {
            "step": step,
            "pair_id": pair_id,
            **({"key": key} if key and key != pair_id else {}),
            "margin": _number(chosen_reward - rejected_reward),
            "chosen_reward": _number(chosen_reward),
            "rejected_reward": _number(rejected_reward),
        }
        self._append("pairs", row)

    def response(self, step: int, key: str, desirable: bool, reward: float) -> None:
        """Append what one labelled response was worth to the model at ``step`` to pairs.jsonl; ``key`` is its hash."""
        self._append("pairs", {"step": step, "key": key, "desirable": desirable, "reward": _number(reward)})

    def evaluation(self, step: int, **row: Any) -> None:
        """Append one held-out measurement to eval.jsonl."""
        self._append("eval", {"step": step, **row})

    def event(self, name: str, **facts: Any) -> None:
        """Append to events.jsonl, with wall-clock time."""
        self._append("events", {"event": name, "time": time.time(), **facts})

    def _append(self, stream: str, row: Mapping[str, Any]) -> None:
        if self.writes:
            self._streams[stream].append(row)

    def sync(self) -> dict[str, Position]:
        """Make every row that was logged durable. Returns how far each rewindable stream goes, for a checkpoint.

        Raises:
            OSError: The disk refuses; the rows stay in memory.
        """
        positions = {name: stream.sync() for name, stream in self._streams.items()}
        sync_folder(self.path)
        return {name: positions[name] for name in REWOUND}

    def rewind(self, step: int, positions: Mapping[str, Position]) -> None:
        """Cut the streams back to a checkpoint: the steps after it are about to be run again.

        Raises:
            StreamError: A stream does not begin with what the checkpoint knew; then nothing is cut. With
                ``accept_damage`` such a stream is said, written down and gone on with.
        """
        if self.writes:
            for name, position in positions.items():
                try:
                    self._streams[name].verify(position)
                except StreamError as error:
                    if not self.accept_damage:
                        raise
                    self.event("damage_accepted", stream=name, problem=error.what)
                    print(f"warning: {error.where}: {error.what}; it is gone on with", file=sys.stderr)
            for name in REWOUND:
                self._streams[name].cut(positions.get(name))
        self.first_step = step
        self.event("rewind", step=step)

    def saved_step(self) -> int | None:
        """The last step after which a checkpoint was saved, as events.jsonl tells; None if there was none."""
        events, _ = read_lines(self.path / "events.jsonl", damaged=[])
        steps = [event["step"] for event in events if event.get("event") == "saved" and "step" in event]
        return steps[-1] if steps else None


def _enter(folder: Path) -> Lock:
    """The lock of a directory that is there afterwards, and holds a run of ours or nothing."""
    if folder.exists() and not folder.is_dir():
        raise UsageError("is a file", where=str(folder), expected="a directory for the run")
    try:
        if folder.is_dir() and not any((folder / n).exists() for n in ("run.json", ".lock")) and any(folder.iterdir()):
            if work_done(folder):
                raise _no_record(folder)
            raise UsageError(
                "the directory is not empty and holds no run", where=str(folder), fix="choose another --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise storage_error(error, "the run's directory cannot be made", folder) from error
    return Lock(folder)


def _require_layout(folder: Path) -> None:
    """Refuse now what would be refused when the first checkpoint or the model is written."""
    for name in (*(f"{stream}.jsonl" for stream in (*REWOUND, "events")), "run.json"):
        if (folder / name).is_dir():
            raise RunError("is a directory", where=str(folder / name), expected="a file", fix="move it away")
    for name in ("checkpoints", "cache", "final", "adapter"):
        if (folder / name).exists() and not (folder / name).is_dir():
            raise RunError("is a file", where=str(folder / name), expected="a directory", fix="move it away")


def _record_to_resume(folder: Path, wanted: Mapping[str, Any], resume: bool) -> dict[str, Any] | None:
    """run.json of the run to go on with, or None where one begins."""
    file, steps = folder / "run.json", work_done(folder)
    if not file.exists():
        if steps:
            raise _no_record(folder)
        return None
    if not resume:
        raise UsageError("a run is here already", where=str(folder), fix="choose another --out or drop --no-resume")
    record = read_run(folder)
    differences = changes(record, wanted)
    if not differences:
        return record
    if steps or record["status"] == "done":
        raise refusal(folder, differences)
    print(f"{folder}: the run here never took a step; started anew: {'; '.join(differences)}", file=sys.stderr)
    return None


def _no_record(folder: Path) -> RunError:
    return RunError(
        f"run.json is missing, though {work_done(folder)} of a run is here: nobody can tell its settings",
        where=str(folder),
        fix="restore run.json from a copy, or start anew with --fresh, which moves this directory aside",
    )
