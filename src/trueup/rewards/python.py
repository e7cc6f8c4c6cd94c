"""A reward that is an ordinary Python function or class: ``reward: package.module:name``.

    def short(prompts, completions):
        return [-len(completion.text) / 100 for completion in completions]

A function is called with the prompts and completions of a batch and gives one number for each; parameters after ``*``
are columns of the prompts' rows (``columns``). A class is made without arguments; its object is called, or its
``score`` where it has one. Modules are looked for where Python looks, and then
in the current directory.

It is part of the run's identity by its source: a run goes on with the same code only. In a job of several processes the
first one calls it and the others get its numbers, so a function that draws or asks a server cannot make them differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from trueup.config import Batch, Model, code
from trueup.config.code import function_of, names_code
from trueup.engine.processes import from_first
from trueup.errors import Interrupted, RunError
from trueup.rewards.columns import ColumnStore, columns_asked
from trueup.rewards.protocol import as_scores, sample_place
from trueup.types import Completion, Prompt

Function: TypeAlias = Callable[..., Any]
"""Of prompts and completions, and of the columns that it names."""


class PythonReward:
    """Numbers of a Python function, checked.

    Args:
        function: Called with prompts and completions, gives a number for each.
        name: ``package.module:name``.
        fingerprint: Hash of its source.
    """

    def __init__(self, function: Function, name: str, fingerprint: str) -> None:
        self.function = function
        self.name = name
        self.fingerprint = fingerprint
        self.columns = ColumnStore(name, columns_asked(function))

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Scores [B] of one call of the function.

        Raises:
            RunError: The function raised an exception; it names the answer, and is never turned into a number.
            UsageError: A column that it asks for was not given.
            ShapeError, UsageError, NonFiniteError: It gave something else than a finite number for each answer.
        """
        return from_first(lambda: self._scores(list(prompts), list(completions)))

    def _scores(self, prompts: list[Prompt], completions: list[Completion]) -> torch.Tensor:
        columns = self.columns.of(prompts)
        try:
            values = self.function(list(prompts), list(completions), **columns)
        except Interrupted:
            raise
        except Exception as error:
            raise RunError(
                f"the reward raised {type(error).__name__}: {error}",
                where=self._culprit(prompts, completions),
                fix="mend the function; a run starts anew then (--fresh), since its reward is another one",
            ) from error
        return as_scores(values, prompts, completions, self.name)

    def _culprit(self, prompts: list[Prompt], completions: list[Completion]) -> str:
        """The first answer on which the function fails alone, or else the batch."""
        for prompt, completion in zip(prompts, completions, strict=True):
            try:
                self.function([prompt], [completion], **self.columns.of([prompt]))
            except Exception:
                return sample_place(self.name, prompt, completion)
        return f"{sample_place(self.name, prompts[0], completions[0])} and {len(prompts) - 1} others, together"


def takes(source: str) -> bool:
    """Whether this names Python code: ``module:name``, and there is no such path; or ``@name``."""
    return names_code(source)


def identify(source: str) -> str:
    """Hash of the name and of the source of the function.

    Raises:
        ConfigError: As ``load``.
    """
    return code.identify(source, "reward")


def load(source: str, beside: Model, batch: Batch | None = None) -> PythonReward:
    """The function or class that ``source`` names; it needs no device and no batch size.

    Raises:
        ConfigError: It cannot be imported, has no such name, is not callable, or has no source to be known by.
    """
    fingerprint = identify(source)
    return PythonReward(function_of(source, "reward", "prompts, completions", "score"), source, fingerprint)
