"""What is normal: small clean runs of each kind in the sandbox, and the ranges in which their metrics lie.

python -m benchmarks.bands --out runs/bands
python -m benchmarks.bands --kinds sft reward dpo dpo-nll kto --runs runs/methods/seed-*/*/

Each seed is another world, with judgments, models and draws of its own. What is done is skipped, so an interrupted
measurement goes on. ``--runs`` takes finished runs besides those, as of ``benchmarks.methods``; ``--seeds`` without a
number trains none. A run that raised an alert is not clean. The explorer draws the ranges behind its curves; decision
37 says why they are as they are.

In each fifth of a run a metric goes from its p05 to its p95, smoothed. Between runs those two are taken as normal, so
the range goes from the lower end of the 95 % prediction interval for the p05 of a new run to the upper end for its p95,
with one spread between runs for all fifths; and never less far than in the runs themselves. The lowest and the highest
of three runs alone would leave half of all new runs outside.

N  values of one metric    R  runs    P  parts of a run
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from benchmarks.methods import followed
from benchmarks.mixed_reward import write_data
from trueup import __version__
from trueup.commands.live.normal import PARTS, WEIGHT, comparable, planned_steps, share_done
from trueup.commands.pipeline import Stage, run_stages
from trueup.errors import RunError
from trueup.ledger import read_lines, read_run
from trueup.ledger.alerts import alerts
from trueup.ledger.columns import Columns
from trueup.metrics import BANDS, COMPARABLE, kind_of_bands

DEMONSTRATIONS, PAIRS = 1_280, 960
ANSWERS, STEPS = 32, 40
"""A step of an online method draws so many answers; an online run takes so many steps."""
FIXED = {"kind": "fixed", "beta": 0.05}
ONLINE: dict[str, dict[str, Any]] = {
    "ppo": {"epochs": 2, "mini_batches": 2, "kl": FIXED},
    "rloo": {"answers": 4, "kl": FIXED, "kl_place": "reward"},
    "grpo": {"answers": 4, "mini_batches": 2},
}
"""PPO and GRPO with two updates of each batch at least: with one, every ratio of new to old is 1."""
PREFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "dpo": ("dpo", {"objective": {"kind": "dpo", "beta": 0.1}}),
    "dpo-nll": ("dpo", {"objective": {"kind": "dpo-nll", "beta": 0.1, "nll_weight": 1.0}}),
    "kto": ("kto", {"beta": 0.1, "batch": {"size": 64, "max_length": 160}}),
}


KINDS = ("sft", "reward", *PREFERENCES, *ONLINE)
QUANTILES = (0.05, 0.95)
LEAST = 3
"""Runs that a range rests on at least."""
STILL = 1e-6
"""A metric that moves by no more than this in all runs of a kind is constant there by what the method is."""
DIGITS = 3
"""Significant digits of an end of a range; the lower one is rounded down, the upper one up."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clean:
    """What one clean run says of its metrics."""

    kind: str
    steps: int
    spread: Mapping[str, Floats]
    """Metric -> p05 and p95 [2, P] of the parts of the run; NaN for a part without values."""


def main() -> None:
    """Train what is not there yet, measure, and write ``src/trueup/bands.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bands"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=KINDS, help="What is trained of them.")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="Finished clean runs, besides those.")
    args = parser.parse_args()
    folders, world = list(args.runs), hashlib.sha256()
    for seed in args.seeds:
        files = write_data(args.out / f"data-{seed}", seed, DEMONSTRATIONS, PAIRS, 1)
        for name in ("demonstrations", "pairs", "prompts"):
            world.update(Path(files[name]).read_bytes())
        asked = [stage for stage in stages(files, seed) if stage.name in {"sft", "reward", *args.kinds}]
        runs = run_stages(args.out / f"seed-{seed}", asked, fresh=True, tell=print)
        folders += [runs[name] for name in args.kinds]
    measured = {
        "command": command(args),
        "simulated": True,
        "version": __version__,
        "world": world.hexdigest()[:16] if args.seeds else None,
        "seeds": args.seeds,
        "runs": ["/".join(folder.parts[-3:]) for folder in args.runs],
        "smoothing": WEIGHT,
        "quantiles": QUANTILES,
        "kinds": measure([read_clean(folder) for folder in folders]),
    }
    text = json.dumps(measured, indent=1)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)  # a list is a line
    BANDS.write_text(text + "\n", encoding="utf-8")
    for kind, one in measured["kinds"].items():
        print(f"{kind}: {one['runs']} runs, {sum(one['steps'])} steps, {len(one['metrics'])} metrics")


def command(args: argparse.Namespace) -> str:
    """The command that measures the same again."""
    parts = [f"--seeds {' '.join(map(str, args.seeds))}".strip()]
    parts += [f"--kinds {' '.join(args.kinds)}"] if args.seeds and tuple(args.kinds) != KINDS else []
    parts += ["--runs ..."] if args.runs else []
    return " ".join(["python -m benchmarks.bands", *parts])


def stages(files: dict[str, str], seed: int) -> list[Stage]:
    """A clean run of each kind, all from one SFT model."""
    learn = {"learning_rate": 1e-3, "weight_decay": 0.01}
    shared = {"batch": {"size": 32, "max_length": 160}, "seed": seed, "probes": 0}
    pairs = {"data": files["pairs"], "validation": files["held_out_pairs"]} | shared
    base = {"model": {"name": files["base"]}}
    return [
        Stage("sft", "sft", {"data": files["demonstrations"], "epochs": 1, "optim": learn} | base | shared),
        Stage(
            "reward",
            "reward",
            pairs | base | {"epochs": 2, "evaluate_every": 20, "optim": learn | {"weight_decay": 0.1}},
        ),
        *(_preferences(name, pairs) for name in PREFERENCES),
        *(_online(name, files, shared) for name in ONLINE),
    ]


def _preferences(name: str, pairs: dict[str, Any]) -> Stage:
    kind, settings = PREFERENCES[name]
    start = {"model": {"name": "@sft"}, "epochs": 1, "evaluate_every": 10, "optim": {"learning_rate": 3e-4}}
    return Stage(name, kind, pairs | start | settings)


def _online(name: str, files: dict[str, str], shared: dict[str, Any]) -> Stage:
    return Stage(name, name, shared | followed(files, STEPS, 5e-4, ANSWERS) | ONLINE[name])


def read_clean(folder: Path) -> Clean:
    """A finished run without an alert.

    Raises:
        RunError: It is not finished, raised an alert, or does not say how many steps it took.
    """
    record, columns = read_run(folder), Columns()
    for row in read_lines(folder / "metrics.jsonl")[0]:
        columns.append(row)
    steps = planned_steps(record)
    if record["status"] != "done" or not steps:
        raise RunError(f"the run is {record['status']}", where=str(folder), expected="a finished run")
    raised = alerts(columns, record["config"])
    if raised:
        said = f"{raised[0].rule} at step {raised[0].step}"
        raise RunError(
            f"the run raised an alert: {said}", where=str(folder), expected="a clean run", fix="leave it out"
        )
    logged = {name: spread(columns, name, steps) for name in columns.names if name in COMPARABLE}
    return Clean(
        kind_of_bands(record["kind"], record["config"]),
        steps,
        {name: ends for name, ends in logged.items() if ends is not None},
    )


def spread(columns: Columns, name: str, steps: int) -> Floats | None:
    """p05 and p95 [2, P] of a metric in each part of a run; None where it cannot be compared."""
    curve = comparable(columns, name)
    if curve is None:
        return None
    at, values, _ = curve
    part_N = np.minimum((share_done(at, steps) * PARTS).astype(int), PARTS - 1)
    ends = np.full((2, PARTS), np.nan)
    for part in set(part_N.tolist()):
        ends[:, part] = np.quantile(values[part_N == part], QUANTILES)
    return ends


def measure(runs: Sequence[Clean]) -> dict[str, Any]:
    """Of each kind with enough runs: their steps, and the range of each metric that all of them have and that moves.

    Raises:
        RunError: No kind has enough runs.
    """
    of_kind: dict[str, list[Clean]] = defaultdict(list)
    for run in runs:
        of_kind[run.kind].append(run)
    measured = {}
    for kind, group in sorted(of_kind.items()):
        names = [name for name in COMPARABLE if all(name in run.spread for run in group)]
        if len(group) >= LEAST and names:
            spreads = {name: np.stack([run.spread[name] for run in group]) for name in names}
            metrics = {
                name: range_of(name, ends)
                for name, ends in spreads.items()
                if np.nanmax(ends) - np.nanmin(ends) > STILL
            }
            measured[kind] = {"runs": len(group), "steps": [run.steps for run in group], "metrics": metrics}
    if not measured:
        counts = ", ".join(f"{kind}: {len(group)}" for kind, group in of_kind.items()) or "none"
        raise RunError(f"too few runs: {counts}", where="--runs", expected=f"{LEAST} or more of a kind")
    return measured


def range_of(name: str, ends_R2P: Floats) -> dict[str, list[float]]:
    """The range of a metric by parts of a run, from p05 and p95 of each run; see above."""
    known = ~np.isnan(ends_R2P).any(axis=(0, 1))
    parts, (low_RP, high_RP) = np.flatnonzero(known), (ends_R2P[:, 0, known], ends_R2P[:, 1, known])
    count = len(ends_R2P)
    reach = float(student.ppf(0.975, count - 1)) * math.sqrt(1 + 1 / count)
    low, high = (
        values.mean(axis=0) + side * reach * math.sqrt(values.var(axis=0, ddof=1).mean())
        for values, side in ((low_RP, -1), (high_RP, 1))
    )
    low, high = np.minimum(low, low_RP.min(axis=0)), np.maximum(high, high_RP.max(axis=0))
    rule = COMPARABLE[name]
    low = np.clip(low, rule.lowest, rule.highest) if rule.odd != "high" else np.full_like(low, rule.lowest)
    high = np.clip(high, rule.lowest, rule.highest) if rule.odd != "low" else np.full_like(high, rule.highest)
    every = np.arange(PARTS)
    return {
        "low": [rounded(value, math.floor) for value in np.interp(every, parts, low)],
        "high": [rounded(value, math.ceil) for value in np.interp(every, parts, high)],
    }


def rounded(value: float, way: Any) -> float:
    """A number in few digits, rounded down or up."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1)
    return float(f"{way(round(value / unit, 6)) * unit:.{DIGITS}g}")


if __name__ == "__main__":
    main()
