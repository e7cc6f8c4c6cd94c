"""Reference pages made from the code: commands, settings, metrics, presets.

    python -m trueup.commands.reference docs/reference

A test regenerates them and compares, so the pages cannot drift from the program.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trueup.commands.stage_kinds import KINDS
from trueup.config import describe
from trueup.config.errors import blocks_in
from trueup.metrics import BANDS, COMPARABLE, METRICS, PATTERNS, measured_bands
from trueup.recipes.presets import PRESETS
from trueup.recipes.table import RECIPES
from trueup.rewards.mixture import PartList
from trueup.rewards.part import Part

HEAD = "| setting | type | default | meaning |\n|---|---|---|---|\n"
HEADER = "<!-- Made by `make docs` from the code; do not edit. -->\n\n"


def cell(value: Any) -> str:
    """Text that cannot break a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def settings_page() -> str:
    """Every setting of every method with type, default and meaning."""
    parts = [HEADER, "# Settings\n\nDefaults < preset < YAML file < flags and `--set`. Unknown names are errors.\n"]
    for kind, recipe in RECIPES.items():
        parts.append(f"\n## trueup {kind}\n\nTo {recipe.teaches}.\n\n{HEAD}")
        rows = [row for row in describe(recipe.settings()) if not row[0].startswith("reward[")]
        parts += _rows(rows)
    for kind, stage in KINDS.items():
        parts.append(f"\n## Stage {kind}\n\n`kind: {kind}` in a chain.\n\n{HEAD}")
        parts += _rows(row for row in describe(stage.settings) if not row[0].startswith("reward["))
    return "".join([*parts, *_reward_parts()])


def _rows(rows: Iterable[tuple[str, str, Any, str]]) -> list[str]:
    return [f"| `{name}` | {cell(shape)} | {cell(default)} | {cell(text)} |\n" for name, shape, default, text in rows]


def _reward_parts() -> list[str]:
    """The kinds of parts of a reward, once for all methods that have a reward; what all have in common comes first."""
    lines = ["\n## Parts of a reward\n\nOf each kind, in the list `reward:` of an online method.\n\n", HEAD]
    lines += _rows(describe(Part))
    common = set(Part.model_fields)
    for kind in blocks_in(PartList.model_fields["reward"].annotation):
        own = [row for row in describe(kind) if row[0] not in common and row[0] != "kind"]
        lines += [f"\n### {kind.model_fields['kind'].default}\n\n{inspect.getdoc(kind)}\n\n", HEAD, *_rows(own)]
    return lines


def metrics_page() -> str:
    """Every metric with meaning, estimator, unit and which way is better."""
    rows = [
        f"| `{name}` | {cell(m.meaning)} | {cell(m.estimator)} | {cell(m.unit)} | {m.better} |\n"
        for name, m in (METRICS | PATTERNS).items()
    ]
    intro = (
        "# Metrics\n\nWhat the numbers in `metrics.jsonl` mean. "
        "NaN and infinity are stored as the texts `nan` and `inf`.\n\n"
    )
    head = "| name | meaning | estimator | unit | better |\n|---|---|---|---|---|\n"
    return "".join([HEADER, intro, head, *rows, *_bands()])


def _bands() -> list[str]:
    """What clean runs of the sandbox showed, by kind of run."""
    command = json.loads(BANDS.read_text(encoding="utf-8"))["command"]
    intro = (
        f"\n## What is normal\n\nBetween these lie curves of clean runs of the sandbox, measured by `{command}` and "
        "drawn by the explorer ([what they mean](../explorer.md#what-is-normal)). A *share of start* is the value "
        "divided by the mean of the run's first five.\n\n"
    )
    lines = [intro, "| kind | runs | steps | metric | form | whole run | last fifth |\n|---|---|---|---|---|---|---|\n"]
    for kind, metrics in measured_bands().items():
        for name, band in metrics.items():
            whole, last = (min(band.low), max(band.high)), (band.low[-1], band.high[-1])
            shown = " | ".join(_between(name, *ends) for ends in (whole, last))
            rests = f"{kind} | {band.runs} | {band.steps}"
            lines.append(f"| {rests} | `{name}` | {COMPARABLE[name].form} | {shown} |\n")
    return lines


def _between(name: str, low: float, high: float) -> str:
    odd = COMPARABLE[name].odd
    return f"{low:g} to {high:g}" if odd == "both" else f"{low:g} or more" if odd == "low" else f"{high:g} or less"


def presets_page() -> str:
    """Every preset: settings that differ from the defaults."""
    parts = [
        HEADER,
        "# Presets\n\n`preset: NAME` in a file or `--set preset=NAME`. Sources are in `recipes/presets.py`.\n\n",
    ]
    parts.append("| preset | method | settings |\n|---|---|---|\n")
    for name, kinds in PRESETS.items():
        for kind, values in kinds.items():
            shown = ", ".join(f"`{k}={v}`" for k, v in flatten(values))
            parts.append(f"| `{name}` | {kind} | {cell(shown)} |\n")
    return "".join(parts)


def flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as dotted names."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        rows += flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return rows


def commands_page() -> str:
    """Every command with its help."""
    import typer

    from trueup.commands.app import app

    root = typer.main.get_command(app)
    parts = [HEADER, "# Commands\n"]
    parts += _command(root, "trueup")
    return "".join(parts)


def _command(command: Any, name: str) -> list[str]:
    parts: list[str] = []
    children = getattr(command, "commands", {})
    if not children:
        parts.append(
            f"\n## {name}\n\n{(command.help or '').strip()}\n\n| option | meaning | default |\n|---|---|---|\n"
        )
        for parameter in command.params:
            if parameter.name == "help":
                continue
            shown = ", ".join(f"`{o}`" for o in [*parameter.opts, *parameter.secondary_opts])
            parts.append(f"| {shown} | {cell(getattr(parameter, 'help', '') or '')} | {cell(parameter.default)} |\n")
    for child, inner in children.items():
        parts += _command(inner, f"{name} {child}")
    return parts


PAGES = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "presets.md": presets_page,
    "commands.md": commands_page,
}


def main() -> None:
    """Write the pages into the folder given."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
