"""Options that several commands have, and what holds for all: none is dropped silently, a number is a number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from trueup.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

Out = Annotated[Path, typer.Option("--out", help="Run directory; an unfinished run there is resumed.")]
File = Annotated[str | None, typer.Argument(help="YAML file with settings; flags and --set win over it.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Any setting: --set optim.learning_rate=1e-4")]
NoResume = Annotated[bool, typer.Option("--no-resume", help="Refuse a directory that already holds a run.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Move a run that is there aside and start anew.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and stop.")]
Database = Annotated[str, typer.Option("--db", help="File, or postgresql+psycopg://user@host/name.")]
AskedProject = Annotated[
    str | None, typer.Option("--project", help="Its project, made if there is none; people see the name.")
]
AskedVotes = Annotated[int, typer.Option("--votes", min=1, help="People who judge each pair.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]

_LARGEST = 2**63 - 1
"""Beyond it no count and no seed means anything."""


class Command(TyperCommand):
    """A command that refuses an option given twice, unless it takes several values, and numbers that are none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line.

        Raises:
            UsageError: An option with one value was given twice, or a number is NaN, infinite or beyond 64 bits.
        """
        if not ctx.resilient_parsing:
            _refuse_repetition(self.make_parser(ctx).parse_args(args=list(args))[2])
        rest: list[str] = super().parse_args(ctx, args)
        for parameter in self.get_params(ctx):
            value = ctx.params.get(parameter.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{value} is no number", where=parameter.opts[0], expected="a finite number")
            if isinstance(value, int) and abs(value) > _LARGEST:
                raise UsageError("the number is too large", where=parameter.opts[0], expected=f"at most {_LARGEST}")
        return rest


def _refuse_repetition(parameters: list[Any]) -> None:
    for parameter, count in Counter(parameters).items():
        takes_one = parameter.param_type_name == "option" and not parameter.multiple
        if count > 1 and takes_one and not (parameter.is_flag and not parameter.secondary_opts):
            raise UsageError(
                f"{parameter.opts[0]} is given {count} times and takes one value",
                where="command line",
                fix="keep one of them",
            )


class Commands(typer.Typer):
    """A group whose commands are all of that kind."""

    def command(self, *args: Any, **kwargs: Any) -> Callable[[F], F]:
        """Register a command, as ``typer.Typer.command`` does."""
        return super().command(*args, **{"cls": Command, **kwargs})
