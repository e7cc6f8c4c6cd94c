"""A sweep from plan to page: run what is missing, read what was measured, compare the variants.

out/sweep.jsonl    the hyper-parameter log: a line for each variant and seed
   /report.html    table, figures, conclusion; the same as report.md and summary.json
   /logs           what each stage printed
   /<stage>-<hash> the runs
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
from trueup.reports.page import Page, ShowsPage, Written

LOG = "sweep.jsonl"


@dataclass(frozen=True, slots=True, repr=False)
class Sweep(ShowsPage):
    """What a sweep gave; in a notebook it shows its page."""

    results: tuple[Results, ...]
    """Of each variant and seed, in the order of the recipe."""
    comparison: Comparison | None
    """The variants by the measurement that decides; None where none was finished."""
    page: Page
    written: Written
    """Its files in the sweep's folder."""
    failures: tuple[str, ...]
    """Directories of the stages that failed."""

    def rows(self) -> list[dict[str, Any]]:
        """The hyper-parameter log: a row for each variant and seed, as in ``sweep.jsonl``."""
        return [result.to_dict() for result in self.results]

    def to_dict(self) -> dict[str, Any]:
        """As in ``summary.json``."""
        return dict(self.page.data)

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
        tell: Gets a line for every stage.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    tell(f"{len(plan.variants)} variants, {len(plan.jobs)} stages to run or to skip")
    with one_writer(plan.out):
        endings = run_jobs(plan.jobs, at_once=jobs, fresh=fresh, tell=tell, logs=plan.out / "logs")
        results = [read_variant(plan, variant, endings) for variant in plan.variants]
        log = [_line(plan, variant, result) for variant, result in zip(plan.variants, results, strict=True)]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in log)
        write_atomic(plan.out / LOG, text.encode("utf-8", "surrogatepass"))
        comparison = compare_results(results, plan.baseline, quality=plan.quality)
        again = ["trueup", "sweep", plan.recipe, "--out", str(plan.out)] if plan.recipe else []
        page = sweep_page(plan.out.name, results, comparison, again)
        written = page.write(plan.out)
    failed = tuple(folder.name for folder, ending in endings.items() if ending.status == FAILED)
    return Sweep(tuple(results), comparison, page, written, failed)


def _line(plan: SweepPlan, variant: Variant, result: Results) -> dict[str, Any]:
    kinds = {name: job.stage.kind for name, job in variant.jobs.items()}
    return {**result.to_dict(), "kinds": kinds, "model": plan.model, "gold": plan.gold}


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


def results_of_sweep(out: Path, gold: str | None = None) -> list[Results]:
    """What the variants of a sweep measured, read anew from their runs.

    Args:
        out: Directory of the sweep.
        gold: The truth, where the rows do not hold it.

    Raises:
        RunError: There is no log of a sweep.
    """
    file = out / LOG
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        kept = [(line["variant"], line["seed"], line["runs"], line["kinds"], line["settings"], line) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"no log of a sweep: {error}", where=str(file), fix="trueup sweep writes it") from error
    return [
        read_results(
            name,
            seed,
            {stage: Path(folder) for stage, folder in runs.items()},
            kinds=kinds,
            settings=settings,
            model=line.get("model"),
            gold=gold or line.get("gold"),
            error=line.get("error"),
        )
        for name, seed, runs, kinds, settings, line in kept
    ]
