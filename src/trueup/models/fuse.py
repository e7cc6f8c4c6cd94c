"""Fused element-wise work: the same functions in fewer passes over memory.

Hugging Face spells GPT-2's activation out as tanh, pow and products; PyTorch has it as one kernel. RMSNorm and
rotary positions have none on the CPU: there they run as ``models.elementwise`` has them. A layer of Hugging Face is
only replaced where its class gives what ours gives, on a few random numbers. Parameters, their names and the saved
files do not change.

On the CPU what LayerNorm and GELU give is also made again in the backward pass (``models.remade``), not kept.
"""

from __future__ import annotations

import functools
import inspect
import logging
import types
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.activations import ACT2FN

from trueup.models.elementwise import gelu, layer_norm, rms_norm, rotated
from trueup.models.products import autocast_dtype
from trueup.models.remade import note

log = logging.getLogger("trueup.models")

TOLERANCE = 1e-5
ROTARY = "apply_rotary_pos_emb"
BEFORE_PRODUCTS = ({"input_layernorm", "post_attention_layernorm"}, {"ln_1", "ln_2"})
"""Names of a block's norms where each feeds linear layers and nothing else."""


def fuse(model: Any) -> int:
    """Replace activation modules that PyTorch has a kernel for, in place. Returns how many were replaced."""
    spelled_out = {type(ACT2FN["gelu_new"]), type(ACT2FN["gelu_fast"])}
    exact = type(ACT2FN["gelu"])
    found = 0
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) in spelled_out:
                setattr(module, name, nn.GELU(approximate="tanh"))
            elif type(child) is exact and child.act is functional.gelu:
                setattr(module, name, nn.GELU())
            else:
                continue
            found += 1
    return found


def fuse_on_cpu(model: Any) -> int:
    """Give blocks norms, activations and rotary positions of few passes. Returns how many layers have it."""
    found = 0
    for module in model.modules():
        change = _norm(module) or _attention(module)
        if change is None and type(module) is nn.GELU:
            change = RemadeGELU
        if change is not None:
            module.__class__ = change
            found += 1
    for block in model.modules():
        norms = {name: child for name, child in block.named_children() if isinstance(child, _FusedNorm)}
        if norms.keys() in BEFORE_PRODUCTS:
            for norm in norms.values():
                norm.feeds_products = True
    return found


class RemadeGELU(nn.GELU):
    """``nn.GELU`` whose result a linear layer need not keep."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``[..., D] -> [..., D]``."""
        if self.approximate == "tanh":
            return gelu(input)
        return note(functional.gelu(input), functional.gelu, input)


class _FusedNorm(nn.Module):
    feeds_products = False
    weight: nn.Parameter

    def narrow(self) -> torch.dtype | None:
        """The precision of the products that read the result; None where others read it too."""
        return autocast_dtype("cpu") if self.feeds_products else None


class _FusedRMSNorm(_FusedNorm):
    shift: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """``[..., D] -> [..., D]``; where only products read it, in their precision."""
        kept = hidden_states.dtype if self.shift else None  # Gemma's; the others take the weight's where that is wider
        return rms_norm(hidden_states, self.weight, _epsilon(self), shift=self.shift, dtype=self.narrow() or kept)


class FusedLayerNorm(_FusedNorm, nn.LayerNorm):
    """``nn.LayerNorm`` in the precision of the products that read it; a linear layer need not keep the result."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``[..., D] -> [..., D]``."""
        dtype = self.narrow()
        if dtype is None or input.dtype is not self.weight.dtype:
            make = functools.partial(_plain_layer_norm, eps=self.eps)
        else:
            make = functools.partial(layer_norm, eps=self.eps, dtype=dtype)
        return note(make(input, self.weight, self.bias), make, input, self.weight, self.bias)


def _plain_layer_norm(x: torch.Tensor, weight_D: torch.Tensor, bias_D: torch.Tensor, *, eps: float) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], weight_D, bias_D, eps)


def _epsilon(norm: Any) -> float:
    found = getattr(norm, "variance_epsilon", None)
    return float(norm.eps if found is None else found)


@functools.cache
def _heir(base: Any, shift: float) -> type:
    return type(base.__name__, (_FusedRMSNorm, base), {"__module__": base.__module__, "shift": shift})


def _norm(module: Any) -> type | None:
    kind: Any = type(module)
    if kind is nn.LayerNorm:
        whole = len(module.normalized_shape) == 1 and module.bias is not None and module.weight.device.type == "cpu"
        return FusedLayerNorm if whole else None
    if not kind.__name__.endswith("RMSNorm") or isinstance(module, _FusedNorm):
        return None
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter) or weight.ndim != 1 or weight.device.type != "cpu":
        return None
    if not hasattr(module, "variance_epsilon") and not hasattr(module, "eps"):
        return None
    shift = _shift(kind, module)
    return None if shift is None else _heir(kind, shift)


_SHIFTS: dict[type, float | None] = {}


@torch.no_grad()
def _shift(kind: type, module: Any) -> float | None:
    """What the class adds to its weight, 0 or 1; None if it is not RMSNorm with either."""
    if kind not in _SHIFTS:
        x_ND = _noise(3, module.weight.shape[0]).to(module.weight.dtype)
        wanted_ND = module(x_ND)
        fits = (s for s in (0.0, 1.0) if _same(rms_norm(x_ND, module.weight, _epsilon(module), shift=s), wanted_ND))
        _SHIFTS[kind] = next(fits, None)
        if _SHIFTS[kind] is None:
            log.info("%s is no RMSNorm as others have it; it runs as it is", kind.__name__)
    return _SHIFTS[kind]


@functools.cache
def _attention_heir(kind: Any) -> type | None:
    """The attention class with our rotary positions in its ``forward``, which is otherwise the same code."""
    forward = inspect.unwrap(kind.forward, stop=_does_more)
    theirs = forward.__globals__.get(ROTARY) if inspect.isfunction(forward) else None
    if theirs is None or ROTARY not in forward.__code__.co_names:
        return None
    ours, angle_BTE = _rotation(theirs), _noise(2, 5, 8)
    given = _noise(2, 2, 5, 8), _noise(2, 1, 5, 8), angle_BTE.cos(), angle_BTE.sin()
    if not all(map(_same, ours(*given), theirs(*given))):
        log.info("%s rotates positions in its own way; it runs as it is", kind.__name__)
        return None
    names = forward.__globals__ | {ROTARY: ours}
    again = types.FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    again.__kwdefaults__ = forward.__kwdefaults__
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "forward": again, "_fused": True})


def _does_more(wrapper: Any) -> bool:
    """Whether a wrapped function does more than to accept the old names of its arguments."""
    return not wrapper.__module__.startswith("transformers") or "deprecat" not in wrapper.__code__.co_filename


def _attention(module: Any) -> type | None:
    kind: Any = type(module)
    if not kind.__name__.endswith("Attention") or hasattr(kind, "_fused"):
        return None
    return _attention_heir(kind)


def _rotation(theirs: Any) -> Any:
    @functools.wraps(theirs)
    def rotate(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *args: Any, **more: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        plain = not args and not more and q.device.type == "cpu" and q.ndim == 4 and cos.ndim == 3
        if not plain or cos.shape[-1] != q.shape[-1] or cos.requires_grad or sin.requires_grad:
            return theirs(q, k, cos, sin, *args, **more)  # type: ignore[no-any-return]
        return _spun(q, cos, sin), _spun(k, cos, sin)

    return rotate


def _spun(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """``[B, H, T, E]`` with the angles of ``[B or 1, T, E]``; the result lies in memory as ``[B, T, H, E]``."""
    batch, heads, width, size = x.shape
    if cos.shape[0] != batch:
        cos, sin = (angle.expand(batch, -1, -1) for angle in (cos, sin))
    x_NHE = x.transpose(1, 2).reshape(batch * width, heads, size)
    found_NHE = rotated(x_NHE, cos.reshape(-1, size), sin.reshape(-1, size), autocast_dtype("cpu"))
    return found_NHE.view(batch, width, heads, size).transpose(1, 2)


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max())
