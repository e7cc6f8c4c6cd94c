"""Gradients that keep their memory from step to step and are added to in place.

By default every backward pass makes a new gradient for each weight, autograd adds it to the parameter's, and after the
update all are dropped. On a CPU each of these blocks is made of new pages, which cost more time than the arithmetic,
and between the activations' they leave the heap full of holes. Inside ``Gradients.accumulating`` our layers write to
``parameter.grad`` themselves, always in the same memory, and hand autograd nothing.

It is for ``loss.backward()`` alone: ``torch.autograd.grad`` would get no gradient of such a weight. A hook on a
parameter would not run either, so a parameter that has one is left to autograd.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

UPCAST_ELEMENTS = 1 << 18
"""Elements of a low-precision tensor that are upcast at a time, in memory of their own: 1 MB, within a core's cache."""

_ACTIVE: ContextVar[Gradients | None] = ContextVar("gradients", default=None)


def allow_in_place(parameters: Iterable[torch.Tensor], allowed: bool = True) -> None:
    """Let gradients of these parameters be written in place, or not; without a word they are not."""
    for parameter in parameters:
        parameter.grad_in_place = allowed  # type: ignore[attr-defined]


class Gradients:
    """The memory of the gradients of some parameters."""

    def __init__(self, parameters: Iterable[torch.Tensor]) -> None:
        self._parameters = {id(p): p for p in parameters if p.is_leaf and p.device.type == "cpu"}
        self._memory: dict[int, torch.Tensor] = {}

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """Inside, backward passes on the CPU write to ``parameter.grad``; those of other devices are as ever.

        Autograd runs a GPU's part in threads of its own, where this is not seen.
        """
        token = _ACTIVE.set(self)
        try:
            yield
        finally:
            _ACTIVE.reset(token)

    def __contains__(self, parameter: torch.Tensor) -> bool:
        known = id(parameter) in self._parameters and getattr(parameter, "grad_in_place", False)
        return known and not _has_hooks(parameter)

    def memory(self, parameter: torch.Tensor) -> torch.Tensor:
        """Where this parameter's gradient stands; holds anything until it is written."""
        block = self._memory.get(id(parameter))
        if block is None:
            block = self._memory[id(parameter)] = torch.empty_like(parameter)
        return block


def _has_hooks(parameter: torch.Tensor) -> bool:
    """Whether something waits for this parameter's gradient, which would not come by way of autograd."""
    return bool(parameter._backward_hooks) or bool(getattr(parameter, "_post_accumulate_grad_hooks", None))


class GradBuffer:
    """The gradient of one parameter, while a backward pass writes it.

    ``parameter`` must be the one that the forward pass was given: what autograd saved may be a copy, if the pass is
    recomputed.

    Attributes:
        total: What was added so far; holds anything while ``empty``.
        empty: Whether nothing was added yet: the first piece is then to be copied.
    """

    def __init__(self, parameter: torch.Tensor) -> None:
        gradients = _ACTIVE.get()
        if gradients is not None and parameter not in gradients:
            gradients = None
        self._in_place = gradients is not None
        self.empty = gradients is None or parameter.grad is None
        if gradients is None:
            self.total = torch.empty_like(parameter)
        else:
            if parameter.grad is None:
                parameter.grad = gradients.memory(parameter)
            self.total = parameter.grad

    def add_(self, piece: torch.Tensor, rows: slice = slice(None)) -> None:
        """Add ``piece``, which may be of lower precision, to these rows; ``empty`` is for the caller to end.

        PyTorch would upcast all of it before adding, into new pages: several times as slow as the sum.
        """
        total = self.total[rows]
        if self.empty:
            total.copy_(piece)
        elif piece.dtype is total.dtype or not (total.is_contiguous() and piece.is_contiguous()):
            total.add_(piece)
        else:
            flat, low_precision = total.view(-1), piece.view(-1)
            upcast = flat.new_empty(min(UPCAST_ELEMENTS, low_precision.numel()))
            for begin in range(0, low_precision.numel(), UPCAST_ELEMENTS):
                part = low_precision[begin : begin + UPCAST_ELEMENTS]
                flat[begin : begin + UPCAST_ELEMENTS].add_(upcast[: part.numel()].copy_(part))

    @property
    def for_autograd(self) -> torch.Tensor | None:
        """What the backward pass returns: nothing where the gradient already stands in its place."""
        return None if self._in_place else self.total
