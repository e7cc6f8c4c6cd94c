"""Matrix products by the library that is fast on this processor, and with no more memory than they need.

PyTorch's float32 products on the CPU are MKL's, and MKL keeps to AVX2 on processors that are not Intel's: half of what
they can do, or less. oneDNN, which PyTorch brings along, uses all of it. On such a processor the linear layers of a
float32 model call oneDNN; everywhere else, and in every other precision, PyTorch's own choice of library stands. The
figures are those of ``benchmarks/kernels.py``. Whatever the library, gradients of weights are written where they stand
(``kernels.gradients``).

oneDNN compiles a kernel for every shape it meets, so counts of tokens are rounded up (``rounded``): products of a
step whose shape was seen before cost nothing extra.

Shapes: N tokens, I inputs, O outputs.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import torch
from torch.nn import functional

from trueup.kernels.gradients import GradBuffer

GRAD_ROWS = 4096
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
    if is_cpu_float32(input_NI) and prefers_onednn():
        return _onednn(input_NI, weight_OI, bias_O)
    if out_NO is None:
        return functional.linear(input_NI, weight_OI, bias_O)
    if bias_O is None:
        return torch.mm(input_NI, weight_OI.t(), out=out_NO)
    return torch.addmm(bias_O, input_NI, weight_OI.t(), out=out_NO)


def weight_grad(grad_NO: torch.Tensor, input_NI: torch.Tensor) -> torch.Tensor:
    """``grad.T @ input`` [O, I], by the faster library."""
    if is_cpu_float32(grad_NO) and prefers_onednn():
        return _onednn_weight_grad(grad_NO, input_NI)
    return grad_NO.t() @ input_NI


def add_weight_grad_(buffer_OI: GradBuffer, grad_NO: torch.Tensor, input_NI: torch.Tensor) -> None:
    """Add ``grad.T @ input`` [O, I] to the gradient of a weight; on the CPU some rows at a time."""
    rows = GRAD_ROWS if grad_NO.device.type == "cpu" else max(1, grad_NO.shape[1])
    directly = buffer_OI.total.dtype is grad_NO.dtype and not (is_cpu_float32(grad_NO) and prefers_onednn())
    for begin in range(0, grad_NO.shape[1], rows):
        part = slice(begin, begin + rows)
        if not directly:
            buffer_OI.add_(weight_grad(grad_NO[:, part], input_NI), part)
        elif buffer_OI.empty:
            torch.mm(grad_NO[:, part].t(), input_NI, out=buffer_OI.total[part])
        else:
            buffer_OI.total[part].addmm_(grad_NO[:, part].t(), input_NI)
    buffer_OI.empty = False


def is_cpu_float32(tensor: torch.Tensor) -> bool:
    """Whether the choice of library is ours: a float32 tensor on the CPU that holds something."""
    return tensor.dtype is torch.float32 and tensor.device.type == "cpu" and tensor.numel() > 0


def _onednn_weight_grad(grad_NO: torch.Tensor, input_NI: torch.Tensor) -> torch.Tensor:
    if input_NI.shape[1] < grad_NO.shape[1]:  # the first factor is copied when transposed: let it be the small one
        return _onednn(input_NI.t(), grad_NO.t(), None).t()
    return _onednn(grad_NO.t(), input_NI.t(), None)


def _onednn(input_NI: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> torch.Tensor:
    output_NO: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
        _dense(input_NI), _dense(weight_OI), bias_O, "none", [], ""
    )
    return output_NO


def _dense(matrix: torch.Tensor) -> torch.Tensor:
    """``matrix``, copied if it is part of a wider one: for those oneDNN only has plain loops, 100 times slower."""
    if matrix.is_contiguous() or matrix.t().is_contiguous():
        return matrix
    return matrix.t().contiguous().t() if matrix.stride(0) < matrix.stride(1) else matrix.contiguous()
