"""How close ``trueup plan`` comes: the plan of a recipe beside what the same recipe then took, stage by stage.

python -m benchmarks.plan_check --out runs/plan     # a third of the quickstart; about five minutes on two cores
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trueup.commands.costs import measure
from trueup.commands.restart import restart
from trueup.commands.sandbox_recipe import Size, stages
from trueup.commands.walkthrough import write_world

RESULTS = Path("benchmarks/results/plan.json")
SIZE = Size(corpus=30_000, demonstrations=3_000, pairs=6_000, held_out_pairs=800, ppo_steps=30)


def main() -> None:
    """Plan, run, compare, write JSON."""
    restart(any_program=True)  # as the command does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/plan"))
    args = parser.parse_args()
    world = write_world(args.out / "data", 0, SIZE, from_scratch=True)
    recipe = stages(world["files"], 0, SIZE, from_scratch=True)
    planned = measure(recipe, tell=print)
    done: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for stage, cost in zip(recipe, planned, strict=True):
        out = args.out / stage.name
        task = {"stage": asdict(stage), "done": done, "out": str(out), "steps": None}
        began = time.perf_counter()
        code = "import sys; from trueup.commands.costs import _child; _child(sys.stdin.read())"
        ran = subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(task), capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - began
        if ran.returncode:
            raise SystemExit(ran.stderr[-3000:])
        peak = float(next(line for line in ran.stdout.splitlines() if line.startswith("PEAK ")).split()[1])
        done[stage.name] = str(out)
        rows.append(
            {
                "stage": stage.name,
                "steps": cost.steps,
                "planned_seconds": cost.seconds,
                "seconds": seconds,
                "planned_gb": cost.peak_gb,
                "gb": peak,
            }
        )
        print(rows[-1], flush=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
