"""The run directory: the only interface between training and everything that looks at it.

    runs/<name>/run.json        what was asked, from which inputs, with which reference; status
               metrics.jsonl    one line per step; holds no wall-clock value, so equal runs give equal bytes
               timing.jsonl     seconds and throughput per step, kept apart for the same reason
               samples.jsonl    completions at evaluation steps
               eval.jsonl       held-out measurements
               pairs.jsonl      one line per trained pair and step: its rewards and margin, for ``trueup trace``
               events.jsonl     start, resume, interrupt, alarms
               checkpoints/     see ``engine.checkpoint``

One process writes a run at a time (an advisory file lock that dies with its holder). In a job of several processes
the first one writes and the others follow it.
Readers use ``read_lines``, which never mistakes half a line for a line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

from trueup import __version__
from trueup.errors import Interrupted, RunError, UsageError
from trueup.metrics import METRICS
from trueup.progress import Progress

REWOUND = ("metrics", "timing", "samples", "eval", "pairs")
"""Streams that a resume cuts back to its checkpoint."""

PROBE_SECONDS = 8.0
"""How long a probe goes on with its steps, at least."""
PROBE_OTHERS = 24
"""Further steps of a probe, as far as its time allows: other lengths bring other kernels, which the whole run holds."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Plan(Protocol[T_co]):
    """Batches addressable by step: ``plan[k]`` is the same whether or not steps before it ran.

    A plan that knows which step has the longest batch says so as ``longest``; a probe takes that one too.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, step: int, /) -> T_co: ...


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds all of it or what it held before, even after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sync_folder(path: Path) -> None:
    """Make a rename inside ``path`` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Atomic, readable, key order kept."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_lines(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Whole lines from ``offset`` on, and the offset to go on from. A torn last line is left for later."""
    if not path.exists():
        return [], offset
    with open(path, "rb") as handle:
        handle.seek(offset)
        data = handle.read()
    end = data.rfind(b"\n") + 1
    rows = [json.loads(line) for line in data[:end].splitlines() if line.strip()]
    return rows, offset + end


def read_run(path: str | Path) -> dict[str, Any]:
    """The content of ``run.json``, with a clear error when ``path`` is no run directory."""
    file = Path(path) / "run.json"
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError("not a run directory", where=str(path), expected="a directory with run.json") from error
    except json.JSONDecodeError as error:
        raise RunError(f"run.json is damaged: {error}", where=str(file)) from error
    if not isinstance(loaded, dict):
        raise RunError("run.json is not an object", where=str(file))
    return loaded


def metric_rows(path: str | Path) -> list[dict[str, Any]]:
    """All rows of ``metrics.jsonl`` of a run."""
    return read_lines(Path(path) / "metrics.jsonl")[0]


def _number(value: float) -> float | str:
    """JSON has no NaN; a typed gap (``"nan"``, ``"inf"``) cannot be mistaken for a value."""
    return value if math.isfinite(value) else str(value)


class Run:
    """An open run directory, locked for writing by this process.

    Use ``Run.start``, which creates the directory or resumes what is in it, and as a context manager.
    """

    def __init__(
        self, path: Path, record: dict[str, Any], lock: int | None, quiet: bool, probe: int | None = None
    ) -> None:
        self.path = path
        self.writes = lock is not None
        self.agree: Callable[[float], float] = lambda wish: wish
        self.probe = probe
        self.record = record
        self.quiet = quiet
        self.first_step = 0
        self.headline: tuple[str, ...] = ("loss",)
        self._lock = lock
        self._latest: dict[str, float] = {}
        self._unwritten: dict[str, bytes] = {}
        self._stop: int = 0
        self._step_started = time.perf_counter()

    @classmethod
    def start(
        cls,
        path: str | Path,
        *,
        kind: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        resume: bool = True,
        quiet: bool = False,
        probe: int | None = None,
    ) -> Run:
        """Create a run, or resume the unfinished run of the same kind, config and inputs at ``path``.

        With ``probe`` only that many steps are taken (``indices``), spread over the plan: ``trueup plan`` measures so.

        Raises:
            RunError: another process holds the run, or the directory holds a different run.
        """
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise UsageError("is a file", where=str(folder), expected="a directory for the run")
        existed = (folder / "run.json").exists()
        if folder.exists() and not existed and any(folder.iterdir()) and not (folder / ".lock").exists():
            raise UsageError(
                "the directory is not empty and holds no run", where=str(folder), fix="choose another --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        lock = _take_lock(folder)
        try:
            wanted = {"kind": kind, "config": json.loads(json.dumps(config)), "inputs": dict(inputs)}
            if existed:
                record = read_run(folder)
                _require_same(folder, record, wanted, resume)
            else:
                record = {"trueup": __version__, **wanted, "pinned": {}, "versions": _versions()}
            record["status"] = "running"
            run = cls(folder, record, lock, quiet, probe)
            run._save_record()
            run.event("resume" if existed else "start")
        except BaseException:
            os.close(lock)
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
                self._finish("done")
            elif issubclass(kind, (Interrupted, KeyboardInterrupt)):
                self._finish("interrupted")
            else:
                self._finish("failed", error=str(error))
        finally:
            if self._lock is not None:
                os.close(self._lock)

    def _finish(self, status: str, **facts: Any) -> None:
        self.record["status"] = status
        self.event(status, **facts)
        self._save_record()

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

    def note(self, **facts: Any) -> None:
        """Add facts (parameter count, dataset report) to run.json."""
        self.record.setdefault("facts", {}).update(json.loads(json.dumps(facts)))
        self._save_record()

    def log(self, step: int, *groups: Mapping[str, float], ids: Sequence[str] = ()) -> None:
        """Append one line to metrics.jsonl. Unknown metric names are programming errors and raise."""
        row: dict[str, Any] = {"step": step}
        for group in groups:
            for name, value in group.items():
                if name not in METRICS:
                    raise KeyError(f"metric {name!r} is not in trueup.metrics.METRICS")
                self._latest[name] = float(value)
                row[name] = _number(float(value))
        if ids:
            row["ids"] = list(ids)
        self._append("metrics", row)

    def time(self, step: int, **values: float) -> None:
        """Append seconds since the last call and the given rates to timing.jsonl."""
        now = time.perf_counter()
        row = {"step": step, "seconds": now - self._step_started, **values}
        self._step_started = now
        self._append("timing", row)

    def sample(self, step: int, **row: Any) -> None:
        """Append one completion to samples.jsonl."""
        self._append("samples", {"step": step, **row})

    def pair(self, step: int, pair_id: str, chosen_reward: float, rejected_reward: float) -> None:
        """Append what one training pair's two sides were worth to the model at ``step`` to pairs.jsonl."""
        row = {
            "step": step,
            "pair_id": pair_id,
            "margin": _number(chosen_reward - rejected_reward),
            "chosen_reward": _number(chosen_reward),
            "rejected_reward": _number(rejected_reward),
        }
        self._append("pairs", row)

    def evaluation(self, step: int, **row: Any) -> None:
        """Append one held-out measurement to eval.jsonl."""
        self._append("eval", {"step": step, **row})

    def event(self, name: str, **facts: Any) -> None:
        """Append to events.jsonl, with wall-clock time."""
        self._append("events", {"event": name, "time": time.time(), **facts})

    def _append(self, stream: str, row: Mapping[str, Any]) -> None:
        if not self.writes:
            return
        data = self._unwritten.pop(stream, b"") + (json.dumps(row, ensure_ascii=False) + "\n").encode(
            "utf-8", "surrogatepass"
        )
        try:
            with open(self.path / f"{stream}.jsonl", "ab") as handle:
                handle.write(data)
        except OSError as error:
            # A full disk must not kill a training step; the rows wait and the next append retries.
            first = stream not in self._unwritten
            self._unwritten[stream] = data
            if first:
                print(f"warning: {stream}.jsonl cannot be written ({error}); rows are kept in memory", file=sys.stderr)

    def positions(self) -> dict[str, int]:
        """Byte length of each rewindable stream; stored in a checkpoint."""
        return {s: _size(self.path / f"{s}.jsonl") for s in REWOUND}

    def rewind(self, step: int, positions: Mapping[str, int]) -> None:
        """Cut the streams back to a checkpoint: the steps after it are about to be run again."""
        for stream in REWOUND if self.writes else ():
            file = self.path / f"{stream}.jsonl"
            size = _size(file)
            keep = positions.get(stream, 0)
            if size < keep:
                raise RunError(
                    f"{file.name} has {size} bytes, the checkpoint at step {step} knew {keep}",
                    where=str(file),
                    fix="restore the file, or start a new run directory",
                )
            if file.exists():
                os.truncate(file, keep)
        self.first_step = step
        self.event("rewind", step=step)

    def indices(self, plan: Plan[Any]) -> Sequence[int]:
        """Steps of ``plan`` that this process will take: all that are left, or the probe's, each named once."""
        if self.probe is None or not self.samples(plan):
            return range(self.first_step, len(plan))
        return sorted(spread(len(plan), self.probe) | {getattr(plan, "longest", 0)})

    def others(self, plan: Plan[Any]) -> Sequence[int]:
        """Steps that a probe takes beside ``indices`` if there is time; none in a run."""
        if self.probe is None or not self.samples(plan):
            return ()
        return sorted(spread(len(plan), min(len(plan), self.probe + PROBE_OTHERS)) - set(self.indices(plan)))

    def samples(self, plan: Plan[Any]) -> bool:
        """Whether only some steps of ``plan`` are taken: in a probe, unless it would take most of them anyway."""
        return self.probe is not None and 2 * self.probe < len(plan)

    def _order(self, plan: Plan[Any]) -> Iterator[int]:
        """The steps as they are taken.

        A probe goes over its steps twice, because the first time pays for kernels and pages that the whole run pays
        for once, and goes on for a while with others, because a heap takes time, and kernels of ever other lengths, to
        grow to what it will be. The last step, which measures and saves, comes once.
        """
        steps = self.indices(plan)
        if not self.samples(plan):
            yield from steps
            return
        began = time.perf_counter()
        yield from (*steps[:-1], *steps[:-1])
        more = cycle((*self.others(plan), *steps[:-1]))
        while time.perf_counter() - began < PROBE_SECONDS:
            yield next(more)
        yield steps[-1]

    def steps(self, plan: Plan[T], *, save: Callable[[int], None], save_every: int) -> Iterator[tuple[int, T]]:
        """Yield ``(step, plan[step])`` from the first step not yet done, with progress.

        ``save(done)`` is called every ``save_every`` finished steps and after the last one. The first SIGINT or
        SIGTERM lets the running step finish, saves and raises ``Interrupted``; a second one stops at once.
        """
        total = len(plan)
        with _signals(self), Progress(self.record["kind"], total, self.first_step, quiet=self.quiet) as progress:
            for step in self._order(plan):
                self._step_started = time.perf_counter()
                yield step, plan[step]
                done = step + 1
                progress.update(done, {k: self._latest[k] for k in self.headline if k in self._latest})
                self._stop = int(self.agree(self._stop))
                if done == total or done % save_every == 0 or self._stop:
                    began = time.perf_counter()
                    save(done)
                    self.event("saved", step=done, seconds=time.perf_counter() - began)
                if self._stop and done < total:
                    raise Interrupted(
                        f"interrupted after step {done} of {total}; everything is saved",
                        where=str(self.path),
                        fix="run the same command again to go on from here",
                    )


def spread(total: int, steps: int) -> set[int]:
    """``steps`` of ``total`` steps at even distances, the first and the last among them."""
    return {round((total - 1) / max(1, steps - 1) * i) for i in range(steps)}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _take_lock(folder: Path) -> int:
    try:
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"cannot write here: {error}", where=str(folder), fix="choose another --out") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(handle, 64, 0).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise RunError(
            f"another process (pid {holder}) is writing this run", where=str(folder), fix="wait for it, or stop it"
        ) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def _require_same(folder: Path, record: Mapping[str, Any], wanted: Mapping[str, Any], resume: bool) -> None:
    if not resume:
        raise UsageError("a run is here already", where=str(folder), fix="choose another --out or drop --no-resume")
    changed = [] if record.get("kind") == wanted["kind"] else ["kind"]
    changed += _changed_keys(record.get("inputs", {}), wanted["inputs"], "inputs")
    changed += _changed_keys(record.get("config", {}), wanted["config"], "config")
    if changed:
        raise UsageError(
            f"the run here was started differently: {'; '.join(changed)}",
            where=str(folder),
            fix="use the same settings and inputs to resume, or choose another --out",
        )


def _changed_keys(old: Any, new: Any, prefix: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [c for k in keys for c in _changed_keys(old.get(k), new.get(k), f"{prefix}.{k}")]
    return [] if old == new else [f"{prefix} was {old!r}, now {new!r}"]


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in ("torch", "transformers", "tokenizers", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@contextlib.contextmanager
def _signals(run: Run) -> Iterator[None]:
    """Turn the first SIGINT/SIGTERM into a request; only the main thread may install handlers."""

    def handle(number: int, frame: FrameType | None) -> None:
        run._stop += 1
        if run._stop > 1:
            raise KeyboardInterrupt

    saved: dict[int, Any] = {}
    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        with contextlib.suppress(ValueError):
            saved[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, old in saved.items():
            signal.signal(number, old)
