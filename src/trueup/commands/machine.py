"""``trueup doctor``: what this machine is good at, measured in a few seconds, and what to set because of it."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trueup.engine.device import tuned_process

SIZE = 1024
"""Side of the square products that are timed."""


@dataclass(frozen=True, slots=True)
class Health:
    """Facts of a machine. Rates are the best of several short runs."""

    python: str
    versions: dict[str, str]
    processor: str
    cores: int
    threads: int
    memory_gb: float | None
    disk_free_gb: float
    float32_gflops: float
    bfloat16_gflops: float
    copy_gb_per_s: float
    gpus: tuple[str, ...] = ()
    advice: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    def format_text(self) -> str:
        """For people."""
        memory = f"{self.memory_gb:.1f} GB memory" if self.memory_gb is not None else "memory unknown"
        lines = [
            f"python {self.python}; " + ", ".join(f"{name} {installed}" for name, installed in self.versions.items()),
            f"{self.processor}: {self.cores} cores, {self.threads} torch threads, {memory}, "
            f"{self.disk_free_gb:.0f} GB free on disk",
            f"matrix products: {self.float32_gflops:.0f} GFLOP/s in float32, {self.bfloat16_gflops:.0f} in bfloat16; "
            f"memory {self.copy_gb_per_s:.0f} GB/s",
            f"GPU: {', '.join(self.gpus) or 'none'}",
        ]
        return "\n".join([*lines, *(f"- {sentence}" for sentence in self.advice)])


def inspect_machine(folder: Path = Path()) -> Health:
    """Measure this machine; takes a few seconds."""
    import torch

    with tuned_process():
        single, half = _product_rate(torch.float32), _product_rate(torch.bfloat16)
    gpus = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = _memory_gb()
    threads = torch.get_num_threads()
    return Health(
        platform.python_version(),
        {name: installed_version(name) for name in ("trueup", "torch", "transformers", "peft")},
        _processor(),
        cores,
        threads,
        memory,
        shutil.disk_usage(folder).free / 2**30,
        single,
        half,
        _copy_rate(),
        gpus,
        advise(cores=cores, threads=threads, memory_gb=memory, ratio=half / single, gpus=bool(gpus)),
    )


def advise(*, cores: int, threads: int, memory_gb: float | None, ratio: float, gpus: bool) -> tuple[str, ...]:
    """Sentences that follow from the facts.

    Args:
        cores: Cores this process may use.
        threads: Threads torch uses.
        memory_gb: Memory that may be used, None where the system does not say.
        ratio: bfloat16 over float32 matrix rate.
        gpus: Whether there is a CUDA device.
    """
    sentences = []
    if gpus:
        sentences.append(
            "a GPU is here: `--set model.dtype=bfloat16` uses its tensor cores; model.device=auto finds it"
        )
    elif ratio >= 1.5:
        sentences.append(
            f"bfloat16 products run {ratio:.1f} times as fast as float32 here: `--set model.dtype=bfloat16` pays from "
            "about 10 million parameters on; weights that learn stay in float32"
        )
    else:
        sentences.append(f"bfloat16 runs at {ratio:.1f} times float32's rate here: leave model.dtype at float32")
    if threads != cores:
        sentences.append(
            f"torch uses {threads} threads of {cores} cores: set OMP_NUM_THREADS={cores} if nothing else runs"
        )
    if memory_gb is not None:
        # float32 weights, gradients and two Adam moments are 16 bytes a parameter; half is left to activations.
        sentences.append(
            f"{memory_gb:.0f} GB trains all weights of about {memory_gb / 2 / 16 * 1000:.0f} million parameters, more "
            "with LoRA; `trueup plan recipe.yaml` measures a given recipe"
        )
    return tuple(sentences)


def _best(run: Callable[[], Any], seconds: float = 0.4) -> float:
    """Shortest time of one call."""
    run()
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


def _product_rate(dtype: Any) -> float:
    import torch

    from trueup.kernels.products import product

    left, right = torch.randn(SIZE, SIZE, dtype=dtype), torch.randn(SIZE, SIZE, dtype=dtype)
    return 2 * SIZE**3 / _best(lambda: product(left, right)) / 1e9


def _copy_rate() -> float:
    import torch

    source = torch.zeros(32 << 20)  # 128 MB, beyond the caches
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / _best(lambda: target.copy_(source)) / 1e9


def _memory_gb() -> float | None:
    """What this process may use: the machine's memory, or its container's limit where that is lower."""
    limits = []
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < 1 << 60:
            limits.append(int(text))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits) / 2**30 if limits else None


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed_version(name: str) -> str:
    """The version of an installed package, or that it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
