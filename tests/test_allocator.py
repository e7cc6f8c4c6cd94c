"""The program starts anew with a heap that can use its holes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trueup.allocator import ONCE, SETTINGS, VARIABLE, _is_glibc, settled
from trueup.engine.device import _glibc

needs_glibc = pytest.mark.skipif(not _is_glibc(), reason="the C library is not glibc")


def run(*command: str, **environment: str) -> list[str]:
    """The lines that a program prints which is started without our settings."""
    clean = {name: value for name, value in os.environ.items() if name not in (VARIABLE, ONCE)}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, env=clean | environment
    )
    return done.stdout.splitlines()


def test_settings_are_added_to_those_that_are_there_and_never_replace_them() -> None:
    ours = [f"{name}={value}" for name, value in SETTINGS.items()]
    assert settled(None) == settled("") == ":".join(ours)
    assert settled("glibc.malloc.check=3") == ":".join(["glibc.malloc.check=3", *ours])
    assert settled("glibc.malloc.tcache_count=7") == ":".join(["glibc.malloc.tcache_count=7", *ours[1:]])
    assert settled(settled("glibc.malloc.check=3")) == settled("glibc.malloc.check=3")


ONE = """
import os, sys
print("began", os.getpid(), flush=True)
from trueup.allocator import restart
restart()
print("went on", os.getpid(), os.environ["GLIBC_TUNABLES"], *sys.argv[1:])
"""


@needs_glibc
def test_a_program_is_started_anew_once_in_the_same_process_with_the_same_arguments() -> None:
    first, second, third = run("-W", "ignore", "-c", ONE, "two words", "--flag")
    number = first.split()[1]
    assert first == second == f"began {number}"
    assert third == f"went on {number} {settled(None)} two words --flag"


@needs_glibc
def test_a_program_that_is_settled_or_was_started_anew_goes_on() -> None:
    assert len(run("-c", ONE, **{VARIABLE: settled(None)})) == 2
    assert len(run("-c", ONE, **{VARIABLE: "glibc.malloc.check=0", ONCE: "1"})) == 2


HOLES = """
import sys
if "settled" in sys.argv:
    from trueup.allocator import restart
    restart()
import torch
from torch import nn
from trueup.engine.device import _glibc, tuned_process

def block():
    return nn.Sequential(nn.LayerNorm(256), nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256))

blocks = nn.ModuleList(block() for _ in range(12))
optimizer = torch.optim.AdamW(blocks.parameters(), fused=True)
with tuned_process():
    for step in range(6):
        x_ND = torch.ones(1024 + 64 * step, 256)
        with torch.autocast("cpu", torch.bfloat16):
            for one in blocks:
                x_ND = x_ND + one(x_ND)
        heap = _glibc().mallinfo2()
        x_ND.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
print(heap.arena - heap.uordblks - heap.keepcost)
"""


@needs_glibc
@pytest.mark.skipif(torch.cuda.is_available(), reason="the heap is left alone where a GPU holds the tensors")
def test_training_leaves_fewer_holes() -> None:
    if _glibc() is None:
        pytest.skip("this glibc does not tell of its heap")
    before, after = (int(run("-W", "ignore", "-c", HOLES, word)[-1]) for word in ("plain", "settled"))
    assert after < 0.8 * before


@needs_glibc
@pytest.mark.parametrize("command", [("-m", "trueup"), (str(Path(sys.executable).with_name("trueup")),)])
def test_the_command_starts_anew(command: tuple[str, ...], tmp_path: Path) -> None:
    watch = "import os\nprint('GLIBC', os.environ.get('GLIBC_TUNABLES'), flush=True)\n"
    (tmp_path / "sitecustomize.py").write_text(watch)
    lines = run(*command, "--help", PYTHONPATH=str(tmp_path))
    assert [line for line in lines if line.startswith("GLIBC")] == ["GLIBC None", f"GLIBC {settled(None)}"]
    assert any("quickstart" in line for line in lines)
