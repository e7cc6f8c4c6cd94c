"""Training from Python, and run directories as objects: settings, metrics as columns, samples, models, report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trueup.commands.api.material import as_files
from trueup.config import Settings, build
from trueup.config.code import register
from trueup.errors import RunError, UsageError, nearest
from trueup.ledger import metric_rows, read_lines, read_run
from trueup.recipes.registry import execute, preset_layer
from trueup.recipes.table import RECIPES, recipe_of


class Columns(Mapping[str, list[Any]]):
    """Rows as columns: ``columns["loss"]`` is a list with one entry a row, None where a row has no such entry."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows
        self._names = list(dict.fromkeys(name for row in rows for name in row))

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._names:
            raise KeyError(f"no column {name!r}; {nearest(name, self._names)}")
        return [row.get(name) for row in self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Columns({len(self._rows)} rows: {', '.join(self._names)})"

    def rows(self) -> list[dict[str, Any]]:
        """The rows, each with the columns that it has."""
        return [dict(row) for row in self._rows]

    def frame(self) -> Any:
        """A pandas data frame.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped, unused-ignore]
        except ImportError as error:
            raise UsageError(
                "pandas is not installed", where="frame", fix="pip install pandas, or use rows()"
            ) from error
        return pandas.DataFrame(self._rows, columns=self._names)


class Run:
    """A run directory: what was asked, what was measured, and what came out. Looks only; ``train`` writes.

    Args:
        path: The directory, as ``runs/dpo``.

    Raises:
        UsageError: It is not a run directory.
        RunError: Its run.json is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        read_run(self.path)  # refused here, not at the first use

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.kind}, {self.status})"

    @property
    def record(self) -> dict[str, Any]:
        """run.json, as it is now."""
        return read_run(self.path)

    @property
    def kind(self) -> str:
        """Name of the method."""
        return str(self.record["kind"])

    @property
    def status(self) -> str:
        """``running``, ``done``, ``failed`` or ``interrupted``."""
        return str(self.record["status"])

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, defaults included."""
        return dict(self.record["config"])

    @property
    def final(self) -> Path:
        """The trained model, a directory that Hugging Face opens.

        Raises:
            RunError: The run has not finished.
        """
        final = self.path / "final"
        if not final.is_dir():
            raise RunError(
                f"the run is {self.status}", where=str(final), fix=f"go on with it: trueup resume {self.path}"
            )
        return final

    def metrics(self) -> Columns:
        """metrics.jsonl: one row a step. Names, units and estimators stand in ``docs/reference/metrics.md``."""
        return Columns(metric_rows(self.path))

    def timing(self) -> Columns:
        """timing.jsonl: seconds and throughput of each step."""
        return self._columns("timing.jsonl")

    def samples(self) -> list[dict[str, Any]]:
        """samples.jsonl: answers that were drawn along the way."""
        return self._columns("samples.jsonl").rows()

    def evaluations(self) -> Columns:
        """eval.jsonl: what was measured on held-out data."""
        return self._columns("eval.jsonl")

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report of this run, beside it unless ``out`` says otherwise; returns the HTML page."""
        from trueup.commands.run_report import write_run_report

        return write_run_report(self.path, out).html

    def criteria(self, evaluation: str | Path | None = None) -> list[dict[str, str]]:
        """What the course's activity asks of such a run, and whether it is met: ``name``, ``outcome``, ``words``.

        Args:
            evaluation: Folder of an evaluation in which the run's model took part.
        """
        from trueup.reports.build import run_criteria

        return [one.to_dict() for one in run_criteria(self.path, evaluation)]

    def _columns(self, name: str) -> Columns:
        file = self.path / name
        return Columns(read_lines(file)[0] if file.exists() else [])


def train(
    recipe: str | type[Settings],
    settings: Mapping[str, Any] | Settings | None = None,
    *,
    out: str | Path | None = None,
    preset: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
) -> Run:
    """Run a recipe; an unfinished run in ``out`` with the same settings goes on where it stopped.

    Args:
        recipe: ``sft``, ``reward``, ``dpo``, ``kto``, ``ppo``; or the settings class of a recipe of your own, or its
            name, ``package.module:Settings``.
        settings: As in a YAML file: nested, or with dots: ``{"model.name": "runs/sft/final", "optim": {...}}``. A
            value of ``data`` or ``validation`` may also be a list of files or of rows, a ``datasets.Dataset`` or a
            ``DatasetDict``, of which ``read.split`` names the split; an objective or a reward may also be a function
            or a class.
        out: The run's directory; ``runs/<recipe>`` by default.
        preset: Name of a documented preset, below ``settings``.
        fresh: Move aside what is in ``out`` first.
        quiet: No progress.

    Returns:
        The finished run.

    Raises:
        ConfigError: A setting is unknown or of the wrong type.
        DataError, ModelError, RunError: As the command says.
    """
    name = recipe if isinstance(recipe, str) else register(recipe)
    known = recipe_of(name)
    folder = Path(out or Path("runs") / name.rpartition(":")[2].strip("@").lower())
    if isinstance(settings, Settings):
        if preset is not None:
            raise UsageError("a preset lies below settings that are a dict", where="preset", fix="pass a dict")
        config = settings
    else:
        layers = [] if preset is None else [preset_layer(name, preset)]
        config = build(known.settings(), *layers, as_files(nested(settings or {}), folder), where="settings")
    return Run(execute(name, config, folder, fresh=fresh, quiet=quiet))


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as blocks; ``model`` may be a name alone.

    Raises:
        UsageError: A setting is given twice, once with dots and once in its block.
    """
    values: dict[str, Any] = {}
    for name, value in settings.items():
        path = "model.name" if name == "model" and not isinstance(value, Mapping) else name
        _put(values, path.split("."), nested(value) if isinstance(value, Mapping) else value, name)
    return values


def _put(block: dict[str, Any], path: list[str], value: Any, name: str) -> None:
    first, *rest = path
    if not rest and first not in block:
        block[first] = value
        return
    inner = block.setdefault(first, {})
    if not isinstance(inner, dict) or not (rest or isinstance(value, dict)):
        raise UsageError("is given twice", where=name, fix="write it once")
    if rest:
        _put(inner, rest, value, name)
    else:
        for each, own in value.items():
            _put(inner, [each], own, f"{name}.{each}")


def recipes() -> dict[str, str]:
    """The recipes that trueup has, and what each teaches."""
    return {name: recipe.teaches for name, recipe in RECIPES.items()}
