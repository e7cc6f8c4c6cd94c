"""The measurements behind the choices of kernels, best of several runs: ``python -m benchmarks.kernels``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.models.llama import modeling_llama

from trueup.engine.device import tuned_process
from trueup.kernels.attention import causal
from trueup.kernels.decoder import PackedLinear, StagingBuffer, _attend_by_pytorch, _attend_once
from trueup.kernels.elementwise import gelu, layer_norm, rms_norm, rope
from trueup.kernels.products import _onednn, _onednn_weight_grad, rounded, weight_grad
from trueup.kernels.recompute import recompute_of


def best(run: Callable[[], Any], repeats: int = 12) -> float:
    """Shortest time of one call, in milliseconds."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


def attention() -> list[str]:
    """Forward and backward of causal attention, PyTorch's kernel and ours, 12 heads of 64."""
    lines = ["| dtype | rows x tokens | forward | backward, PyTorch | backward, trueup |", "|---|---|---:|---:|---:|"]
    for dtype in (torch.bfloat16, torch.float32):
        for rows, width in ((11, 60), (4, 170), (2, 400)):
            tensors = [torch.randn(rows, 12, width, 64, dtype=dtype, requires_grad=True) for _ in range(3)]
            grad = torch.randn(rows, 12, width, 64, dtype=dtype)

            def both(kernel: Callable[..., torch.Tensor], given: Any = tensors, by: torch.Tensor = grad) -> None:
                torch.autograd.grad(kernel(*given), given, by)

            def peer(*given: torch.Tensor) -> torch.Tensor:
                return functional.scaled_dot_product_attention(*given, is_causal=True)

            with torch.no_grad():
                forward = best(lambda given=tensors: peer(*given))  # type: ignore[misc]
            theirs, ours = best(lambda run=both: run(peer)) - forward, best(lambda run=both: run(causal)) - forward
            name = str(dtype).removeprefix("torch.")
            lines.append(f"| {name} | {rows} x {width} | {forward:.2f} | {theirs:.2f} | {ours:.2f} |")
    return lines


def products() -> list[str]:
    """One decoding step's products at 32 rows: the layout of training against the one the decoder keeps."""
    lines = ["| dtype | in x out | linear | decoder |", "|---|---|---:|---:|"]
    for dtype in (torch.bfloat16, torch.float32):
        for width, out in ((256, 768), (768, 2304), (3072, 768)):
            rows, weight = torch.randn(32, width, dtype=dtype), torch.randn(out, width, dtype=dtype)
            packed = PackedLinear([weight], None, StagingBuffer(dtype, 32))
            plain = best(lambda x=rows, w=weight: functional.linear(x, w), 200)  # type: ignore[misc]
            ours = best(lambda x=rows, p=packed: p(x), 200)  # type: ignore[misc]
            lines.append(f"| {str(dtype).removeprefix('torch.')} | {width} x {out} | {plain:.3f} | {ours:.3f} |")
    return lines


def libraries() -> list[str]:
    """A layer's three products in training, by MKL and by oneDNN, float32; and what a shape costs that is new."""
    lines = [
        "| tokens x in x out | forward, MKL | oneDNN | to weight, MKL | oneDNN | forward at unseen shapes, oneDNN |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for tokens, width, out in ((1536, 128, 384), (1536, 344, 128), (2048, 768, 3072)):
        x, weight, grad = torch.randn(tokens, width), torch.randn(out, width), torch.randn(tokens, out)
        times = [
            best(lambda a=x, w=weight: functional.linear(a, w), 60),  # type: ignore[misc]
            best(lambda a=x, w=weight: _onednn(a, w, None), 60),  # type: ignore[misc]
            best(lambda a=x, g=grad: g.t() @ a, 60),  # type: ignore[misc]
            best(lambda a=x, g=grad: _onednn_weight_grad(g, a), 60),  # type: ignore[misc]
        ]
        rows = [torch.randn(tokens + k, width) for k in range(1, 41)]
        began = time.perf_counter()
        for row in rows:
            _onednn(row, weight, None)
        times.append((time.perf_counter() - began) / len(rows) * 1e3)
        lines.append(f"| {tokens} x {width} x {out} | " + " | ".join(f"{one:.2f}" for one in times) + " |")
    return lines


def changing() -> list[str]:
    """The weights' gradient of a layer 768 to 3072 wide in bfloat16, GFLOP/s, when every step has another length."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1000, 2000, (150,), generator=draw).tolist()
    lines = ["| lengths | GFLOP/s |", "|---|---:|"]
    for name, sizes in (("as they come", lengths), ("rounded", [rounded(n) for n in lengths])):
        seconds = 0.0
        for tokens in sizes:
            x, grad = (torch.randn(tokens, width, dtype=torch.bfloat16) for width in (768, 3072))
            began = time.perf_counter()
            weight_grad(grad, x)
            seconds += time.perf_counter() - began
        lines.append(f"| {name} | {2 * sum(sizes) * 768 * 3072 / seconds / 1e9:.0f} |")
    return lines


def single_queries() -> list[str]:
    """Attention of one query a row on a cache of 128 tokens, 32 rows: PyTorch's kernel and the decoder's products.

    The decoder reads a block that is as wide as the cache; beside it, the same of a part of a wider block.
    """
    lines = [
        "| cache | heads x width | PyTorch | decoder, a part of a block | decoder, whole block |",
        "|---|---|---:|---:|---:|",
    ]
    for dtype in (torch.bfloat16, torch.float32):
        for heads, kv_heads, size in ((4, 4, 64), (12, 12, 64), (16, 4, 128)):
            query = torch.randn(32, heads, size, dtype=dtype)
            wider = [torch.randn(32, kv_heads, 144, size, dtype=dtype) for _ in range(2)]
            parts = [block[:, :, :128] for block in wider]
            mask, bias = (torch.zeros(shape, dtype=dtype) for shape in ((32, 1, 1, 128), (32 * kv_heads, 1, 128)))
            times = [best(lambda q=query, kv=parts, b=mask: _attend_by_pytorch(q, *kv, b), 100)]  # type: ignore[misc]
            for blocks in (parts, [part.contiguous() for part in parts]):
                times.append(best(lambda q=query, kv=blocks, b=bias: _attend_once(q, *kv, b), 100))  # type: ignore[misc]
            name = str(dtype).removeprefix("torch.")
            shown = " | ".join(f"{one:.2f}" for one in times)
            lines.append(f"| {name} | {heads} ({kv_heads}) x {size} | {shown} |")
    return lines


def fused() -> list[str]:
    """Forward and backward of a block's element-wise layers: 3,456 tokens, bfloat16.

    Three products read RMSNorm, one the others. Our GELU makes its result twice, as in training; PyTorch's once.
    """
    lines = ["| layer | width | Hugging Face | trueup |", "|---|---:|---:|---:|"]
    count, narrow = 3456, torch.bfloat16
    for width in (256, 768):
        norm = modeling_llama.LlamaRMSNorm(width)
        state_ND = torch.randn(count, width, requires_grad=True)
        grads = [torch.randn(count, width, dtype=narrow)] * 3

        def read(normed: torch.Tensor, by: list[torch.Tensor] = grads) -> None:
            torch.autograd.backward([normed.to(narrow).view_as(normed) for _ in by], by)

        theirs = best(lambda x=state_ND, n=norm, run=read: run(n(x)))  # type: ignore[misc]
        ours = best(lambda x=state_ND, n=norm, run=read: run(rms_norm(x, n.weight, 1e-6, dtype=narrow)))  # type: ignore[misc]
        lines.append(f"| RMSNorm | {width} | {theirs:.2f} | {ours:.2f} |")
    layer = nn.LayerNorm(768)
    state_ND, grad = torch.randn(count, 768, requires_grad=True), torch.randn(count, 768, dtype=narrow)
    theirs = best(lambda: layer(state_ND).to(narrow).backward(grad))
    ours = best(lambda: layer_norm(state_ND, layer.weight, layer.bias, layer.eps, dtype=narrow).backward(grad))
    lines.append(f"| LayerNorm | 768 | {theirs:.2f} | {ours:.2f} |")
    wide, slope = torch.randn(count, 3072, dtype=narrow, requires_grad=True), torch.randn(count, 3072, dtype=narrow)

    def gelu_twice() -> None:
        found = gelu(wide)
        origin = recompute_of(found, narrow)
        assert origin is not None
        with torch.no_grad():
            origin.make(*origin.ingredients)
        found.backward(slope)

    theirs = best(lambda: functional.gelu(wide, approximate="tanh").backward(slope))
    lines.append(f"| GELU | 3072 | {theirs:.2f} | {best(gelu_twice):.2f} |")
    for heads in (4, 12):
        query = torch.randn(count, heads, 64, dtype=narrow, requires_grad=True)
        cos, sin, grad = torch.randn(count, 64), torch.randn(count, 64), torch.randn(count, heads, 64, dtype=narrow)

        def peer(x: torch.Tensor, c: torch.Tensor = cos, s: torch.Tensor = sin) -> torch.Tensor:
            turned = x * c[:, None] + modeling_llama.rotate_half(x) * s[:, None]
            return turned.to(narrow)

        theirs = best(lambda x=query, by=grad, run=peer: run(x).backward(by))  # type: ignore[misc]
        ours = best(lambda x=query, by=grad, c=cos, s=sin: rope(x, c, s, narrow).backward(by))  # type: ignore[misc]
        lines.append(f"| rotary positions | {heads} x 64 | {theirs:.2f} | {ours:.2f} |")
    return lines


def denormals() -> list[str]:
    """A product of tiny numbers, as gradients of well separated pairs are, with and without flushing them to zero."""
    torch.set_flush_denormal(False)
    tiny, weight = torch.randn(256, 4096) * 1e-39, torch.randn(4096, 1024)
    kept = best(lambda: tiny @ weight, 2)
    torch.set_flush_denormal(True)
    flushed = best(lambda: tiny @ weight, 3)
    return ["| numbers below 1e-38 | ms |", "|---|---:|", f"| flushed | {flushed:.1f} |", f"| kept | {kept:.1f} |"]


def main() -> None:
    """Print the tables."""
    print(f"{torch.get_num_threads()} threads\n")
    with tuned_process():
        for table in (attention, single_queries, products, libraries, changing, fused, denormals):
            print("\n".join(table()), end="\n\n")


if __name__ == "__main__":
    main()
