"""A sweep from plan to page: run what is missing, read what was measured, compare the variants.

out/sweep.jsonl    the hyper-parameter log: a line for each variant and seed
   /report.html    table, figures, conclusion; the same as report.md and summary.json
   /logs           what each stage printed
   /<stage>-<hash> the runs
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.commands.measurements import Results, compare_results, read_results
from trueup.commands.sweep_jobs import FAILED, Ending, run_jobs
from trueup.commands.sweep_pages import sweep_page
from trueup.commands.sweep_plan import Job, SweepPlan, Variant
from trueup.errors import RunError
from trueup.evaluation.variants import Comparison
from trueup.ledger import one_writer, write_atomic
from trueup.reports.page import Written

LOG = "sweep.jsonl"


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep gave."""

    results: tuple[Results, ...]
    comparison: Comparison | None
    written: Written
    failures: tuple[str, ...]

    def require_whole(self) -> None:
        """Refuse to go on where a variant failed.

        Raises:
            RunError: One did.
        """
        if self.failures:
            raise RunError(
                f"{len(self.failures)} stage(s) of the sweep failed: {', '.join(self.failures)}",
                where=str(self.written.html.parent),
                fix="see their logs; the same command runs only what is missing",
            )


def run_sweep(
    plan: SweepPlan, *, jobs: int = 1, fresh: bool = False, tell: Callable[[str], None] = lambda line: None
) -> Sweep:
    """Run what is missing, compare, write the log and the page.

    Args:
        plan: What ``plan_sweep`` made.
        jobs: Stages that run at once.
        fresh: Move runs whose inputs changed aside.
        tell: Gets a line for every stage, the table and the conclusion.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    tell(f"{len(plan.variants)} variants, {len(plan.jobs)} stages to run or to skip")
    with one_writer(plan.out):
        endings = run_jobs(plan.jobs, at_once=jobs, fresh=fresh, tell=tell, logs=plan.out / "logs")
        results = [read_variant(plan, variant, endings) for variant in plan.variants]
        text = "".join(json.dumps(result.to_dict(), ensure_ascii=False) + "\n" for result in results)
        write_atomic(plan.out / LOG, text.encode("utf-8", "surrogatepass"))
        comparison = compare_results(results, plan.baseline, quality=plan.quality)
        written = sweep_page(plan.out, results, comparison, plan.recipe)
    failed = tuple(folder.name for folder, ending in endings.items() if ending.status == FAILED)
    return Sweep(tuple(results), comparison, written, failed)


def read_variant(plan: SweepPlan, variant: Variant, endings: Mapping[Path, Ending]) -> Results:
    """What was measured of one variant and seed."""
    lost = next((endings[job.folder] for job in variant.jobs.values() if endings[job.folder].error), None)
    return read_results(
        variant.name,
        variant.seed,
        {name: job.folder for name, job in variant.jobs.items()},
        kinds={name: job.stage.kind for name, job in variant.jobs.items()},
        settings={**variant.settings, **variant.seeds},
        model=plan.model,
        gold=plan.gold,
        error=_reason(variant.jobs, endings) if lost is not None else None,
    )


def _reason(jobs: Mapping[str, Job], endings: Mapping[Path, Ending]) -> str:
    """Of what went wrong first."""
    name, ending = next(
        (name, endings[job.folder]) for name, job in jobs.items() if endings[job.folder].status == FAILED
    )
    return f"{name}: {ending.error}"


def read_log(out: Path) -> Sequence[dict[str, Any]]:
    """The hyper-parameter log of a sweep.

    Raises:
        RunError: There is none.
    """
    try:
        return [json.loads(line) for line in (out / LOG).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise RunError(f"no {LOG} that can be read: {error}", where=str(out), fix="trueup sweep writes it") from error
