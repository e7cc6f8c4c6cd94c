"""What ``trueup frontier`` draws, gathered from runs, from the variants of a sweep, and from evaluations.

Shapes: S seeds, K points along training, P prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as Folder
from typing import Any

import numpy as np

from trueup.commands.measurements import Results, gold_of, probe_lines, with_gold
from trueup.commands.run_groups import group_runs
from trueup.commands.sweep_run import results_of_sweep
from trueup.errors import UsageError
from trueup.evaluation.crossed import cells, crossed_mean
from trueup.evaluation.intervals import Interval
from trueup.evaluation.rows import Row, column, models, of_model, read_rows
from trueup.evaluation.tradeoff import BestOfN, Path, Point, best_of, reference_of
from trueup.reports.build import evaluated_as
from trueup.reports.logs import RunLog, read_log

BINS = 12
"""Points of a path without probes: means over equal parts of the run."""


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """Everything that is drawn."""

    paths: tuple[Path, ...]
    """Along training."""
    ends: tuple[Point, ...]
    """Of evaluations, one a variant, with 95 % intervals."""
    gains: Mapping[str, tuple[tuple[float, float], ...]]
    """Of evaluations: variant -> KL and gain of gold over the reference, one a seed."""
    best: tuple[BestOfN, ...]
    """Of the reference's own answers."""
    notes: tuple[str, ...]


def gather(arguments: Sequence[str], sweep: Folder | None, evaluations: Sequence[Folder], gold: str | None) -> Tradeoff:
    """Read everything that is to be drawn.

    Args:
        arguments: Runs (``RUN`` or ``NAME=RUN``) and folders of evaluations.
        sweep: Directory of a sweep, instead or in addition.
        evaluations: Folders of evaluations in which the models of the runs took part.
        gold: The truth: ``sandbox`` or ``package.module:function``.

    Raises:
        UsageError: There is nothing to draw.
    """
    alone = [
        Folder(a) for a in arguments if (Folder(a) / "eval.jsonl").exists() and not (Folder(a) / "run.json").exists()
    ]
    runs = [a for a in arguments if Folder(a) not in alone]
    if evaluations and not runs:
        raise UsageError(
            "there are no runs that it measured", where="--evaluation", fix="give it as an argument instead"
        )
    results = results_of_sweep(sweep, gold) if sweep else []
    results += group_runs(runs, evaluations=evaluations, gold=gold) if runs else []
    whole = [result for result in results if result.error is None]
    notes = [f"{r.name}, seed {r.seed}, has no results: it failed." for r in results if r.error is not None]
    paths = []
    for name in dict.fromkeys(result.name for result in whole):
        own = [r.folders[r.last] for r in whole if r.name == name and r.last is not None]
        path, said = path_of(name, own, gold)
        paths += [path] if path is not None else []
        notes += said
    ends, gains, best = ends_of(whole), dict[str, list[tuple[float, float]]](), list[BestOfN]()
    for result in whole:
        if result.evaluation is None:
            continue
        rows = with_gold(read_rows(result.evaluation / "eval.jsonl"), gold)
        model = evaluated_as(result.folders[result.last], result.evaluation, rows) if result.last else models(rows)[-1]
        gained = gain(rows, model) if model in models(rows) else None
        gains.setdefault(result.name, []).extend([gained] if gained else [])
        best = best or best_of(rows)
        start = reference_of(rows)
        if start is not None and start not in {point.name for point in ends}:
            ends.insert(0, _of_rows(start, of_model(rows, start)))
    for folder in alone:
        rows = with_gold(read_rows(folder / "eval.jsonl"), gold)
        ends += row_points(rows, str(folder / "eval.jsonl"))
        for model in models(rows):
            gained = gain(rows, model)
            gains.setdefault(model, []).extend([gained] if gained else [])
        best = best or best_of(rows)
    if not paths and not ends and not best:
        where = "trueup frontier"
        what = " ".join(["nothing has KL and reward;", *notes]) if notes else "nothing has KL and reward"
        raise UsageError(what, where=where, expected="runs of an online method, or evaluations")
    return Tradeoff(tuple(paths), tuple(ends), {k: tuple(v) for k, v in gains.items() if v}, tuple(best), tuple(notes))


def path_of(name: str, runs: Sequence[Folder], gold: str | None) -> tuple[Path | None, list[str]]:
    """A variant along training, from its runs; None where they log no score and KL; and what was left out."""
    judge = gold_of(gold)
    logs = {folder: read_log(folder) for folder in runs}
    tracks = [track for folder, log in logs.items() if (track := _track(folder, log, judge)) is not None]
    notes = [problem for log in logs.values() for problem in log.problems]
    if gaps := sum(map(_gaps, logs.values())):
        notes.append(f"{name}: at {gaps} steps the KL or the score is no number; they are no points.")
    if not tracks:
        return None, notes
    steps = sorted(set.intersection(*(set(track) for track in tracks)))
    widths = {len(track[step][1]) for track in tracks for step in steps}
    if len(widths) > 1:
        return None, [*notes, f"{name}: its seeds were not asked the same number of prompts; no path is drawn."]
    if len(tracks) < len(runs):
        notes.append(f"{name}: {len(runs) - len(tracks)} of its runs log no score and KL.")
    if lost := max(len(track) for track in tracks) - len(steps):
        notes.append(f"{name}: {lost} steps that not all seeds have are left out.")
    if not steps:
        return None, [*notes, f"{name}: no step has a point of every seed; no path is drawn."]
    kl_SK = np.array([[track[step][0] for step in steps] for track in tracks])
    proxy_SKP = np.array([[track[step][1] for step in steps] for track in tracks])
    known = judge is not None and all(track[step][2] is not None for track in tracks for step in steps)
    gold_SKP = np.array([[track[step][2] for step in steps] for track in tracks], dtype=np.float64) if known else None
    return Path(name, tuple(steps), kl_SK, proxy_SKP, gold_SKP), notes


Track = dict[int, tuple[float, list[float], list[float] | None]]
"""Step -> KL, proxy by prompt, gold by prompt."""


def _track(folder: Folder, log: RunLog, judge: Any) -> Track | None:
    kl = {int(row["step"]): float(row["kl"]) for row in log.metrics if isinstance(row.get("kl"), int | float)}
    lines = probe_lines(folder)
    if kl and lines:
        by_step: dict[int, list[dict[str, Any]]] = {}
        for line in lines:
            by_step.setdefault(int(line["step"]), []).append(line)
        # A prompt whose answer could not be scored at some step is left out at all of them.
        unscored = {i for own in by_step.values() for i, line in enumerate(own) if line["score"] is None}
        by_step = {step: [line for i, line in enumerate(own) if i not in unscored] for step, own in by_step.items()}
        if not all(by_step.values()):
            return None
        return {
            # Probes are answered after the update of their step: the KL is that of the next step's rollouts, and after
            # the last step nobody measured it.
            step: (
                kl[step + 1],
                [float(line["score"]) for line in own],
                [judge(line["question"], line["completion"]) for line in own] if judge else None,
            )
            for step, own in by_step.items()
            if step + 1 in kl
        }
    scores = {int(row["step"]): float(row["score"]) for row in log.metrics if isinstance(row.get("score"), int | float)}
    both = [(step, kl[step], score) for step, score in scores.items() if step in kl]
    if not both:
        return None
    parts = np.array_split(np.array(both), min(BINS, len(both)))
    return {int(part[-1, 0]): (float(part[:, 1].mean()), [float(part[:, 2].mean())], None) for part in parts}


def _gaps(log: RunLog) -> int:
    """Steps at which the KL or the score is no number."""
    return sum(any(isinstance(row.get(name), str) for name in ("kl", "score")) for row in log.metrics)


def ends_of(results: Sequence[Results]) -> list[Point]:
    """The variants of a sweep, or groups of runs, where an evaluation measured them: reward, KL, gold where known."""
    points = []
    for name in dict.fromkeys(result.name for result in results):
        own = [r for r in results if r.name == name and {"reward", "kl"} <= set(r.values)]
        if not own:
            continue
        gold = _bounds(_mean(own, "gold")) if all("gold" in result.values for result in own) else None
        points.append(Point(name, _mean(own, "kl").estimate, _bounds(_mean(own, "reward")), gold))
    return points


def _mean(results: Sequence[Results], field: str) -> Interval:
    values = [value for result in results for value in result.values[field][0]]
    seeds = [result.seed for result in results for _ in result.values[field][0]]
    prompts = [prompt for result in results for prompt in result.values[field][1]]
    return crossed_mean(cells(values, seeds, prompts))


def _bounds(interval: Interval) -> tuple[float, float, float]:
    low, high = (interval.low, interval.high) if interval.known else (interval.estimate, interval.estimate)
    return interval.estimate, low, high


def row_points(rows: Sequence[Row], where: str) -> list[Point]:
    """Every model of an evaluation, as a point.

    Raises:
        UsageError: KL or reward was not measured.
    """
    points = []
    for name in models(rows):
        own = of_model(rows, name)
        if not len(column(own, "kl")[0]) or not len(column(own, "reward")[0]):
            raise UsageError(
                f"of {name} neither KL nor reward, or only one, was measured",
                where=where,
                expected="rows with reward and kl",
                fix="trueup evaluate with --reward, at temperature 1",
            )
        points.append(_of_rows(name, own))
    return points


def _of_rows(name: str, own: Sequence[Row]) -> Point:
    measured = {field: column(own, field) for field in ("kl", "reward", "gold")}
    means = {
        field: _bounds(crossed_mean(cells(values, [0] * len(values), prompts)))
        for field, (values, prompts) in measured.items()
        if len(values)
    }
    return Point(name, means["kl"][0], means["reward"], means.get("gold"))


def gain(rows: Sequence[Row], model: str) -> tuple[float, float] | None:
    """KL of a model and the gold it gained over the reference, on the same prompts; None where one is not known."""
    start = reference_of(rows)
    if start is None or start == model:
        return None
    own, before = of_model(rows, model), of_model(rows, start)
    kl, gold, base = column(own, "kl")[0], column(own, "gold")[0], column(before, "gold")[0]
    if not len(kl) or not len(gold) or not len(base):
        return None
    return float(kl.mean()), float(gold.mean() - base.mean())
