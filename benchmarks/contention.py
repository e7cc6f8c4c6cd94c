"""What busy neighbours cost: milliseconds a training step, alone and beside as many busy programs as cores.

    python -m benchmarks.contention            # six quiet minutes; writes results/contention.json

The step is SFT of a two-layer Llama, 24 rows of up to 64 tokens. Three sides, each cell a process of its own, in turn:
ours as it is, ours with OpenMP's own way of waiting (``engine.waiting`` off), and a plain loop over the same model and
rows with transformers and PyTorch's AdamW. A neighbour is a program that counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path("benchmarks/results/contention.json")
SPIN = "import time\nend = time.time() + 600\nwhile time.time() < end:\n    pass"
ROWS, PROMPT, ANSWER = 24, 20, 44
SIDES = ("ours", "ours, waiting as OpenMP is set", "plain loop")
WARM = 5
"""Steps at the start that are not counted: kernels are chosen, and the watch takes its first looks."""


def main() -> None:
    """Measure every cell in turn, several times, or one (``--side``)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=SIDES, help="one side in this process; prints its result")
    parser.add_argument("--seconds", type=float, default=10.0, help="time of one cell")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, args.seconds)))
        return
    cores = len(os.sched_getaffinity(0))
    cells = [(side, neighbours) for neighbours in (0, cores) for side in SIDES]
    times: dict[tuple[str, int], list[float]] = {cell: [] for cell in cells}
    for _ in range(args.rounds):
        for cell in cells:
            times[cell].append(run(*cell, args.seconds))
            print(*cell, round(times[cell][-1]), flush=True)
    rows = [
        {"side": side, "neighbours": n, "milliseconds": statistics.median(t), "rounds": t}
        for (side, n), t in times.items()
    ]
    machine = {"cores": cores, "processor": processor(), "python": platform.python_version()}
    RESULTS.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def run(side: str, neighbours: int, seconds: float) -> float:
    """Mean milliseconds of one side's step in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(neighbours)]
    try:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.contention", "--side", side]
        done = subprocess.run(
            [*command, "--seconds", str(seconds)], env=clean, capture_output=True, text=True, check=True
        )
    finally:
        for other in others:
            other.kill()
            other.wait()
    return float(json.loads(done.stdout))


def measure(side: str, seconds: float) -> float:
    """Mean milliseconds of a step after the warm ones; the mean, because a step that stalls is what hurts."""
    from trueup.engine import device

    if side == "plain loop":
        return timed(plain(), seconds)
    if side == SIDES[1]:
        device.adaptive_waiting = contextlib.nullcontext
    with device.tuned_process():
        return timed(ours(), seconds)


def timed(step: Callable[[], None], seconds: float) -> float:
    """Mean milliseconds of ``step``, called for so many seconds and ten times at least."""
    for _ in range(WARM):
        step()
    count, began = 0, time.perf_counter()
    while count < 10 or time.perf_counter() - began < seconds:
        step()
        count += 1
    return 1e3 * (time.perf_counter() - began) / count


def sequences() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The same prompts and answers for all sides."""
    draw = random.Random(0)
    return [
        (tuple(draw.choices(range(500), k=PROMPT)), tuple(draw.choices(range(500), k=ANSWER - draw.randrange(24))))
        for _ in range(ROWS)
    ]


def model() -> Any:
    """A two-layer Llama of random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=2000,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        pad_token_id=0,
    )
    return AutoModelForCausalLM.from_config(config)


def plain() -> Callable[[], None]:
    """A step that uses nothing of ours: padded rows, the model's own loss positions, PyTorch's AdamW."""
    import torch
    from torch.nn import functional

    policy, rows = model(), sequences()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4)
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids_BT, labels_BT = torch.zeros(ROWS, width, dtype=torch.long), torch.full((ROWS, width), -100)
    for row, (prompt, answer) in enumerate(rows):
        whole = torch.tensor(prompt + answer)
        ids_BT[row, : len(whole)] = whole
        labels_BT[row, len(prompt) : len(whole)] = whole[len(prompt) :]
    mask_BT = (torch.arange(width) < torch.tensor([len(p) + len(a) for p, a in rows])[:, None]).long()

    def step() -> None:
        logits_BTV = policy(input_ids=ids_BT, attention_mask=mask_BT).logits
        functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours() -> Callable[[], None]:
    """A step of our SFT loop: score, accumulate, update."""
    import torch

    from trueup.config import Optim
    from trueup.data.batch import Rows
    from trueup.engine.score import score
    from trueup.engine.step import Stepper
    from trueup.models.policy import Policy

    policy, rows = Policy(model(), None, torch.device("cpu"), torch.float32, "benchmark"), sequences()
    stepper = Stepper(policy.trainable(), Optim(learning_rate=1e-4), 1_000_000)
    tokens = sum(len(answer) for _, answer in rows)

    def step() -> None:
        stepper.accumulate(-score(policy, Rows.of(rows)).logps_BC, count=tokens)
        stepper.step()

    return step


def processor() -> str:
    """Name of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
