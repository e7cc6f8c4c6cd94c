"""What the explorer asks of whoever reads the run directories; it reads none itself.

What is given back are JSON values: texts, finite numbers (``"nan"`` and its like for what is none), lists, objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

MOST_RUNS = 10
"""Runs that are followed, compared or kept in a snapshot at once."""
Action: TypeAlias = Literal["pause", "stop"]
"""What may be asked of a run."""
Asked: TypeAlias = Literal["probes", "training"]
"""Which answers of a run: to its fixed prompts, or some of those that it learned from."""
Order: TypeAlias = Literal["probe", "reward", "reward-low", "typical", "kl", "kl-low", "length", "length-short"]
"""How the answers of a step may be sorted."""


class News(Protocol):
    """Rows that came after a cursor."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """``step`` and numbers of each."""
        ...

    @property
    def cursor(self) -> object:
        """From where to go on; ``str`` of it is handed in again."""
        ...

    @property
    def reset(self) -> bool:
        """The run no longer holds what was read before the cursor."""
        ...


class Samples(Protocol):
    """The samples of one run."""

    def summary(self) -> list[dict[str, Any]]:
        """For each step: answers, and how their scores are spread."""
        ...

    def page(self, step: int, *, sort: Order, offset: int, limit: int) -> dict[str, Any]:
        """Answers of one step, each with the one before it and the first one."""
        ...

    def raw(self, step: int, prompt: str, turn: int) -> dict[str, Any]:
        """One sample with all that was written of it."""
        ...

    def history(self, prompt: str, *, offset: int, limit: int) -> dict[str, Any]:
        """The answers to one prompt along the run, each with the one before it and the first one."""
        ...

    def search(self, text: str) -> dict[str, Any]:
        """Answers that hold a text."""
        ...


class Source(Protocol):
    """Runs by name. A name that is not in the list is an error."""

    def runs(self) -> list[dict[str, Any]]:
        """One line for each run."""
        ...

    def describe(self, name: str) -> dict[str, Any]:
        """Settings, metrics, verdict and cursor of one run."""
        ...

    def state(self, name: str) -> dict[str, Any]:
        """What changes while a run goes on, besides its curves."""
        ...

    def series(
        self, name: str, metrics: Sequence[str], points: int, first: int | None = None, last: int | None = None
    ) -> dict[str, Any]:
        """Steps and values of metrics, at most about ``points`` of each."""
        ...

    def news(self, name: str, cursor: str | None) -> News:
        """Rows after a cursor."""
        ...

    def samples(self, name: str, of: Asked = "probes") -> Samples:
        """The answers of a run to its fixed prompts, or some of those that it learned from."""
        ...

    def ask(self, name: str, rule: str, step: int) -> dict[str, Any]:
        """Have people judge the answers at an alert, once; only where the app was started for it."""
        ...

    def control(self, name: str, action: Action, role: str) -> dict[str, Any]:
        """Ask a run to pause or to stop; only where the app was started for it. ``role`` is that of who asks."""
        ...

    def tour(self) -> dict[str, Any] | None:
        """What a guided tour says of these runs; None where there is none."""
        ...

    def differences(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Settings that are not the same in all of the runs."""
        ...


class Meaning(Protocol):
    """What a metric is."""

    @property
    def meaning(self) -> str:
        """In a sentence."""
        ...

    @property
    def estimator(self) -> str:
        """How it is estimated."""
        ...

    @property
    def unit(self) -> str:
        """Of its values."""
        ...

    @property
    def better(self) -> str:
        """``up``, ``down`` or ``none``."""
        ...
