"""``trueup plan``: what a recipe will cost in time and memory, measured by taking a few of its real steps.

Each stage runs in a process of its own, with its real data and model, for a few steps spread evenly over the whole
run and for the one with the longest batch, into a temporary directory; later stages start from the weights that these
few steps made. Every step is taken twice, since the first time also pays for kernels and pages; then, for some seconds,
others follow, since a heap and the kernels for ever other lengths take time to grow. Time is then extrapolated, memory
is the peak that was seen. Nothing is estimated from formulas, so nothing needs to be known about the model or the
machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from trueup.commands import stage_kinds
from trueup.commands.pipeline import Stage, read_recipe, referring, resolve_stage, run_stage
from trueup.commands.restart import restore, training_environment
from trueup.engine.probe import sample_distance, spread
from trueup.errors import RunError
from trueup.ledger import read_lines, read_run, write_json
from trueup.ledger.progress import duration

PROBE_STEPS = 8


@dataclass(frozen=True, slots=True)
class Cost:
    """What one stage will take. Seconds are wall time on this machine as it is now; memory is the process's peak."""

    stage: str
    kind: str
    steps: int
    step_seconds: float
    once_seconds: float
    """Start-up, reading, rendering, reference pass, evaluations, checkpoints and export together."""
    peak_gb: float

    @property
    def seconds(self) -> float:
        """The whole stage."""
        return self.once_seconds + self.steps * self.step_seconds

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self) | {"seconds": self.seconds}


def plan(recipe: Path, *, steps: int = PROBE_STEPS, tell: Callable[[str], None] = lambda line: None) -> list[Cost]:
    """Measure every stage of ``recipe``.

    Raises:
        RunError: A stage fails; its own error is shown. Better now than in an hour.
    """
    _, stages = read_recipe(recipe)
    return measure(stages, steps=steps, tell=tell)


def measure(
    stages: list[Stage], *, steps: int = PROBE_STEPS, tell: Callable[[str], None] = lambda line: None
) -> list[Cost]:
    """The cost of each stage, in order."""
    costs = []
    with tempfile.TemporaryDirectory(prefix="trueup-plan-") as folder:
        done: dict[str, Path] = {}
        for stage in stages:
            if stage.kind in ("import", "curate"):  # they make what later stages read, in moments
                run_stage(stage, referring(done, stage.name), Path(folder) / stage.name)
                done[stage.name] = Path(folder) / stage.name
                continue
            if stage.kind in (*stage_kinds.KINDS, "sweep"):
                tell(f"{stage.name}: {stage.kind} is not measured")
                if stage.kind == "constitution":
                    done[stage.name] = _as_if_done(stage, done, Path(folder))
                continue
            _convert_models(stage)
            tell(f"{stage.name}: taking {steps} of its steps")
            costs.append(_probe(stage, done, Path(folder), steps))
            done[stage.name] = Path(folder) / stage.name
    return costs


def _as_if_done(stage: Stage, done: Mapping[str, Path], folder: Path) -> Path:
    """A directory that gives the model which the rounds start from: what comes after them costs the same from it."""
    from trueup.commands.constitution_settings import SANDBOX, Constitutional
    from trueup.sandbox import copy_base

    config = resolve_stage(stage, referring(done, stage.name))
    assert isinstance(config, Constitutional)
    own = folder / stage.name
    own.mkdir()
    start = str(copy_base(own / "base")) if config.model.name == SANDBOX else config.model.name
    write_json(own / stage_kinds.RECORD, {"kind": stage.kind, "result": start})
    return own


def _convert_models(stage: Stage) -> None:
    """Convert what a stage names as a GGUF file, so that neither time nor memory of that is taken for the stage's."""
    from trueup.models.gguf import gguf_of
    from trueup.models.gguf_cache import converted

    model = stage.settings.get("model")
    names = [model.get("name") if isinstance(model, Mapping) else model, stage.settings.get("reference")]
    for name in names:
        if isinstance(name, str) and name and (file := gguf_of(name)) is not None:
            converted(file)


def _probe(stage: Stage, done: dict[str, Path], folder: Path, steps: int) -> Cost:
    out = folder / stage.name
    task = {
        "stage": {"name": stage.name, "kind": stage.kind, "settings": stage.settings},
        "done": {name: str(path) for name, path in done.items()},
        "out": str(out),
        "steps": steps,
    }
    began = time.perf_counter()
    code = "import sys; from trueup.commands.costs import _child; _child(sys.stdin.read())"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
        env=training_environment(os.environ),
    )
    wall = time.perf_counter() - began
    lines = [line for line in ran.stdout.splitlines() if line.startswith("PEAK ")]
    if ran.returncode or not lines:
        raise RunError(f"the stage cannot run: {ran.stderr.strip()[-2000:]}", where=f"stage {stage.name}")
    return _extrapolate(stage, out, steps, wall, float(lines[-1].split()[1]))


def _child(text: str) -> None:
    """Run in the measuring process: one stage, a few steps, then its peak memory on standard output."""
    from trueup.engine.device import peak_memory
    from trueup.recipes.registry import execute

    restore()
    task = json.loads(text)
    stage = Stage(**task["stage"])
    done = {name: Path(path) for name, path in task["done"].items()}
    config = resolve_stage(stage, referring(done, stage.name))
    execute(stage.kind, config, task["out"], quiet=True, probe=task["steps"])
    print(f"PEAK {peak_memory() / 2**30}")


def _extrapolate(stage: Stage, out: Path, steps: int, wall: float, peak_gb: float) -> Cost:
    """From the steps that were taken to all of them.

    What a step takes is the mean of the evenly spread ones, without their first times, where they measured nothing.
    """
    record = read_run(out)
    total = int(record["facts"]["steps"])
    times: dict[int, list[float]] = {}
    for row in read_lines(out / "timing.jsonl")[0]:
        times.setdefault(int(row["step"]), []).append(float(row["seconds"]))
    if len(times) == total:
        typical = mean(seconds[-1] for seconds in times.values())
        return Cost(stage.name, stage.kind, total, typical, wall - total * typical, peak_gb)
    events, _ = read_lines(out / "events.jsonl")
    saves = [float(e["seconds"]) for e in events if e["event"] == "saved"]
    config = record["config"]
    evaluating, probing = _evaluating(config, total), _probing(config, total)
    again = {step: median(later) for step, (_, *later) in times.items() if later}
    fair = spread(total, steps) & set(again)
    typical = mean(again[step] for step in (fair - evaluating - probing or fair))
    extra = {step: max(0.0, times[step][-1] - typical) for step in times}
    probe = mean([extra[step] for step in probing - evaluating if step in extra] or [0.0])
    shared = {step: probe if step in probing else 0.0 for step in evaluating}
    evaluation = mean([max(0.0, extra[step] - shared[step]) for step in evaluating if step in extra] or [0.0])
    first_time = sum(max(0.0, times[step][0] - seconds) for step, seconds in again.items())
    once = wall - sum(sum(seconds) for seconds in times.values()) - sum(saves) + first_time
    once += probe * len(probing) + evaluation * len(evaluating)
    once += mean(saves or [0.0]) * -(-total // int(config["save_every"]))
    for event in events:
        if event["event"] == "reference":  # of the probe's pairs only
            whole = float(record["facts"].get("reference_tokens", event["tokens"]))
            once += float(event["seconds"]) * (whole / float(event["tokens"]) - 1.0)
    return Cost(stage.name, stage.kind, total, typical, once, peak_gb)


def _evaluating(config: dict[str, Any], total: int) -> set[int]:
    """Steps that also measure held-out data."""
    if not config.get("validation"):
        return set()
    every = int(config["evaluate_every"])
    return {*range(every - 1, total, every), total - 1}


def _probing(config: dict[str, Any], total: int) -> set[int]:
    """Steps that also write samples."""
    if not config.get("probes"):
        return set()
    return {*range(0, total, sample_distance(config["probe_every"], total)), total - 1}


def table(costs: list[Cost]) -> str:
    """The plan for people."""
    width = max(5, *(len(c.stage) for c in costs))
    lines = [f"{'stage':<{width}}  {'steps':>7}  {'s/step':>8}  {'time':>9}  {'memory':>8}"]
    lines += [
        f"{c.stage:<{width}}  {c.steps:>7}  {c.step_seconds:>8.3f}  {duration(c.seconds):>9}  {c.peak_gb:>5.1f} GB"
        for c in costs
    ]
    total, most = sum(c.seconds for c in costs), max(c.peak_gb for c in costs)
    lines.append(f"{'all':<{width}}  {'':>7}  {'':>8}  {duration(total):>9}  {most:>5.1f} GB")
    return "\n".join(lines)
