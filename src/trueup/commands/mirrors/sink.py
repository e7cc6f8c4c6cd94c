"""What a mirror says to a tool, whichever it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

from trueup.ledger.alerts import Alert

Scalar: TypeAlias = bool | int | float | str
MOST_TEXT = 5000
"""Characters of one setting or one collection of facts; MLflow takes 6000."""


@dataclass(frozen=True, slots=True)
class Head:
    """Which run is mirrored, and where to."""

    name: str
    """The run directory's own name."""
    origin: str
    """8 hex digits that tell it from another run of that name."""
    kind: str
    settings: Mapping[str, Scalar]
    """Everything that ``run.json`` says of how it was started, by dotted name."""
    folder: Path
    """Where the mirror lies if it is not sent elsewhere; it is there."""
    project: str
    remote: str | None
    """Where it is sent instead."""
    started: float
    """Seconds since 1970."""

    @property
    def config(self) -> dict[str, Scalar]:
        """The settings with the kind, for tools that take one table."""
        return {"kind": self.kind, **self.settings}

    def key(self, attempt: int) -> str:
        """A name for the run that no other has; it takes a new one when it is written anew."""
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", self.name)[:80]
        return f"{plain}-{self.origin}" + (f"-{attempt + 1}" if attempt else "")


class Sink(Protocol):
    """A mirror that is open for writing. Whatever a tool's package raises ends this attempt; it is tried again."""

    overwrites: ClassVar[bool]
    """Whether steps can be taken back: then it is opened at the first step that is written again."""
    goes_on: ClassVar[bool]
    """Whether a mirror that was closed can be opened again to add steps."""

    def __init__(self, head: Head, first: int, key: str, *, new: bool) -> None:
        """Open the mirror ``key``, which holds the steps before ``first``, or nothing where it is ``new``."""

    def step(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Write what was measured at a step; ``seconds`` is the training time until its end, since the run began."""

    def alert(self, alert: Alert) -> None:
        """Write that a detector opened."""

    def flush(self) -> None:
        """Hand over what was written."""

    def close(self, status: str, facts: Mapping[str, Any]) -> None:
        """Write how the run ended, or that it goes on, and let go."""

    def place(self) -> str:
        """Where it is, or how to look at it."""

    @staticmethod
    def forget(head: Head, key: str) -> None:
        """Remove the mirror ``key``, which is about to be written anew."""


def open_sink(target: str) -> type[Sink]:
    """The class that writes for a tool; loads its package when it is opened."""
    module, name = {
        "tensorboard": ("tensorboard", "TensorBoard"),
        "trackio": ("trackio", "Trackio"),
        "wandb": ("wandb", "WeightsAndBiases"),
        "mlflow": ("mlflow", "MlFlow"),
    }[target]
    sink: type[Sink] = getattr(import_module(f"trueup.commands.mirrors.{module}"), name)
    return sink


def flat(values: Any, prefix: str = "") -> dict[str, Scalar]:
    """Nested settings by dotted name; lists and what is not set are written as text."""
    if isinstance(values, Mapping):
        flattened: dict[str, Scalar] = {}
        for name, value in values.items():
            flattened |= flat(value, f"{prefix}.{name}" if prefix else str(name))
        return flattened
    if isinstance(values, bool | int | float):
        return {prefix: values}
    return {prefix: str(values)[:MOST_TEXT]}
