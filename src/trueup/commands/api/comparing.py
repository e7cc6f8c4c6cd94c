"""Runs side by side, sweeps and frontiers from Python: the work of ``trueup compare``, ``sweep`` and ``frontier``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from trueup.commands.api.evaluating import Evaluation
from trueup.commands.api.runs import Run
from trueup.commands.api.stages import located_stages
from trueup.commands.compare_pages import compare_page, compare_sections
from trueup.commands.frontier_data import gather
from trueup.commands.frontier_pages import Frontier, frontier_of
from trueup.commands.measurements import Results, compare_results, known_measurements
from trueup.commands.run_groups import differing, group_runs
from trueup.commands.sweep_plan import plan_sweep, read_sweep
from trueup.commands.sweep_run import Sweep, results_of_sweep, run_sweep
from trueup.config.code import register
from trueup.errors import UsageError, nearest
from trueup.evaluation.variants import Comparison
from trueup.reports.page import Page, ShowsPage

Folder: TypeAlias = str | Path | Run | Evaluation | Sweep
"""A directory, or what stands for one."""
Runs: TypeAlias = Sequence[Folder] | Mapping[str, Folder | Sequence[Folder]]
"""Runs; in a mapping those of one name are repetitions of one."""
Gold: TypeAlias = str | Callable[[str, str], float]
"""The truth: ``sandbox``, ``package.module:function``, or a function of (question, answer)."""


@dataclass(frozen=True, slots=True, repr=False)
class RunComparison(ShowsPage):
    """Runs side by side; in a notebook it shows its page."""

    results: tuple[Results, ...]
    """Of each run."""
    comparison: Comparison | None
    """The runs by the measurement that decides; None where nothing that all measured does."""
    page: Page
    problems: tuple[str, ...]
    """What is damaged in the runs' logs, and which have no results."""

    def __repr__(self) -> str:
        return "\n".join([repr(self.page), *(f"warning: {problem}" for problem in self.problems)])

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Setting -> run -> value, of those in which the runs differ."""
        return differing(self.results)

    def to_dict(self) -> dict[str, Any]:
        """``comparison``, ``runs`` and ``settings``, as ``trueup compare --json`` prints them."""
        return {name: self.page.data[name] for name in ("comparison", "runs", "settings")}


def compare(
    runs: Runs = (),
    *,
    sweep: Folder | None = None,
    evaluations: Sequence[Folder] = (),
    baseline: str | None = None,
    quality: str | None = None,
    gold: Gold | None = None,
    samples: int = 6,
    out: str | Path | None = None,
) -> RunComparison:
    """Runs side by side: quality with intervals, KL, time, memory, steadiness, settings that differ, answers.

    Runs that differ in nothing but their seeds are repetitions of one.

    Args:
        runs: Run directories or ``Run`` objects; a mapping names them.
        sweep: All variants of this sweep instead.
        evaluations: What ``evaluate`` gave, or its folders, in which the runs' models took part.
        baseline: What the others are compared with; the first by default.
        quality: The measurement that decides.
        gold: The truth, where the rows of an evaluation do not hold it.
        samples: Prompts whose answers are shown.
        out: Folder for report.html, report.md and summary.json; nothing is written without it.

    Raises:
        UsageError, RunError, DataError, ConfigError: As the command says.
    """
    if bool(runs) == (sweep is not None):
        raise UsageError("runs or a sweep", where="compare", expected="RUN RUN ..., or --sweep DIR")
    arguments, folders, truth = _arguments(runs), tuple(map(_folder, evaluations)), _truth(gold)
    results = (
        group_runs(arguments, evaluations=folders, gold=truth)
        if sweep is None
        else results_of_sweep(_folder(sweep), truth)
    )
    problems = [problem for result in results for problem in result.problems]
    problems += [f"{r.name}, seed {r.seed}, has no results: {r.error}" for r in results if r.error is not None]
    names = list(dict.fromkeys(result.name for result in results))
    if baseline is not None and baseline not in names:
        raise UsageError(f"no run {baseline!r}", where="--baseline", expected=nearest(baseline, names))
    decides = quality is not None or bool(known_measurements(results))
    comparison = compare_results(results, baseline or names[0], quality=quality) if decides else None
    again = _command(
        "compare", arguments, sweep, folders, {"baseline": baseline, "quality": quality, "gold": truth}, samples, out
    )
    page = compare_page(results, comparison, compare_sections(results, comparison, folders, samples), again)
    if out is not None:
        page.write(Path(out))
    return RunComparison(tuple(results), comparison, page, tuple(dict.fromkeys(problems)))


def sweep(
    recipe: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    jobs: int = 1,
    fresh: bool = False,
    failures: bool = False,
    quiet: bool = False,
) -> Sweep:
    """Run a chain of stages for every choice of settings, and say which choice is better, if any is.

    Stages that do not differ are shared, what is done is skipped, what was cut off is resumed. Each stage runs in a
    process of its own, so code must be ``package.module:name``, or a function or class that a module has.

    Args:
        recipe: A YAML file with ``stages`` and ``sweep``, or the mapping of one. In a mapping, ``data`` may be rows.
        out: Directory of the sweep; by default the recipe's own ``out``, or ``runs/sweep``.
        jobs: Stages that run at once.
        fresh: Move runs whose inputs changed aside, start anew.
        failures: Give back a sweep of which stages failed, with their names in ``failures``, instead of raising.
        quiet: No line for each stage.

    Raises:
        ConfigError: A mistake in the recipe or in any variant; nothing was run.
        RunError: A stage failed; the others were run and the page is written.
    """
    if jobs < 1:
        raise UsageError(f"jobs is {jobs}", where="sweep", expected="at least 1")
    chosen = None if out is None else Path(out)
    if isinstance(recipe, Mapping):
        folder, block = located_stages(recipe, chosen)
        plan = plan_sweep(block, folder, {}, where="sweep")
    else:
        plan = read_sweep(recipe, chosen)
    done = run_sweep(plan, jobs=jobs, fresh=fresh, tell=(lambda line: None) if quiet else print)
    if not failures:
        done.require_whole()
    return done


def frontier(
    runs: Runs = (),
    *,
    sweep: Folder | None = None,
    evaluations: Sequence[Folder] = (),
    gold: Gold | None = None,
    out: str | Path | None = None,
) -> Frontier:
    """Quality and reward over KL: paths along training, evaluations, best-of-n, the front, where gold turns over.

    Args:
        runs: Run directories, ``Run`` objects or evaluations; a mapping names runs.
        sweep: All variants of this sweep, instead or in addition.
        evaluations: Evaluations in which the models of the runs took part.
        gold: The truth; without it the reward alone is shown, and the page says so.
        out: Folder for report.html, report.md and summary.json; nothing is written without it.

    Raises:
        UsageError, RunError, DataError: As the command says.
    """
    if not runs and sweep is None:
        raise UsageError("nothing to draw", where="frontier", expected="RUN ..., or --sweep DIR")
    arguments, folders, truth = _arguments(runs), tuple(map(_folder, evaluations)), _truth(gold)
    tradeoff = gather(arguments, None if sweep is None else _folder(sweep), folders, truth)
    again = _command("frontier", arguments, sweep, folders, {"gold": truth}, None, out)
    drawn = frontier_of(tradeoff, again, judged=truth is not None)
    if out is not None:
        drawn.page.write(Path(out))
    return drawn


def _folder(given: Folder) -> Path:
    if isinstance(given, Sweep):
        return given.written.html.parent
    return given.path if isinstance(given, Run) else given.out if isinstance(given, Evaluation) else Path(given)


def _arguments(runs: Runs) -> list[str]:
    """Runs as the command line names them."""
    if isinstance(runs, (str, Path)):
        raise UsageError(f"{str(runs)!r} is one run", where="runs", expected="a list of runs, or a mapping of names")
    if not isinstance(runs, Mapping):
        return [run if isinstance(run, str) else str(_folder(run)) for run in runs]
    named = [
        (name, [own] if isinstance(own, (str, Path, Run, Evaluation, Sweep)) else own) for name, own in runs.items()
    ]
    if odd := next((name for name, _ in named if not name or "=" in name), None):
        raise UsageError(f"{odd!r} cannot name a run", where="runs", expected="a name without =")
    return [f"{name}={_folder(run)}" for name, several in named for run in several]


def _truth(gold: Gold | None) -> str | None:
    return register(gold) if callable(gold) else gold


def _command(
    name: str,
    arguments: Sequence[str],
    sweep: Folder | None,
    evaluations: Sequence[Path],
    options: Mapping[str, str | None],
    samples: int | None,
    out: str | Path | None,
) -> str:
    """The command that does it again; empty where a function of this process takes part."""
    if any(value is not None and value.startswith("@") for value in options.values()):
        return ""
    words = ["trueup", name, *arguments, *([] if sweep is None else ["--sweep", str(_folder(sweep))])]
    for folder in evaluations:
        words += ["--evaluation", str(folder)]
    for option, value in options.items():
        words += [] if value is None else [f"--{option}", value]
    words += [] if samples in (None, 6) else ["--samples", str(samples)]
    words += [] if out is None else ["--html" if name == "compare" else "--out", str(out)]
    return shlex.join(words)
