"""Copies of a run's numbers for other tools, as the process that trains sees them: it starts them and waits for none.

Each mirror is a process of its own, ``trueup mirror``, that reads the run directory. So a mirror that is slow, fails or
hangs costs the training nothing, and one that was killed is caught up with by the same command.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from trueup.errors import UsageError
from trueup.ledger.files import storage_problem
from trueup.ledger.progress import warn

FOLDER = "mirrors"
"""Where they lie in a run directory."""
AFTER_DONE, AFTER_ERROR = 60.0, 5.0
"""Seconds that the end of a command waits for its mirrors: after the run was done, and after it was cut off."""
NICE = 10
"""How far a mirror's process stands back behind the training."""
_KEY = re.compile(r"://[^/]*@|[?&;][^=]*(key|token|password|secret)[^=]*=", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """A tool that can show a mirror."""

    title: str
    module: str
    """What is imported, and what the extra is called."""


TARGETS = {
    "tensorboard": Target("TensorBoard", "tensorboard"),
    "trackio": Target("trackio", "trackio"),
    "wandb": Target("Weights & Biases", "wandb"),
    "mlflow": Target("MLflow", "mlflow"),
}


def holds_key(address: str) -> bool:
    """Whether an address has a password or a key in it, which belongs in the environment."""
    return _KEY.search(address) is not None


def require(target: str, where: str) -> None:
    """Refuse a mirror whose package is not there.

    Args:
        target: One of ``TARGETS``.
        where: The setting or option that asks for it.

    Raises:
        UsageError: It is not installed; says how to install it.
    """
    module = TARGETS[target].module
    spec = find_spec(module)
    if spec is None or spec.origin is None:  # a folder of that name in the working directory is no package
        raise UsageError(f"{module} is not installed", where=where, fix=f"pip install 'trueup[{target}]'")


class Mirrors:
    """The mirrors of one run, which are waited for at the end, for a while. Enter it before the run.

    Args:
        folder: The run directory.
        targets: Their names, each with a place elsewhere or None.
        project: The name that the run is filed under.
        quiet: Only say what went wrong.

    Raises:
        UsageError: The package of one of them is not installed.
    """

    def __init__(self, folder: Path, targets: Mapping[str, str | None], project: str, *, quiet: bool = False) -> None:
        for target in targets:
            require(target, f"log.{target}")
        self._folder, self._targets, self._project, self._quiet = folder, targets, project, quiet
        self._running: dict[str, tuple[subprocess.Popen[str], threading.Thread]] = {}
        self._failed: set[str] = set()

    def __enter__(self) -> Mirrors:
        return self

    def start(self) -> None:
        """Start them; one that cannot be started is said and done without."""
        for target, remote in self._targets.items():
            words = [sys.executable, "-m", "trueup", "mirror", str(self._folder), "--to", target]
            words += ["--project", self._project, *(() if remote is None else ("--remote", remote))]
            try:
                (self._folder / FOLDER).mkdir(exist_ok=True)
                with open(self._log(target), "ab") as log:
                    process = subprocess.Popen(
                        words,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                        start_new_session=True,  # Ctrl-C is for the training; a mirror ends when the run has
                    )
            except OSError as error:
                self._failed.add(target)
                warn(f"the mirror for {TARGETS[target].title} cannot be started: {storage_problem(error)[0]}")
                continue
            with contextlib.suppress(OSError):  # it has ended already, which is said below
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            speaker = threading.Thread(target=self._speak, args=(process,), daemon=True)
            speaker.start()
            self._running[target] = process, speaker

    def _log(self, target: str) -> Path:
        return self._folder / FOLDER / f"{target}.log"

    def _speak(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if not self._quiet or line.startswith("warning: "):
                print(line.rstrip(), file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        until = time.monotonic() + (AFTER_DONE if kind is None else AFTER_ERROR)
        for target, (process, speaker) in self._running.items():
            try:
                code = process.wait(max(0.0, until - time.monotonic()))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                self._say(target, f"is still being written, by process {process.pid}")
                continue
            speaker.join(1.0)
            if code:
                self._say(target, f"is not complete (exit code {code})")
        for target in self._failed:
            self._say(target, "was not written")

    def _say(self, target: str, problem: str) -> None:
        remote = self._targets[target]
        again = f"trueup mirror {self._folder} --to {target}" + ("" if remote is None else f" --remote {remote}")
        warn(
            f"the mirror for {TARGETS[target].title} {problem}; {self._log(target)} has what it said, "
            f"and this writes what is missing: {again}"
        )
