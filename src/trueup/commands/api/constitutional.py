"""Rounds of Constitutional AI from Python: the work of ``trueup constitution run``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.commands.api.runs import nested
from trueup.commands.constitution_run import run_constitution
from trueup.commands.constitution_settings import Constitutional
from trueup.config import build


@dataclass(frozen=True, slots=True, repr=False)
class ConstitutionalRounds:
    """What rounds of critique, revision and training gave; in a notebook it shows its report."""

    out: Path
    rounds: tuple[dict[str, Any], ...]
    """Figures of each round, the model that it began with first: ``audit``, ``collected`` and ``model``."""
    report: Path
    """The report in Markdown."""

    def __repr__(self) -> str:
        return f"ConstitutionalRounds({str(self.out)!r}: {len(self.rounds) - 1} rounds)"

    def _repr_markdown_(self) -> str:
        return self.report.read_text(encoding="utf-8")

    @property
    def final(self) -> Path:
        """The model of the last round."""
        return Path(self.rounds[-1]["model"])


def constitution(
    settings: Mapping[str, Any] | None = None, *, out: str | Path = "runs/constitution", quiet: bool = False
) -> ConstitutionalRounds:
    """Rounds of answer, critique, revise, SFT or DPO, audit; killed at any point, the same call goes on.

    Args:
        settings: As in the file of ``trueup constitution run``, nested or with dots: ``{"model": ppo.final}``.
        out: Folder; what is there is gone on with.
        quiet: No progress and no line for each step.

    Raises:
        ConfigError: A setting is unknown or of the wrong type.
        UsageError, RunError, DataError, ModelError: As the command says.
    """
    given = {name: str(value) if isinstance(value, Path) else value for name, value in (settings or {}).items()}
    config = build(Constitutional, nested(given), where="settings")
    folder = Path(out)
    rounds = run_constitution(config, folder, quiet=quiet, tell=(lambda line: None) if quiet else print)
    return ConstitutionalRounds(folder, tuple(rounds), folder / "report.md")
