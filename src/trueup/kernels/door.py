"""The one door: which kernels there are, and how they are put into a model, checked, and left out again.

A kernel is of one of two kinds. Some replace layers of the model, in place; parameters, their names and saved files do
not change. The others are functions that the engine calls instead of plain code, as long as the model's ``Kernels``
holds their name.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from trueup.errors import ModelError, nearest
from trueup.kernels import attention, head, linears
from trueup.kernels.activations import use_fast_activations
from trueup.kernels.gradients import allow_in_place
from trueup.kernels.linears import use_fast_linears
from trueup.kernels.norms import use_fused_norms
from trueup.kernels.rope import use_fast_rope

log = logging.getLogger("trueup.kernels")

TOLERANCE = 1e-4
"""Largest difference of what a model computes, as a share of the largest number, at which two ways are the same."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One entry of the table.

    Attributes:
        what: One line for people.
        replace: Gives a model's layers the kernel and returns how many have it. None: it is called by name.
        problem: Compares the kernel with plain code on numbers of its own; returns what is wrong, or None. Those that
            replace layers, and those without, are compared inside the model.
        cpu_only: Models on other devices do without.
    """

    what: str
    replace: Callable[[Any], int] | None = None
    problem: Callable[[], str | None] | None = None
    cpu_only: bool = True


KERNELS = {
    "activations": Kernel("GELU as one kernel, recomputed on the CPU", replace=use_fast_activations, cpu_only=False),
    "linears": Kernel("products by the faster library; inputs that can be recomputed are not kept", use_fast_linears),
    "norms": Kernel("LayerNorm and RMSNorm in few passes over memory", replace=use_fused_norms),
    "rope": Kernel("rotary positions in few passes over memory", replace=use_fast_rope),
    "attention": Kernel("a backward pass of attention for short rows in bfloat16", problem=attention.problem),
    "head": Kernel("log-probs of given tokens without holding their logits", problem=head.problem, cpu_only=False),
    "gradients": Kernel("gradients written where they stand", problem=linears.in_place_problem),
    "packing": Kernel("a batch as one row of distinct tokens, without padding", cpu_only=False),
    "decoder": Kernel("one sampling step as few tensor operations", cpu_only=False),
    "frozen_weights": Kernel("weights that learn nothing in the precision of their products"),
}
"""Every kernel by the name that ``model.kernels`` takes. ``packing``, ``decoder`` and ``frozen_weights`` are compared
with the model by who runs it: at opening, at the first sampling, when it is frozen."""


@dataclass(eq=False)
class Kernels:
    """The kernels that a model has in use: ``"packing" in kernels``.

    Attributes:
        source: The model's name, for the log.
        names: Those in use.
        problems: Why others that were wanted are not, by name.
    """

    source: str
    names: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def drop(self, name: str, problem: str, instead: str = "the model's own code is used") -> None:
        """Do without a kernel from here on, and say so."""
        self.names.discard(name)
        self.problems[name] = problem
        log.warning("%s: kernel %s: %s; %s", self.source, name, problem, instead)


def selected(value: str | Collection[str]) -> frozenset[str]:
    """The names behind ``auto`` (all), ``plain`` (none) or a list of names.

    Raises:
        ModelError: There is no kernel of one of these names.
    """
    if isinstance(value, str):
        value = {"auto": tuple(KERNELS), "plain": ()}.get(value, (value,))
    for name in value:
        if name not in KERNELS:
            raise ModelError(f"no kernel {name!r}", where="model.kernels", expected=nearest(name, list(KERNELS)))
    return frozenset(value)


@torch.no_grad()
def apply(
    model: Any,
    *,
    only: str | Collection[str] = "auto",
    states: Callable[[], Sequence[torch.Tensor]] | None = None,
    expected: Sequence[torch.Tensor] | None = None,
    source: str | None = None,
) -> Kernels:
    """Give a model of transformers our kernels, in place, as far as each computes what the model's own code does.

    All that replace layers are put in together and the model is compared with what it computed before. Where it
    differs or does not run, each is tried by itself, and only those that differ are left out.

    Args:
        model: The model, on its device, in evaluation mode.
        only: ``auto``, ``plain``, or names of ``KERNELS``.
        states: What is compared; by default the logits of a few tokens.
        expected: What ``states`` gave before, where that is known.
        source: What the log calls the model; by default its class.

    Returns:
        What is in use. Kernels that are called by name are only counted here: the caller asks for them.
    """
    wanted = selected(only)
    kernels = Kernels(source or type(model).__name__)
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    usable = {name: kernel for name, kernel in KERNELS.items() if name in wanted and (on_cpu or not kernel.cpu_only)}
    for name, kernel in usable.items():
        problem = kernel.problem() if kernel.problem is not None else None
        if problem is None:
            kernels.names.add(name)
        else:
            kernels.drop(name, problem)
    replacing = {name: kernel.replace for name, kernel in usable.items() if kernel.replace is not None}
    if replacing:
        run = states or functools.partial(_logits, model)
        _replace_layers(model, kernels, replacing, run, run() if expected is None else expected)
    allow_in_place(model.parameters(), "gradients" in kernels)
    return kernels


def _replace_layers(
    model: Any,
    kernels: Kernels,
    replacing: dict[str, Callable[[Any], int]],
    states: Callable[[], Sequence[torch.Tensor]],
    expected: Sequence[torch.Tensor],
) -> None:
    with reversible(model) as undo:
        if _problem(model, list(replacing.values()), states, expected) is None:
            return
        undo()
    for name, replace in replacing.items():
        with reversible(model) as undo:
            problem = _problem(model, [replace], states, expected)
            if problem is not None:
                undo()
                kernels.drop(name, problem)


def _problem(
    model: Any,
    replacements: Sequence[Callable[[Any], int]],
    states: Callable[[], Sequence[torch.Tensor]],
    expected: Sequence[torch.Tensor],
) -> str | None:
    """Replace layers; what is wrong with the model then, or None."""
    try:
        for replace in replacements:
            replace(model)
        pairs = zip(states(), expected, strict=True)
        # Each is measured by its own size: some are gradients.
        gap = max(largest_gap([state], [reference]) for state, reference in pairs)
    except Exception as error:  # whatever a model of any origin raises
        return f"does not run ({brief(error)})"
    return None if gap < TOLERANCE else f"differs by {gap:.1e}"


@contextlib.contextmanager
def reversible(model: Any) -> Iterator[Callable[[], None]]:
    """Yields what puts every layer of ``model`` back as it is now, whatever replaced it or changed its class."""
    classes = [(module, type(module)) for module in model.modules()]
    children = [(module, dict(module.named_children())) for module in model.modules()]

    def undo() -> None:
        for module, kind in classes:
            module.__class__ = kind
        for module, names in children:
            for name, child in names.items():
                setattr(module, name, child)

    yield undo


def largest_gap(actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Largest difference, as a share of the largest number."""
    scale = max(float(tensor.abs().max()) for tensor in expected if tensor.numel())
    return max(
        float((value - reference).abs().max()) / max(scale, 1e-6)
        for value, reference in zip(actual, expected, strict=True)
        if value.numel()
    )


def brief(error: Exception) -> str:
    """The first line of what an error says, as far as a log wants it."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def _logits(model: Any) -> list[torch.Tensor]:
    count = min(8, int(model.get_input_embeddings().weight.shape[0]))
    ids_BT = torch.arange(count, device=next(model.parameters()).device)[None]
    return [model(input_ids=ids_BT, use_cache=False).logits]
