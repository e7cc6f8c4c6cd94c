"""The kinds of reward, and how the text behind ``reward:`` becomes one.

A kind is a module of this package with three functions: ``takes``, ``identify`` and ``load``. A new one is its own file
and its line in ``KINDS``. A list of parts is opened by ``mixture``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from trueup.config import Batch, Model

if TYPE_CHECKING:
    from trueup.rewards.protocol import Reward

KINDS = {
    "classifier": "trueup.rewards.classifier",
    "python": "trueup.rewards.python",
    "model": "trueup.rewards.model",
}
"""Modules by kind, imported on use. The first that takes a source opens it; ``model`` takes whatever is left."""


class Kind(Protocol):
    """What the module of a kind has."""

    def takes(self, source: str) -> bool:
        """Whether ``source`` names a reward of this kind; cheap, and nothing is opened."""

    def identify(self, source: str) -> str:
        """The fingerprint that the reward will have, without opening it."""

    def load(self, source: str, beside: Model, batch: Batch | None) -> Reward:
        """The reward, ready to score."""


def open_reward(source: str | Sequence[Any], beside: Model | None = None, batch: Batch | None = None) -> Reward:
    """The reward that ``source`` names: a directory of a reward model, or ``package.module:name``; or a sum of parts.

    Args:
        source: As in the setting ``reward``: a text, or a list of parts (see ``mixture``).
        beside: Settings of the model whose answers are scored: device, dtype and engine are taken from it.
        batch: How much one forward pass may hold; a model's default if absent.

    Raises:
        ModelError: There is no reward model there.
        ConfigError: There is no such Python code, or it cannot be called.
    """
    if not isinstance(source, str):
        from trueup.rewards.mixture import Mixture, as_parts  # which opens its parts here

        return Mixture.of(as_parts(source), beside, batch)
    return _kind(source).load(source, Model(name=source) if beside is None else beside, batch)


def identify(source: str | Sequence[Any]) -> str:
    """The fingerprint of the reward that ``source`` names, or of all its parts, without opening it.

    Raises:
        ModelError, ConfigError: There is nothing that could be opened.
    """
    if not isinstance(source, str):
        from trueup.rewards.mixture import as_parts, identify_parts

        return identify_parts(as_parts(source))
    return _kind(source).identify(source)


def kind_name(source: str) -> str:
    """The name in ``KINDS`` of what opens ``source``."""
    return next(name for name, module in KINDS.items() if cast(Kind, import_module(module)).takes(source))


def _kind(source: str) -> Kind:
    return cast(Kind, import_module(KINDS[kind_name(source)]))
