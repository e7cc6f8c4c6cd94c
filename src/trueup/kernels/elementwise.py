"""Element-wise work of a model's blocks on the CPU: norms and rotary positions, fused.

Written out in PyTorch, as Hugging Face has them, RMSNorm and rotary positions go over memory up to a dozen times and
keep several tensors for the backward pass. Here some rows at a time go through all steps while they are in a core's
second-level cache, and the backward pass starts from the inputs. LayerNorm is PyTorch's kernel, whose result is cast
to low precision in the same way before it leaves the cache.

Shapes: N tokens, D width, H heads, E head width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from trueup.kernels.recompute import tag_recompute

ELEMENTS = 1 << 18
"""Elements that go through all steps together: 1 MB in float32, two or three of which fit a core's cache."""


def _parts(rows: int, row_elements: int) -> Iterator[slice]:
    step = max(1, ELEMENTS // max(1, row_elements))
    for begin in range(0, rows, step):
        yield slice(begin, begin + step)


def _upcast_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _put(first: torch.Tensor, second: torch.Tensor, out: torch.Tensor) -> None:
    """Write ``first * second`` to ``out``; ``first`` is used up."""
    if out.dtype is first.dtype:
        torch.mul(first, second, out=out)
    else:
        out.copy_(first.mul_(second))


class _RmsNorm(torch.autograd.Function):
    """``x / sqrt(mean(x^2) + eps) * (weight + shift)`` (Zhang and Sennrich 2019, arXiv 1910.07467).

    With n = x / rms and h = grad * weight: dx = (h - n * mean(h * n)) / rms, dweight = sum(grad * n).
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight_D: torch.Tensor, eps: float, shift: float, dtype: torch.dtype
    ) -> torch.Tensor:
        x_ND, upcast = x.reshape(-1, x.shape[-1]), _upcast_dtype(x.dtype)
        scale_D = weight_D.to(upcast) + shift if shift else weight_D.to(upcast)
        output_ND = x_ND.new_empty(x_ND.shape, dtype=dtype)
        inverse_N = x_ND.new_empty(x_ND.shape[0], dtype=upcast)
        for part in _parts(*x_ND.shape):
            upcast_ND = x_ND[part].to(upcast)
            inverse_N[part] = torch.linalg.vector_norm(upcast_ND, dim=-1).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
            _put(upcast_ND * inverse_N[part, None], scale_D, output_ND[part])
        ctx.save_for_backward(x, weight_D, inverse_N)
        ctx.shift = shift
        return output_ND.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None, None]:
        x, weight_D, inverse_N = ctx.saved_tensors
        x_ND, upcast, width = x.reshape(-1, x.shape[-1]), inverse_N.dtype, x.shape[-1]
        grad_ND = grad.reshape(-1, width)
        scale_D = weight_D.to(upcast) + ctx.shift if ctx.shift else weight_D.to(upcast)
        grad_x_ND = torch.empty_like(x_ND)
        grad_weight_D = torch.zeros_like(scale_D) if ctx.needs_input_grad[1] else None
        for part in _parts(*x_ND.shape):
            normal_ND = x_ND[part] * inverse_N[part, None]
            scaled_ND = grad_ND[part].to(upcast)
            both_ND = scaled_ND * normal_ND
            if grad_weight_D is not None:
                grad_weight_D += both_ND.sum(0)
            mean_N = torch.mv(both_ND, scale_D).div_(width)
            scaled_ND = torch.mul(scaled_ND, scale_D, out=both_ND).addcmul_(normal_ND, mean_N[:, None], value=-1)
            _put(scaled_ND, inverse_N[part, None], grad_x_ND[part])
        grad_weight = None if grad_weight_D is None else grad_weight_D.to(weight_D.dtype)
        return grad_x_ND.view(x.shape), grad_weight, None, None, None


def rms_norm(
    x: torch.Tensor, weight_D: torch.Tensor, eps: float, *, shift: float = 0.0, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """RMSNorm of the last dimension, computed in float32 or wider.

    Args:
        x: [..., D].
        weight_D: Scale of each element; ``shift`` is added to it (Gemma keeps the scale less 1).
        eps: Added to the mean square.
        shift: See ``weight_D``.
        dtype: Of the result; by default that of ``x`` and ``weight_D`` together.
    """
    kind = dtype or torch.promote_types(x.dtype, weight_D.dtype)
    output: torch.Tensor = _RmsNorm.apply(x, weight_D, eps, shift, kind)  # type: ignore[no-untyped-call]
    return output


class _LayerNorm(torch.autograd.Function):
    """``(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`` (Ba et al. 2016, arXiv 1607.06450)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight_D: torch.Tensor, bias_D: torch.Tensor, eps: float, dtype: torch.dtype
    ) -> torch.Tensor:
        x_ND = x.reshape(-1, x.shape[-1])
        output_ND = x_ND.new_empty(x_ND.shape, dtype=dtype)
        mean_N1, inverse_N1 = (weight_D.new_empty(x_ND.shape[0], 1) for _ in range(2))
        for part in _parts(*x_ND.shape):
            output_ND[part], mean_N1[part], inverse_N1[part] = torch.native_layer_norm(
                x_ND[part], x.shape[-1:], weight_D, bias_D, eps
            )
        ctx.save_for_backward(x, weight_D, bias_D, mean_N1, inverse_N1)
        return output_ND.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight_D, bias_D, mean_N1, inverse_N1 = ctx.saved_tensors
        needed = list(ctx.needs_input_grad[:3])
        x_ND, grad_ND = x.reshape(-1, x.shape[-1]), grad.reshape(-1, x.shape[-1])
        grad_x_ND = torch.empty_like(x_ND) if needed[0] else None
        grad_weight_D, grad_bias_D = (torch.zeros_like(weight_D) if need else None for need in needed[1:])
        for part in _parts(*x_ND.shape):
            grads = torch.ops.aten.native_layer_norm_backward(
                grad_ND[part].to(x.dtype), x_ND[part], x.shape[-1:], mean_N1[part], inverse_N1[part], weight_D, bias_D,
                needed,
            )  # fmt: skip
            if grad_x_ND is not None:
                grad_x_ND[part] = grads[0]
            if grad_weight_D is not None:
                grad_weight_D += grads[1]
            if grad_bias_D is not None:
                grad_bias_D += grads[2]
        return None if grad_x_ND is None else grad_x_ND.view(x.shape), grad_weight_D, grad_bias_D, None, None


def layer_norm(
    x: torch.Tensor, weight_D: torch.Tensor, bias_D: torch.Tensor, eps: float, *, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """LayerNorm of the last dimension, computed in the precision of ``x``.

    Args:
        x: [..., D], as precise as ``weight_D`` and ``bias_D``.
        weight_D: Scale of each element.
        bias_D: Added to each element.
        eps: Added to the variance.
        dtype: Of the result; by default that of ``x``.
    """
    output: torch.Tensor = _LayerNorm.apply(x, weight_D, bias_D, eps, dtype or x.dtype)  # type: ignore[no-untyped-call]
    return output


TWICE, CUBED = math.sqrt(8.0 / math.pi), 0.044715
"""GELU's tanh form is ``x s(z)`` with the logistic function s and ``z = TWICE (x + CUBED x^3)``."""


class _Gelu(torch.autograd.Function):
    """``x (1 + tanh(z / 2)) / 2 = x s(z)``; its derivative is ``s + y (1 - s) dz/dx`` (arXiv 1606.08415).

    PyTorch's kernels take tanh, which costs more than the logistic function. ``derivative`` is where
    ``_recompute_gelu`` leaves it for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, derivative: list[torch.Tensor]) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.derivative = derivative
        return _gelu(x, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        if not ctx.derivative:
            _recompute_gelu(x, ctx.derivative)
        return ctx.derivative.pop().mul_(grad), None


def _recompute_gelu(x: torch.Tensor, derivative: list[torch.Tensor]) -> torch.Tensor:
    derivative[:] = [x.new_empty(x.shape)]
    return _gelu(x, derivative[0])


def _gelu(x: torch.Tensor, derivative: torch.Tensor | None) -> torch.Tensor:
    """GELU of ``x``, any shape; writes its derivative to ``derivative``."""
    output, flat, upcast = x.new_empty(x.shape), x.reshape(-1), _upcast_dtype(x.dtype)
    flat_output, flat_derivative = output.view(-1), None if derivative is None else derivative.view(-1)
    buffers = [flat.new_empty(min(ELEMENTS, flat.numel()), dtype=upcast) for _ in range(3)]
    for part in _parts(flat.numel(), 1):
        some = flat[part].to(upcast)
        square, share, value = (buffer[: some.numel()] for buffer in buffers)
        torch.mul(some, some, out=square)
        torch.mul(square, TWICE * CUBED, out=share).add_(TWICE).mul_(some).sigmoid_()
        flat_output[part] = torch.mul(some, share, out=value)
        if flat_derivative is not None:
            square.mul_(3 * TWICE * CUBED).add_(TWICE).mul_(value)
            flat_derivative[part] = square.addcmul_(square, share, value=-1).add_(share)
    return output


def gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU in its tanh form, computed in float32 or wider; a linear layer that reads it need not keep it.

    The derivative is computed together with the value when that is recomputed.
    """
    derivative: list[torch.Tensor] = []
    output: torch.Tensor = _Gelu.apply(x, derivative)  # type: ignore[no-untyped-call]
    return tag_recompute(output, functools.partial(_recompute_gelu, derivative=derivative), x)


class _Rope(torch.autograd.Function):
    """Halves (a, b) of each head become (a cos - b sin, b cos + a sin) (Su et al. 2021, arXiv 2104.09864)."""

    @staticmethod
    def forward(
        ctx: Any, x_NHE: torch.Tensor, cos_NE: torch.Tensor, sin_NE: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        ctx.save_for_backward(cos_NE, sin_NE)
        ctx.dtype = x_NHE.dtype
        return _rotate(x_NHE, cos_NE, sin_NE, dtype, back=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NHE: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        cos_NE, sin_NE = ctx.saved_tensors
        return _rotate(grad_NHE, cos_NE, sin_NE, ctx.dtype, back=True), None, None, None


def _rotate(
    x_NHE: torch.Tensor, cos_NE: torch.Tensor, sin_NE: torch.Tensor, dtype: torch.dtype, *, back: bool
) -> torch.Tensor:
    """Rotate, or apply the transposed map, which is the derivative."""
    half, upcast = x_NHE.shape[-1] // 2, torch.promote_types(_upcast_dtype(x_NHE.dtype), cos_NE.dtype)
    output_NHE = x_NHE.new_empty(x_NHE.shape, dtype=dtype)
    for part in _parts(x_NHE.shape[0], x_NHE.shape[1] * x_NHE.shape[2]):
        upcast_NHE = x_NHE[part].to(upcast)
        cos, sin = cos_NE[part, None].to(upcast), sin_NE[part, None].to(upcast)
        rotated = upcast_NHE * cos
        first, second = upcast_NHE[..., :half], upcast_NHE[..., half:]
        rotated[..., :half].addcmul_(second, sin[..., half:] if back else sin[..., :half], value=1 if back else -1)
        rotated[..., half:].addcmul_(first, sin[..., :half] if back else sin[..., half:], value=-1 if back else 1)
        output_NHE[part] = rotated
    return output_NHE


def rope(
    x_NHE: torch.Tensor, cos_NE: torch.Tensor, sin_NE: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Rotary positions [N, H, E], computed in float32 or wider.

    Args:
        x_NHE: Queries or keys; E is even.
        cos_NE: Cosines of each token's angles; no gradient reaches them.
        sin_NE: Sines.
        dtype: Of the result; by default that of all three together.
    """
    kind = dtype or torch.promote_types(x_NHE.dtype, cos_NE.dtype)
    output: torch.Tensor = _Rope.apply(x_NHE, cos_NE, sin_NE, kind)  # type: ignore[no-untyped-call]
    return output
