"""Which metrics stand together, and which come first for which kind of run; a metric without a place comes last.

The first panels are chosen by what a run logs and not by its method's name, so that a new method has them too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

from trueup.web.explorer.source import Meaning, Source

HEROES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("score", "reward"), ("kl",), ("beta",), ("gold",)),
    (("reward",), ("kl",), ("beta",)),
    (("chosen_logratio", "rejected_logratio"), ("margin", "heldout_margin"), ("accuracy", "heldout_accuracy")),
    (("accuracy", "heldout_accuracy"), ("margin", "heldout_margin"), ("calibration_error",)),
    (("nll", "heldout_nll"), ("token_accuracy",)),
    (("loss", "heldout_loss"),),
)
"""Charts at the top: the first line whose first metrics are all logged, less what is not."""

GROUPS: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("Reward", (("score", "reward"), ("gold",), ("score_no_eos",), ("kept_score",), ("score_cut",), ("reward/*",))),
    ("Penalty", (("kl", "kl_k3"), ("beta",), ("kl_target",), ("approx_kl",))),
    (
        "Preferences",
        (
            ("chosen_logratio", "rejected_logratio"),
            ("chosen_reward", "rejected_reward"),
            ("margin", "heldout_margin"),
            ("accuracy", "heldout_accuracy"),
            ("strict_accuracy",),
            ("calibration_error",),
        ),
    ),
    ("Ratings", (("heldout/*/r2",), ("heldout/*/pearson",), ("heldout/*/rmse",), ("heldout/*/mean_rmse",))),
    ("Objective", (("loss", "heldout_loss"), ("nll", "heldout_nll"), ("*loss",), ("*_nll",))),
    (
        "Policy health",
        (
            ("entropy",),
            ("clip_fraction",),
            ("ratio_outside",),
            ("ratio_max",),
            ("explained_variance",),
            ("advantage_std",),
            ("grad_norm",),
            ("ratio_clamped",),
            ("dead_groups",),
            ("kept",),
            ("resampled",),
            ("first_ratio_error",),
            ("skipped_steps",),
        ),
    ),
    (
        "Text health",
        (
            ("completion_length",),
            ("eos_rate",),
            ("distinct_*",),
            ("repeated_*",),
            ("refusals",),
            ("token_accuracy",),
            ("dropped",),
        ),
    ),
    ("Speed and schedule", (("seconds",), ("*_per_second",), ("tokens",), ("learning_rate",), ("epoch",))),
)
"""Group, and its panels: metrics that share axes, or a pattern of metrics with a panel each."""


def hero(logged: Iterable[str], penalised: str = "kl") -> list[list[str]]:
    """The charts at the top of a run that logs these metrics; the KL that is penalised stands before others."""
    names = set(logged)
    for rows in HEROES:
        if rows[0][0] in names and all(row[0] in names for row in rows[:2]):
            shown = [[name for name in row if name in names] for row in rows if row[0] in names]
            return [list(dict.fromkeys([penalised, *row])) if row[0] == "kl" else row for row in shown]
    return []


def groups(logged: Iterable[str]) -> list[dict[str, Any]]:
    """Every metric in exactly one panel, by group."""
    left = list(logged)
    listed = []
    for title, panels in GROUPS:
        drawn: list[list[str]] = []
        for panel in panels:
            together = [name for name in panel if name in left]
            matches = [name for name in left for pattern in panel if "*" in pattern and fnmatchcase(name, pattern)]
            drawn += ([together] if together else []) + [[name] for name in matches if name not in together]
            left = [name for name in left if name not in together and name not in matches]
        if drawn:
            listed.append({"title": title, "panels": drawn})
    return [*listed, {"title": "Other", "panels": [[name] for name in left]}] if left else listed


def described(source: Source, means: Callable[[str], Meaning | None], name: str) -> dict[str, Any]:
    """A run as its source describes it, what its metrics mean, and its charts."""
    data = source.describe(name)
    logged = data["metrics"]
    meanings = {metric: _meaning(means(metric)) for metric in logged}
    penalised = (data["penalty"] or {}).get("metric", "kl")
    return {**data, "meanings": meanings, "hero": hero(logged, penalised), "groups": groups(logged)}


def _meaning(metric: Meaning | None) -> dict[str, str] | None:
    if metric is None:
        return None
    return {name: getattr(metric, name) for name in ("meaning", "estimator", "unit", "better")}
