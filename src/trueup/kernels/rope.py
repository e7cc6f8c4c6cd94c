"""Rotary positions of a model on the CPU in few passes over memory (``kernels.elementwise``).

Attention layers of Hugging Face call a function of their module by the name ``apply_rotary_pos_emb``. The name is bound
once to a dispatcher: inside the ``forward`` of a layer that was given this kernel it calls ours, for the shapes that
ours takes, and for everybody else the function that stood there before.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

import torch

from trueup.kernels.compare import noise, result_of, same
from trueup.kernels.elementwise import rope
from trueup.kernels.products import autocast_dtype

log = logging.getLogger("trueup.kernels")

NAME = "apply_rotary_pos_emb"
Rotation: TypeAlias = Callable[..., tuple[torch.Tensor, torch.Tensor]]

_ACTIVE: ContextVar[bool] = ContextVar("rope", default=False)


def use_fast_rope(model: Any) -> int:
    """Give attention layers of ``model`` our rotary positions, in place. Returns how many have them."""
    count = 0
    for module in model.modules():
        kind: Any = type(module)
        if not kind.__name__.endswith("Attention") or hasattr(kind, "_fast_rope"):
            continue
        subclass = _fast_rope_subclass(kind)
        if subclass is not None:
            module.__class__ = subclass
            count += 1
    return count


@functools.cache
def _fast_rope_subclass(kind: Any) -> type | None:
    """The attention class inside whose ``forward`` our rotary positions are used; None where they are others."""
    homes = [sys.modules.get(base.__module__) for base in kind.__mro__]
    modules = [module for module in dict.fromkeys(homes) if callable(getattr(module, NAME, None))]
    if not modules or not all(_dispatches(module, kind) for module in modules):
        return None

    @functools.wraps(kind.forward)
    def forward(self: Any, *args: Any, **more: Any) -> Any:
        token = _ACTIVE.set(True)
        try:
            return kind.forward(self, *args, **more)
        finally:
            _ACTIVE.reset(token)

    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "forward": forward, "_fast_rope": True})


def _dispatches(module: Any, kind: type) -> bool:
    """Put the dispatcher into a module whose function rotates as ours does; False where it does not."""
    theirs = getattr(module, NAME)
    if hasattr(theirs, "_dispatches"):
        return True
    angle_BTE = noise(2, 5, 8)
    q, k, cos, sin = noise(2, 2, 5, 8), noise(2, 1, 5, 8), angle_BTE.cos(), angle_BTE.sin()
    expected, ours = result_of(theirs, q, k, cos, sin), (apply_rope(q, cos, sin), apply_rope(k, cos, sin))
    if not isinstance(expected, tuple) or len(expected) != 2 or not all(map(same, ours, expected)):
        log.info("%s rotates positions in its own way; it runs as it is", kind.__name__)
        return False
    setattr(module, NAME, _dispatcher(theirs))
    return True


def _dispatcher(theirs: Any) -> Rotation:
    @functools.wraps(theirs)
    def rotate(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *args: Any, **more: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        usual = not args and not more and q.device.type == "cpu" and q.ndim == 4 and cos.ndim == 3
        if not (_ACTIVE.get() and usual) or cos.shape[-1] != q.shape[-1] or cos.requires_grad or sin.requires_grad:
            return theirs(q, k, cos, sin, *args, **more)  # type: ignore[no-any-return]
        return apply_rope(q, cos, sin), apply_rope(k, cos, sin)

    rotate._dispatches = True  # type: ignore[attr-defined]
    return rotate


def apply_rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """``[B, H, T, E]`` with the angles of ``[B or 1, T, E]``; the result lies in memory as ``[B, T, H, E]``."""
    batch, heads, width, size = x.shape
    if cos.shape[0] != batch:
        cos, sin = (angle.expand(batch, -1, -1) for angle in (cos, sin))
    x_NHE = x.transpose(1, 2).reshape(batch * width, heads, size)
    output_NHE = rope(x_NHE, cos.reshape(-1, size), sin.reshape(-1, size), autocast_dtype("cpu"))
    return output_NHE.view(batch, width, heads, size).transpose(1, 2)
