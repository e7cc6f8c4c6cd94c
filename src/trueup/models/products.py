"""Matrix products by the library that is fast on this processor, and with no more memory than they need.

PyTorch's float32 products on the CPU are MKL's, and MKL keeps to AVX2 on processors that are not Intel's: half of what
they can do, or less. oneDNN, which PyTorch brings along, uses all of it. On such a processor the linear layers of a
float32 model call oneDNN; everywhere else, and in every other precision, PyTorch's own choice of library stands. The
figures are those of ``benchmarks/kernels.py``. Whatever the library, gradients of weights and embeddings are written
where they stand (``models.gradients``).

Under bfloat16 autocast PyTorch keeps a narrow copy of every weight from the forward to the backward pass, half the
size of the model. On the CPU the linear layers narrow their weight a second time instead, which costs little beside the
products.

oneDNN compiles a kernel for every shape it meets, so counts of tokens are rounded up (``rounded``): products of a
step whose shape was seen before cost nothing extra.

Shapes: N tokens, I inputs, O outputs.
"""

from __future__ import annotations

import functools
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from trueup.models.gradients import Slope
from trueup.models.remade import Origin, origin_of

LEAST_OUTPUTS = 8
"""Narrower layers (a reward head) are no matrix product worth the name."""
SLOPE_ROWS = 4096
"""Rows of a weight whose gradient is made at a time on the CPU, before it is added to the rest: a few megabytes."""
COARSEST = 64
"""Counts of tokens are rounded up to a multiple of this, or of less where it would be more than a sixteenth."""


def rounded(count: int, share: int = 16) -> int:
    """``count`` rounded up so that few shapes occur: by at most one part in ``share``."""
    unit = min(COARSEST, 1 << max(0, (count // share).bit_length() - 1))
    return -(-count // unit) * unit


@functools.cache
def prefers_onednn() -> bool:
    """Whether float32 products are faster by oneDNN than by MKL on this machine's processor."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "AuthenticAMD" in _vendor()
    )


@functools.cache
def has_amx() -> bool:
    """Whether this machine's processor has matrix units for bfloat16 (AMX), which PyTorch's attention uses."""
    return "amx_bf16" in _processor("flags").split()


def autocast_dtype(kind: str) -> torch.dtype | None:
    """The precision of products under autocast on this kind of device; None outside autocast."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _vendor() -> str:
    return _processor("vendor_id") or platform.processor()


def _processor(field: str) -> str:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def product(
    input_NI: torch.Tensor,
    weight_OI: torch.Tensor,
    bias_O: torch.Tensor | None = None,
    *,
    out_NO: torch.Tensor | None = None,
) -> torch.Tensor:
    """``input @ weight.T + bias`` [N, O] without gradient, by the faster library; any strides.

    ``out_NO`` may be written to, which saves its pages; what is returned counts.
    """
    if _fits(input_NI) and prefers_onednn():
        return _onednn(input_NI, weight_OI, bias_O)
    if out_NO is None:
        return functional.linear(input_NI, weight_OI, bias_O)
    if bias_O is None:
        return torch.mm(input_NI, weight_OI.t(), out=out_NO)
    return torch.addmm(bias_O, input_NI, weight_OI.t(), out=out_NO)


def weight_slope(grad_NO: torch.Tensor, input_NI: torch.Tensor) -> torch.Tensor:
    """``grad.T @ input`` [O, I], by the faster library."""
    if _fits(grad_NO) and prefers_onednn():
        return _onednn_slope(grad_NO, input_NI)
    return grad_NO.t() @ input_NI


def add_weight_slope_(sum_OI: Slope, grad_NO: torch.Tensor, input_NI: torch.Tensor) -> None:
    """Add ``grad.T @ input`` [O, I] to the gradient of a weight; on the CPU some rows at a time."""
    rows = SLOPE_ROWS if grad_NO.device.type == "cpu" else max(1, grad_NO.shape[1])
    directly = sum_OI.total.dtype is grad_NO.dtype and not (_fits(grad_NO) and prefers_onednn())
    for begin in range(0, grad_NO.shape[1], rows):
        part = slice(begin, begin + rows)
        if not directly:
            sum_OI.add_(weight_slope(grad_NO[:, part], input_NI), part)
        elif sum_OI.empty:
            torch.mm(grad_NO[:, part].t(), input_NI, out=sum_OI.total[part])
        else:
            sum_OI.total[part].addmm_(grad_NO[:, part].t(), input_NI)
    sum_OI.empty = False


def _fits(tensor: torch.Tensor) -> bool:
    return tensor.dtype is torch.float32 and tensor.device.type == "cpu" and tensor.numel() > 0


def _onednn_slope(grad_NO: torch.Tensor, input_NI: torch.Tensor) -> torch.Tensor:
    if input_NI.shape[1] < grad_NO.shape[1]:  # the first factor is copied when it is turned: let it be the small one
        return _onednn(input_NI.t(), grad_NO.t(), None).t()
    return _onednn(grad_NO.t(), input_NI.t(), None)


def _onednn(input_NI: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> torch.Tensor:
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
        _dense(input_NI), _dense(weight_OI), bias_O, "none", [], ""
    )
    return found


def _dense(matrix: torch.Tensor) -> torch.Tensor:
    """``matrix``, copied if it is part of a wider one: for those oneDNN only has plain loops, 100 times slower."""
    if matrix.is_contiguous() or matrix.t().is_contiguous():
        return matrix
    return matrix.t().contiguous().t() if matrix.stride(0) < matrix.stride(1) else matrix.contiguous()


class _Linear(torch.autograd.Function):
    """``input @ weight.T + bias`` in the precision of ``input``, and its gradients; ``turned`` weights are [I, O].

    A weight that is wider than that is narrowed again for the backward pass and not kept. Nor is the input, where its
    origin is known or where the weight learns nothing.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input_NI: torch.Tensor,
        weight: torch.Tensor,
        bias_O: torch.Tensor | None,
        turned: bool,
        origin: Origin | None,
    ) -> torch.Tensor:
        ctx.make = None if origin is None else origin.make
        kept = (input_NI,) if origin is None else origin.ingredients
        ctx.save_for_backward(weight, *(kept if ctx.needs_input_grad[1] else ()))
        ctx.parameter, ctx.turned = weight, turned
        as_used = weight.to(input_NI.dtype)
        bias_O = None if bias_O is None else bias_O.to(input_NI.dtype)
        return product(input_NI, as_used.t() if turned else as_used, bias_O)

    @staticmethod
    def backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, *kept = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        to_input = to_weight = None
        if needs_input:
            as_used = weight.to(grad_NO.dtype)
            to_input = product(grad_NO, as_used if ctx.turned else as_used.t())
        if needs_weight:
            input_NI = kept[0] if ctx.make is None else ctx.make(*kept).flatten(0, -2)
            slope = Slope(ctx.parameter)
            add_weight_slope_(slope, *((input_NI, grad_NO) if ctx.turned else (grad_NO, input_NI)))
            to_weight = slope.for_autograd
        return to_input, to_weight, grad_NO.sum(0).to(weight.dtype) if needs_bias else None, None, None


def _precision(input_: torch.Tensor, weight: torch.Tensor) -> torch.dtype | None:
    """The precision in which our products compute this layer; None where PyTorch's own choice stands."""
    if not _fits(weight) or input_.device.type != "cpu" or not input_.numel():
        return None
    narrow = autocast_dtype("cpu")
    if narrow is not None:
        fits = narrow is torch.bfloat16 and input_.dtype in (torch.float32, torch.bfloat16)
        return torch.bfloat16 if fits else None
    return torch.float32 if input_.dtype is torch.float32 else None


def _linear(input_: torch.Tensor, layer: nn.Module, precision: torch.dtype, turned: bool) -> torch.Tensor:
    flat_NO: torch.Tensor = _Linear.apply(  # type: ignore[no-untyped-call]
        input_.flatten(0, -2).to(precision), layer.weight, layer.bias, turned, origin_of(input_, precision)
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
    def forward(ctx: Any, weight_VD: torch.Tensor, ids: torch.Tensor, idle: int | None) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.parameter, ctx.idle = weight_VD, idle
        return functional.embedding(ids, weight_VD)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        (ids,) = ctx.saved_tensors
        slope = Slope(ctx.parameter)
        if slope.empty:
            slope.total.zero_()
        if ctx.idle is not None:
            grad = grad.masked_fill((ids == ctx.idle).unsqueeze(-1), 0.0)
        slope.total.index_add_(0, ids.flatten(), grad.flatten(0, -2).to(slope.total.dtype))
        return slope.for_autograd, None, None


class FastEmbedding(nn.Embedding):
    """``nn.Embedding`` whose gradient on the CPU is added in place where it may be."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``[...] -> [..., D]``."""
        if self.weight.device.type != "cpu":
            return super().forward(input)
        found: torch.Tensor = _Lookup.apply(self.weight, input, self.padding_idx)  # type: ignore[no-untyped-call]
        return found


class FastConv1D(Conv1D):  # type: ignore[misc]
    """GPT-2's linear layer, whose weight stands as [I, O], with our products on the CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., I] -> [..., O]``."""
        precision = _precision(x, self.weight)
        if precision is not None:
            return _linear(x, self, precision, True)
        found: torch.Tensor = super().forward(x)
        return found


def quicken(model: Any) -> int:
    """Give the linear layers and embeddings of ``model`` our products, in place. Returns how many have them.

    Parameters, names and saved files do not change. The output layer is left alone: log-probs are computed apart.
    """
    head = model.get_output_embeddings()
    found = 0
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
        found += 1
    return found


@torch.no_grad()
def hold_narrow(model: Any, dtype: torch.dtype) -> list[tuple[nn.Parameter, torch.Tensor]]:
    """Hold weights that only products in ``dtype`` read in that precision, in place.

    For a model that learns no more and runs under autocast, which narrows them at every pass. What others read too,
    such as a tied embedding, stays as precise as it is.

    Returns:
        The parameters that were narrowed, each with its wide values.
    """
    head, readers = model.get_output_embeddings(), Counter[int]()
    for module in model.modules():
        readers.update(id(parameter) for parameter in module.parameters(recurse=False))
    found = []
    for module in model.modules():
        linear = isinstance(module, FastLinear | FastConv1D) or (module is head and type(module) is nn.Linear)
        if linear and _fits(module.weight) and readers[id(module.weight)] == 1:
            found.append((module.weight, module.weight.data))
            module.weight.data = module.weight.to(dtype)
    return found
