"""Norms of a model on the CPU in few passes over memory (``kernels.elementwise``).

A layer of Hugging Face is only replaced where its class gives what ours gives, on a few random numbers. Parameters,
their names and the saved files do not change. What LayerNorm gives is computed again in the backward pass
(``kernels.recompute``), not kept.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trueup.kernels.compare import noise, result_of, same
from trueup.kernels.elementwise import layer_norm, rms_norm
from trueup.kernels.products import autocast_dtype
from trueup.kernels.recompute import tag_recompute

log = logging.getLogger("trueup.kernels")

BEFORE_PRODUCTS = ({"input_layernorm", "post_attention_layernorm"}, {"ln_1", "ln_2"})
"""Names of a block's norms where each feeds linear layers and nothing else."""


def use_fused_norms(model: Any) -> int:
    """Give LayerNorms and RMSNorms of ``model`` few passes, in place. Returns how many have them."""
    count = 0
    for module in model.modules():
        fused = _fused_class(module)
        if fused is not None:
            module.__class__ = fused
            count += 1
    for block in model.modules():
        norms = {name: child for name, child in block.named_children() if isinstance(child, _FusedNorm)}
        if norms.keys() in BEFORE_PRODUCTS:
            for norm in norms.values():
                norm.feeds_products = True
    return count


class _FusedNorm(nn.Module):
    feeds_products = False
    weight: nn.Parameter

    def low_precision(self) -> torch.dtype | None:
        """The precision of the products that read the result; None where others read it too."""
        return autocast_dtype("cpu") if self.feeds_products else None


class _FusedRMSNorm(_FusedNorm):
    shift: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """``[..., D] -> [..., D]``; where only products read it, in their precision."""
        # Gemma's keeps the precision of its input; the others take the weight's where that is higher.
        dtype = self.low_precision() or (hidden_states.dtype if self.shift else None)
        return rms_norm(hidden_states, self.weight, _epsilon(self), shift=self.shift, dtype=dtype)


class FusedLayerNorm(_FusedNorm, nn.LayerNorm):
    """``nn.LayerNorm`` in the precision of the products that read it; a linear layer need not keep the result."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``[..., D] -> [..., D]``."""
        dtype = self.low_precision()
        if dtype is None or input.dtype is not self.weight.dtype:
            fn = functools.partial(_plain_layer_norm, eps=self.eps)
        else:
            fn = functools.partial(layer_norm, eps=self.eps, dtype=dtype)
        return tag_recompute(fn(input, self.weight, self.bias), fn, input, self.weight, self.bias)


def _plain_layer_norm(x: torch.Tensor, weight_D: torch.Tensor, bias_D: torch.Tensor, *, eps: float) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], weight_D, bias_D, eps)


def _epsilon(norm: Any) -> float:
    epsilon = getattr(norm, "variance_epsilon", None)
    return float(norm.eps if epsilon is None else epsilon)


@functools.cache
def _rms_norm_subclass(base: Any, shift: float) -> type:
    return type(base.__name__, (_FusedRMSNorm, base), {"__module__": base.__module__, "shift": shift})


def _fused_class(module: Any) -> type | None:
    """The class that does the same in fewer passes; None where there is none."""
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
    return None if shift is None else _rms_norm_subclass(kind, shift)


_SHIFTS: dict[type, float | None] = {}


@torch.no_grad()
def _shift(kind: type, module: Any) -> float | None:
    """What the class adds to its weight, 0 or 1; None if it is not RMSNorm with either."""
    if kind not in _SHIFTS:
        x_ND = noise(3, module.weight.shape[0]).to(module.weight.dtype)
        expected_ND = result_of(module, x_ND)
        shifts = (s for s in (0.0, 1.0) if same(rms_norm(x_ND, module.weight, _epsilon(module), shift=s), expected_ND))
        _SHIFTS[kind] = next(shifts, None)
        if _SHIFTS[kind] is None:
            log.info("%s is no RMSNorm as others have it; it runs as it is", kind.__name__)
    return _SHIFTS[kind]
