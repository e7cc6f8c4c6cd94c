"""Runs the stages of a sweep, each in a process of its own, several at once, and says which of them failed.

A process of its own, because the peak of its memory is then the stage's, and because one that is killed takes nothing
with it. A child reads from standard input until that ends: when the sweep itself is killed, the child stops as after
Ctrl-C, with everything saved, instead of going on unseen.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from trueup.commands.pipeline import Stage, is_unchanged, referring, run_stage
from trueup.commands.restart import restore, training_environment
from trueup.commands.sweep_plan import Job
from trueup.errors import TrueupError

DONE, SKIPPED, FAILED, BLOCKED = "done", "unchanged", "failed", "not run"
SHOWN = 1500
"""Characters of an error that are shown; all of it stands in the stage's log."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stage ended."""

    status: str
    seconds: float
    error: str = ""


def run_jobs(
    jobs: Sequence[Job], *, at_once: int, fresh: bool, tell: Callable[[str], None], logs: Path
) -> dict[Path, Ending]:
    """Run every job after those that it needs, ``at_once`` of them together; a failed one stops only what needs it.

    Args:
        jobs: Each after those that it needs.
        at_once: Processes.
        fresh: Move runs whose settings or inputs changed aside.
        tell: Gets a line for every stage.
        logs: Folder for what the stages print.

    Returns:
        How each ended, by its directory.
    """
    logs.mkdir(parents=True, exist_ok=True)
    endings: dict[Path, Ending] = {}
    waiting, running = list(jobs), dict[Future[Ending], Job]()
    children = _Children()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            while waiting or running:
                for job in [job for job in waiting if _is_ready(job, waiting, running)]:
                    if len(running) == at_once:
                        break
                    waiting.remove(job)
                    lost = [name for name, folder in job.needs.items() if _is_lost(endings.get(folder))]
                    if lost:
                        endings[job.folder] = Ending(BLOCKED, 0.0, f"{lost[0]} failed")
                        tell(_line(job, endings[job.folder], len(endings), len(jobs)))
                        continue
                    if _is_unchanged(job):
                        endings[job.folder] = Ending(SKIPPED, 0.0)
                        tell(_line(job, endings[job.folder], len(endings), len(jobs)))
                        continue
                    running[pool.submit(_run, job, at_once, fresh, logs, children)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                    job = running.pop(future)
                    endings[job.folder] = future.result()
                    tell(_line(job, endings[job.folder], len(endings), len(jobs)))
        except BaseException:
            children.stop()
            raise
    return endings


def _is_ready(job: Job, waiting: Sequence[Job], running: dict[Future[Ending], Job]) -> bool:
    busy = {other.folder for other in (*waiting, *running.values())}
    return not busy & set(job.needs.values())


def _is_unchanged(job: Job) -> bool:
    try:
        return is_unchanged(job.stage, referring(job.needs, job.stage.name), job.folder)
    except TrueupError:
        return False  # the stage says it itself, and fails alone


def _is_lost(ending: Ending | None) -> bool:
    return ending is not None and ending.status in (FAILED, BLOCKED)


def _line(job: Job, ending: Ending, number: int, total: int) -> str:
    place = f"{number}/{total} {job.folder.name}"
    if ending.status == SKIPPED:
        return f"{place}: unchanged, skipped"
    if ending.status == FAILED:
        return f"{place}: FAILED after {ending.seconds:.0f} s: {ending.error}"
    if ending.status == BLOCKED:
        return f"{place}: not run, because {ending.error}"
    return f"{place}: done in {ending.seconds:.0f} s"


class _Children:
    """The processes that are running, so that all of them can be asked to stop."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    @contextlib.contextmanager
    def running(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Hold ``process`` for as long as it runs."""
        with self._lock:
            self._processes.add(process)
            if self._stopped:
                process.terminate()
        try:
            yield
        finally:
            with self._lock:
                self._processes.discard(process)

    def stop(self) -> None:
        """Ask all to finish their step, save and end; those that come later too."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.terminate()


def _run(job: Job, at_once: int, fresh: bool, logs: Path, children: _Children) -> Ending:
    task = {
        "stage": {"name": job.stage.name, "kind": job.stage.kind, "settings": job.stage.settings},
        "needs": {name: str(folder) for name, folder in job.needs.items()},
        "folder": str(job.folder),
        "fresh": fresh,
    }
    environment = training_environment(os.environ)
    if at_once > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))
    code = "from trueup.commands.sweep_jobs import child; child()"
    log = logs / f"{job.folder.name}.log"
    started = time.perf_counter()
    with (
        open(log, "w", encoding="utf-8") as output,
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches it once, from us
        ) as process,
        children.running(process),
    ):
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it says in its log why it did not read
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        code_returned = process.wait()
    seconds = time.perf_counter() - started
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    if code_returned == 0:
        return Ending(DONE, seconds)
    if code_returned < 0:
        text = f"{text}\nkilled by signal {-code_returned}".strip()
    return Ending(FAILED, seconds, f"{text[-SHOWN:] or f'exit code {code_returned}'} (log: {log})")


def child() -> None:
    """Run in the process of a stage: read what is to be done, do it, say so; end when standard input does."""
    restore()
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    stage = Stage(**task["stage"])
    needs = {name: Path(folder) for name, folder in task["needs"].items()}
    try:
        fresh, refer = bool(task["fresh"]), referring(needs, stage.name)
        run_stage(stage, refer, Path(task["folder"]), fresh=fresh, quiet=True, tell=print)
    except TrueupError as error:
        print(f"error: {error}")
        sys.exit(error.exit_code)


def _end_with_parent() -> None:
    # The descriptor itself: a thread that waits inside sys.stdin holds a lock that the interpreter needs to end.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # not SIGINT: jobs in the background ignore it
