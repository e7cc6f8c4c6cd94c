"""``trueup doctor``: what this machine is good at."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False) -> None:
    """Say what this machine is good at, and what to set because of it.

    Example: `trueup doctor`
    """
    import json

    from trueup.commands.machine import inspect_machine

    health = inspect_machine()
    typer.echo(json.dumps(health.to_dict(), indent=2) if as_json else health.format_text())
