"""Linear layers and embeddings of a model on the CPU: faster products, less kept, gradients where they stand.

Products go to the library that is fast here (``kernels.products``). Under bfloat16 autocast PyTorch keeps a
low-precision copy of every weight from the forward to the backward pass, half the size of the model; these layers cast
their weight a second time instead, which costs little beside the products. An input that can be recomputed
(``kernels.recompute``), or that no gradient of a weight needs, is not kept.

Shapes: N tokens, I inputs, O outputs, V rows of an embedding, D its width.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from trueup.kernels.compare import TOLERANCE
from trueup.kernels.gradients import GradBuffer, Gradients, allow_in_place
from trueup.kernels.products import add_weight_grad_, autocast_dtype, is_cpu_float32, product
from trueup.kernels.recompute import Recompute, recompute_of

LEAST_OUTPUTS = 8
"""Narrower layers (a reward head) are no matrix product worth the name."""


class _Linear(torch.autograd.Function):
    """``input @ weight.T + bias`` in the precision of ``input``, and its gradients; ``transposed`` weights are [I, O].

    A weight of higher precision is cast again for the backward pass and not kept. Nor is the input, where it can be
    recomputed or where the weight learns nothing.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input_NI: torch.Tensor,
        weight: torch.Tensor,
        bias_O: torch.Tensor | None,
        transposed: bool,
        tag: Recompute | None,
    ) -> torch.Tensor:
        ctx.recompute = None if tag is None else tag.fn
        kept = (input_NI,) if tag is None else tag.inputs
        ctx.save_for_backward(weight, *(kept if ctx.needs_input_grad[1] else ()))
        ctx.parameter, ctx.transposed = weight, transposed
        as_used = weight.to(input_NI.dtype)
        bias_O = None if bias_O is None else bias_O.to(input_NI.dtype)
        return product(input_NI, as_used.t() if transposed else as_used, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, *kept = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_input = grad_weight = None
        if needs_input:
            as_used = weight.to(grad_NO.dtype)
            grad_input = product(grad_NO, as_used if ctx.transposed else as_used.t())
        if needs_weight:
            input_NI = kept[0] if ctx.recompute is None else ctx.recompute(*kept).flatten(0, -2)
            buffer = GradBuffer(ctx.parameter)
            add_weight_grad_(buffer, *((input_NI, grad_NO) if ctx.transposed else (grad_NO, input_NI)))
            grad_weight = buffer.for_autograd
        return grad_input, grad_weight, grad_NO.sum(0).to(weight.dtype) if needs_bias else None, None, None


def _precision(input_: torch.Tensor, weight: torch.Tensor) -> torch.dtype | None:
    """The precision in which our products compute this layer; None where PyTorch's own choice stands."""
    if not is_cpu_float32(weight) or input_.device.type != "cpu" or not input_.numel():
        return None
    low_precision = autocast_dtype("cpu")
    if low_precision is not None:
        fits = low_precision is torch.bfloat16 and input_.dtype in (torch.float32, torch.bfloat16)
        return torch.bfloat16 if fits else None
    return torch.float32 if input_.dtype is torch.float32 else None


def _linear(input_: torch.Tensor, layer: nn.Module, precision: torch.dtype, transposed: bool) -> torch.Tensor:
    flat_NO: torch.Tensor = _Linear.apply(  # type: ignore[no-untyped-call]
        input_.flatten(0, -2).to(precision), layer.weight, layer.bias, transposed, recompute_of(input_, precision)
    )
    return flat_NO.view(*input_.shape[:-1], -1)


class FastLinear(nn.Linear):
    """``nn.Linear`` whose products on the CPU are ours."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``[..., I] -> [..., O]``."""
        precision = _precision(input, self.weight)
        return super().forward(input) if precision is None else _linear(input, self, precision, False)


class _Lookup(torch.autograd.Function):
    """Rows of an embedding; their gradients are added one by one."""

    @staticmethod
    def forward(ctx: Any, weight_VD: torch.Tensor, ids: torch.Tensor, padding: int | None) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.parameter, ctx.padding = weight_VD, padding
        return functional.embedding(ids, weight_VD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        (ids,) = ctx.saved_tensors
        buffer = GradBuffer(ctx.parameter)
        if buffer.empty:
            buffer.total.zero_()
        if ctx.padding is not None:
            grad = grad.masked_fill((ids == ctx.padding).unsqueeze(-1), 0.0)
        buffer.total.index_add_(0, ids.flatten(), grad.flatten(0, -2).to(buffer.total.dtype))
        return buffer.for_autograd, None, None


class FastEmbedding(nn.Embedding):
    """``nn.Embedding`` whose gradient on the CPU is added in place where it may be."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``[...] -> [..., D]``."""
        if self.weight.device.type != "cpu":
            return super().forward(input)
        rows: torch.Tensor = _Lookup.apply(self.weight, input, self.padding_idx)  # type: ignore[no-untyped-call]
        return rows


class FastConv1D(Conv1D):  # type: ignore[misc]
    """GPT-2's linear layer, whose weight stands as [I, O], with our products on the CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., I] -> [..., O]``."""
        precision = _precision(x, self.weight)
        if precision is not None:
            return _linear(x, self, precision, True)
        output: torch.Tensor = super().forward(x)
        return output


def use_fast_linears(model: Any) -> int:
    """Give the linear layers and embeddings of ``model`` our products, in place. Returns how many have them.

    Parameters, names and saved files do not change. The output layer is left alone: log-probs are computed apart.
    """
    head = model.get_output_embeddings()
    count = 0
    for module in model.modules():
        if module is head:
            continue
        if type(module) is nn.Linear and module.out_features >= LEAST_OUTPUTS:
            module.__class__ = FastLinear
        elif type(module) is Conv1D:
            module.__class__ = FastConv1D
        elif type(module) is nn.Embedding and not (module.sparse or module.max_norm or module.scale_grad_by_freq):
            module.__class__ = FastEmbedding
        else:
            continue
        count += 1
    return count


@torch.no_grad()
def cast_frozen_weights(model: Any, dtype: torch.dtype) -> list[tuple[nn.Parameter, torch.Tensor]]:
    """Hold weights that only products in ``dtype`` read in that precision, in place.

    For a model that learns no more and runs under autocast, which casts them at every pass. What others read too,
    such as a tied embedding, stays as precise as it is.

    Returns:
        The parameters that were cast, each with its values before.
    """
    head, readers = model.get_output_embeddings(), Counter[int]()
    for module in model.modules():
        readers.update(id(parameter) for parameter in module.parameters(recurse=False))
    cast = []
    for module in model.modules():
        linear = isinstance(module, FastLinear | FastConv1D) or (module is head and type(module) is nn.Linear)
        if linear and is_cpu_float32(module.weight) and readers[id(module.weight)] == 1:
            cast.append((module.weight, module.weight.data))
            module.weight.data = module.weight.to(dtype)
    return cast


@functools.cache
def in_place_problem() -> str | None:
    """How gradients that are written in place differ from those that autograd adds up; None where they agree."""
    draw = torch.Generator().manual_seed(0)
    layer, x_NI = FastLinear(8, 16), torch.randn(6, 8, generator=draw)
    layer.weight.data = torch.randn(16, 8, generator=draw)
    results: list[torch.Tensor] = []
    for in_place in (False, True):
        layer.weight.grad = None
        allow_in_place([layer.weight], in_place)
        with torch.enable_grad(), Gradients([layer.weight]).accumulating():
            for _ in range(2):
                layer(x_NI).square().sum().backward()
        assert layer.weight.grad is not None
        results.append(layer.weight.grad)
    gap = float((results[1] - results[0]).abs().max() / results[0].abs().max())
    return None if gap < TOLERANCE else f"sums of two passes differ by {gap:.1e}"
