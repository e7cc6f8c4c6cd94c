"""Bytes of holes in the heap of a small training, with and without the settings of ``trueup.commands.restart``.

python -m benchmarks.heap            # a few seconds; needs glibc
"""

from __future__ import annotations

import os
import subprocess
import sys

import torch
from torch import nn

from trueup.commands.restart import VARIABLE, with_tunables
from trueup.engine.device import _glibc, tuned_process


def main() -> None:
    """Train once in a process of each kind and print what its heap holds beside what is in use."""
    if "--once" in sys.argv:
        print(holes())
        return
    for name, value in (("plain", None), ("tunables", with_tunables(None))):
        environment = {k: v for k, v in os.environ.items() if k != VARIABLE} | ({VARIABLE: value} if value else {})
        command = [sys.executable, "-m", "benchmarks.heap", "--once"]
        print(name, subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip())


def holes() -> int:
    """Free bytes inside the heap at the peak of the last of six steps, each longer than the one before."""
    blocks = nn.ModuleList(
        nn.Sequential(nn.LayerNorm(256), nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256)) for _ in range(12)
    )
    optimizer = torch.optim.AdamW(blocks.parameters(), fused=True)
    libc = _glibc()
    with tuned_process():
        for step in range(6):
            x_ND = torch.ones(1024 + 64 * step, 256)
            with torch.autocast("cpu", torch.bfloat16):
                for block in blocks:
                    x_ND = x_ND + block(x_ND)
            heap = libc.mallinfo2()
            x_ND.square().mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return int(heap.arena - heap.uordblks - heap.keepcost)


if __name__ == "__main__":
    main()
