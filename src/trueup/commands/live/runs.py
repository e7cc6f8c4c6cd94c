"""The runs below a folder: which there are, how they stand, and everything the explorer asks of them.

What is asked by name must be in the list that was read from the disk, so that no name leads out of the folder.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueup.commands.live.cursor import Cursor
from trueup.commands.live.follow import News
from trueup.commands.live.normal import planned_steps
from trueup.commands.live.plane import Plane, folders_of
from trueup.commands.live.pool import WRITTEN, Pool, Reading
from trueup.commands.live.samples import Samples
from trueup.commands.live.story import penalty
from trueup.errors import NotHere, RunError, TrueupError, UsageError, nearest
from trueup.ledger import read_run
from trueup.ledger.alerts import target_band
from trueup.ledger.columns import as_json
from trueup.ledger.control import Action, is_allowed, pending, request
from trueup.ledger.files import is_held

if TYPE_CHECKING:
    from trueup.commands.live.desk import Desk

_RESCAN = 2.0
"""Seconds that a list of runs is good for."""
_SILENT, _SILENT_STEPS = 120.0, 10
"""A running run is silent after so many seconds, and so many of its steps, without a line."""


class Runs:
    """The runs below ``root``, which may be a run itself.

    Args:
        root: The folder.
        desk: Asks people about alerts; None where nobody may.
    """

    def __init__(self, root: Path, *, desk: Desk | None = None) -> None:
        if not root.is_dir():
            raise UsageError("there is no such folder", where=str(root), expected="a run, or a folder of runs")
        self.root, self.desk = root, desk
        self._plane = Plane(root)
        self._lock = threading.Lock()
        self._folders: dict[str, Path] = {}
        self._read_at = 0.0
        self._pool = Pool()
        self._records: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}

    def runs(self) -> list[dict[str, Any]]:
        """One line for each run, the one written last first. One that cannot be read says why."""
        lines = [self._line(name, folder) for name, folder in self._scan(fresh=True).items()]
        return sorted(lines, key=lambda line: (-line["written"], line["name"]))

    def describe(self, name: str) -> dict[str, Any]:
        """Record, settings, metrics and verdict of one run."""
        folder, record = self._folder(name), self._record(name)
        opened = self._open(name)
        cursor = opened.followed.refresh()
        defaults = flat(record.get("defaults", {}))
        settings = [
            {"name": key, "value": value, "changed": bool(defaults) and defaults.get(key) != value}
            for key, value in flat(record["config"]).items()
        ]
        return {
            **self._line(name, folder),
            "settings": settings,
            "inputs": record["inputs"],
            "versions": record.get("versions", {}),
            "metrics": [*opened.followed.metrics.names, *opened.followed.timing.names],
            "band": target_band(record["config"]),
            "penalty": penalty(record["config"], opened.followed.metrics),
            "plane": self._plane.of_run(name, folder) if "kl" in opened.followed.metrics.names else None,
            "cursor": str(cursor),
            **self.state(name),
        }

    def state(self, name: str) -> dict[str, Any]:
        """What changes while a run goes on, besides its curves."""
        record = self._record(name)
        stands = self._pool.standing(name, self._folder(name), record)
        line = self._line(name, self._folder(name))
        return {
            "status": line["status"],
            "last_step": stands.last_step,
            "rows": stands.rows,
            "steps": line["steps"],
            "stopped": record.get("facts", {}).get("stopped"),
            "control": self._control(name, record, line["status"]),
            "left_out": stands.left_out,
            "probes": len(stands.probes),
            "trained": stands.trained,
            "verdict": stands.verdict.to_dict(),
            "alerts": [alert.to_dict() for alert in stands.alerts],
            "normal": stands.normal,
            "asked": None if self.desk is None else self.desk.asked(stands.origin, stands.alerts, stands.probes),
        }

    def ask(self, name: str, rule: str, step: int) -> dict[str, Any]:
        """Have people judge the answers at an alert against those at the start.

        Raises:
            NotHere: There is no such alert.
            UsageError: Nobody may ask here.
            RunError: There is nothing to compare.
            DataError: A pair cannot be shown, or the database cannot be used.
        """
        if self.desk is None:
            raise UsageError("nobody can be asked from here", where=name, fix="trueup explore RUNS --feedback FILE.db")
        opened, samples = self._open(name), self.samples(name)
        _, raised = opened.judge(self._record(name)["config"])
        alert = next((one for one in raised if (one.rule, one.step) == (rule, step)), None)
        if alert is None:
            known = ", ".join(f"{one.rule} at step {one.step}" for one in raised) or "none in this run"
            raise NotHere(f"there is no alert {rule!r} at step {step}", where=name, expected=known)
        return self.desk.ask(samples, opened.followed.refresh().origin, name, alert)

    def control(self, name: str, action: Action, role: str) -> dict[str, Any]:
        """Ask the process that trains a run to pause or to stop it after its running step; see ``ledger.control``."""
        return request(self._folder(name), action, asker(role)).to_dict()

    def series(
        self, name: str, metrics: Sequence[str], points: int, first: int | None = None, last: int | None = None
    ) -> dict[str, Any]:
        """Steps and values of metrics, decimated, and the cursor from which to go on."""
        followed = self._open(name).followed
        cursor = followed.refresh()
        known = [*followed.metrics.names, *followed.timing.names]
        series = {}
        for metric in metrics or known:
            columns = followed.metrics if metric in followed.metrics.names else followed.timing
            steps, values = columns.decimate(metric, points, first, last)
            series[metric] = {"steps": steps, "values": [as_json(value) for value in values]}
        return {"cursor": str(cursor), "series": series, "last_step": followed.metrics.last_step}

    def news(self, name: str, cursor: str | None) -> News:
        """Rows after a cursor."""
        return self._open(name).followed.news(None if cursor is None else Cursor.parse(cursor))

    def samples(self, name: str, of: str = "probes") -> Samples:
        """The samples of a run, or some answers that it learned from (``training``), up to date."""
        opened = self._open(name)
        samples = opened.trained if of == "training" else opened.samples
        samples.refresh()
        return samples

    def tour(self) -> dict[str, Any] | None:
        """What a guided tour says of these runs; None where there is none."""
        return None

    def differences(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Settings and inputs that are not the same in all of the runs: name, and one value for each run."""
        records = [self._record(name) for name in names]
        rows = [flat({"kind": r["kind"], **r["config"], "inputs": r["inputs"]}) for r in records]
        keys = list(dict.fromkeys(key for row in rows for key in row))
        listed = [{"name": key, "values": [row.get(key) for row in rows]} for key in keys]
        return [row for row in listed if any(value != row["values"][0] for value in row["values"][1:])]

    def _control(self, name: str, record: Mapping[str, Any], status: str) -> dict[str, Any]:
        """Whether others may pause and stop a run, whether anybody is there to do it, what was asked of it, and by whom
        it is paused now."""
        folder = self._folder(name)
        trains = status in ("running", "silent")
        asked = pending(folder) if trains else None
        return {
            "allowed": is_allowed(record),
            "held": trains and _is_held(folder),
            "asked": None if asked is None else asked.to_dict(),
            "paused": record.get("facts", {}).get("paused") if status == "interrupted" else None,
            "resume": f"trueup resume {shlex.quote(str(folder))}",
        }

    def _scan(self, *, fresh: bool = False) -> dict[str, Path]:
        with self._lock:
            if not self._folders or fresh or time.monotonic() - self._read_at > _RESCAN:
                self._folders = find_runs(self.root)
                self._read_at = time.monotonic()
            return dict(self._folders)

    def _folder(self, name: str) -> Path:
        folder = self._scan().get(name)
        if folder is None:
            raise NotHere(f"there is no run {name!r}", where=str(self.root), expected=nearest(name, self._folders))
        return folder

    def _open(self, name: str) -> Reading:
        return self._pool.reading(name, self._folder(name))

    def _record(self, name: str) -> dict[str, Any]:
        """``run.json``, read again when it was written again."""
        folder = self._folder(name)
        try:
            status = (folder / "run.json").stat()
        except OSError as error:
            raise RunError("run.json is gone", where=str(folder)) from error
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._records.get(name)
        if known is None or known[0] != stamp:
            known = self._records[name] = (stamp, read_run(folder))
        return known[1]

    def _line(self, name: str, folder: Path) -> dict[str, Any]:
        written = _written(folder)
        line: dict[str, Any] = {"name": name, "written": written, "kind": "", "problem": None}
        try:
            record = self._record(name)
        except TrueupError as error:
            return line | {"status": "unreadable", "problem": str(error), "steps": None}
        return line | {
            "kind": record["kind"],
            "steps": planned_steps(record),
            "status": _status(record["status"], written, self._pool.pace(name)),
        }


def asker(role: str) -> str:
    """Who asks something of a run: who runs this process, where, and as what they came to the page."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no name for the number of this user
        user = f"user {os.getuid()}"
    return f"{user} on {socket.gethostname()} ({role} of the explorer)"


def find_runs(root: Path) -> dict[str, Path]:
    """Runs below a folder by name: the path from there, in text that can be shown."""
    runs = {}
    for folder, files in folders_of(root):
        if "run.json" in files:
            name = folder.name or str(folder) if folder == root else folder.relative_to(root).as_posix()
            if folder == root and not name:
                name = str(folder.resolve().name)
            runs[os.fsencode(name).decode("utf-8", "replace")] = folder
    return runs


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names."""
    pairs: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            pairs |= flat(value, f"{prefix}{key}.")
        else:
            pairs[f"{prefix}{key}"] = value
    return pairs


def _written(folder: Path) -> float:
    """When the run was last written, in seconds since 1970."""
    times = [0.0]
    for name in WRITTEN:
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times)


def _is_held(folder: Path) -> bool:
    """Whether a process trains the run; so it is taken to be where the file system cannot tell."""
    try:
        return is_held(folder)
    except RunError:
        return True


def _status(status: str, written: float, pace: float | None) -> str:
    """The run's own word; ``silent`` where it says running and has not written for long."""
    if status != "running":
        return status
    allowed = max(_SILENT, _SILENT_STEPS * (pace or 0.0))
    return "silent" if time.time() - written > allowed else "running"
