"""Stages of the real road, each in a process of its own, so that its minutes and its memory are its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from trueup.commands.stage_kinds import RECORD
from trueup.errors import RunError
from trueup.ledger import read_lines

COSTS = "costs.json"


def run(out: Path, stages: Sequence[dict[str, Any]]) -> dict[str, Path]:
    """Run stages of a recipe in ``out`` one after the other, as ``trueup run`` does; what is done is skipped.

    Args:
        out: Folder of the runs; ``costs.json`` in it says what each stage took when it was run.
        stages: As in a recipe file.

    Returns:
        The run directory of each stage, by name.

    Raises:
        RunError: A stage failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(stages, 1):
        recipe = out / f"{stage['name']}.yaml"
        recipe.write_text(yaml.safe_dump({"out": str(out), "stages": list(stages[:number])}, sort_keys=False))
        command = [sys.executable, "-m", "trueup", "run", str(recipe), "--fresh", "--quiet"]
        run_measured(out, stage["name"], command, of=out / stage["name"])
    return {stage["name"]: out / stage["name"] for stage in stages}


def run_measured(out: Path, name: str, command: Sequence[str], *, of: Path | None = None) -> None:
    """Run a command and note in ``out/costs.json``, under ``name``, what it took.

    Args:
        out: Folder of the runs.
        name: What the command is called.
        command: Program and arguments.
        of: Folder of a stage; where the command left it as it was, what it took earlier stands.

    Raises:
        RunError: The command failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    before = None if of is None else _stamp(of)
    started = time.perf_counter()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RunError(f"{name} failed", where=str(out), fix="the lines above say why; run the same again to go on")
    if of is None or _stamp(of) != before:
        seconds = time.perf_counter() - started
        costs = read_costs(out) | {name: {"minutes": seconds / 60, "gb": usage.ru_maxrss * 1024 / 1e9}}
        (out / COSTS).write_text(json.dumps(costs, indent=2) + "\n")


def read_costs(out: Path) -> dict[str, dict[str, float]]:
    """Minutes and peak memory in GB of each stage that was run in ``out``."""
    file = out / COSTS
    return json.loads(file.read_text()) if file.exists() else {}


def evaluations(run_folder: Path) -> dict[str, Any]:
    """The last line of a run's held-out measurements."""
    return dict(read_lines(run_folder / "eval.jsonl")[0][-1])


def _stamp(folder: Path) -> float | None:
    for file in (folder / "metrics.jsonl", folder / RECORD):  # of training, and of what trains nothing itself
        if file.exists():
            return file.stat().st_mtime
    return None
