"""How a DPO step's time and memory grow with prompt, answer, pairs, vocabulary and model size.

    python -m benchmarks.scaling            # about ten minutes on two cores; writes results/scaling.json

One axis moves, the others stay at the base. Each point is a process of its own: median of its steps, peak memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from trueup.commands.restart import restart

RESULTS = Path("benchmarks/results/scaling.json")
BASE = {"prompt": 128, "answer": 48, "pairs": 8, "vocabulary": 16_384, "width": 512}
AXES = {
    "prompt": (32, 128, 512, 1024),
    "answer": (16, 48, 144, 432),
    "pairs": (2, 8, 32, 64),
    "vocabulary": (4_096, 16_384, 65_536, 131_072),
    "width": (128, 256, 512, 1024),
}
LAYERS = 8


def main() -> None:
    """Measure every point, or one (``--point``)."""
    restart(any_program=True)  # as the command does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", help="JSON of one point; prints its result")
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    if args.point:
        print("RESULT " + json.dumps(measure(json.loads(args.point), args.dtype)))
        return
    found: dict[str, Any] = {"base": BASE, "layers": LAYERS, "dtype": args.dtype, "axes": {}}
    for axis, values in AXES.items():
        found["axes"][axis] = []
        for value in values:
            point = BASE | {axis: value}
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scaling", "--dtype", args.dtype]
            done = subprocess.run([*command, "--point", json.dumps(point)], capture_output=True, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if done.returncode or not lines:
                raise SystemExit(f"{point} failed:\n{done.stderr[-3000:]}")
            result = json.loads(lines[-1].removeprefix("RESULT "))
            found["axes"][axis].append(point | result)
            print(axis, value, result, flush=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def measure(point: dict[str, int], dtype: str) -> dict[str, float]:
    """Seconds and peak memory of DPO steps on random pairs of one shape: reference counted, first step not."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from benchmarks.flops import Shape, pair_step
    from trueup.config import Batch, Optim
    from trueup.data.render import RenderedPair, pair_length
    from trueup.engine.device import peak_memory, tuned_process
    from trueup.engine.score import sequence_logps
    from trueup.engine.step import Stepper
    from trueup.models.policy import Policy
    from trueup.recipes.dpo import pair_logps
    from trueup.recipes.objectives import DpoObjective, PairLogps

    torch.manual_seed(0)
    width = point["width"]
    config = AutoConfig.for_model(
        "llama",
        vocab_size=point["vocabulary"],
        hidden_size=width,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        intermediate_size=width * 8 // 3 // 64 * 64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    policy = Policy(
        AutoModelForCausalLM.from_config(config), None, torch.device("cpu"), getattr(torch, dtype), "scaling"
    )
    draw = torch.Generator().manual_seed(1)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, point["vocabulary"], (count,), generator=draw).tolist())

    pairs = [
        RenderedPair(str(i), ids(point["prompt"]), ids(point["answer"]), ids(point["answer"]), 1.0)
        for i in range(point["pairs"])
    ]
    stepper = Stepper(policy.trainable(), Optim(), total=100)
    objective, budget = DpoObjective(), policy.trunk.budget(Batch())
    strength_B = torch.ones(1)
    seconds = []
    with tuned_process():
        for _ in range(4):
            began = time.perf_counter()
            sides = [(p.prompt_ids, p.chosen_ids) for p in pairs] + [(p.prompt_ids, p.rejected_ids) for p in pairs]
            anchor = torch.stack([logps.sum() for logps in sequence_logps(policy, sides, budget=2 * budget)])
            place = {p.pair_id: i for i, p in enumerate(pairs)}
            for micro in stepper.share(pairs, pair_length, budget):
                now = pair_logps(policy, micro)
                at = [place[p.pair_id] for p in micro]
                fixed = PairLogps(
                    anchor[at], anchor[[len(pairs) + i for i in at]], now.chosen_tokens_B, now.rejected_tokens_B
                )
                stepper.accumulate(objective(now, fixed, strength_B.expand(len(micro))), count=len(pairs))
            stepper.step()
            seconds.append(time.perf_counter() - began)
    lengths = [(point["prompt"], point["answer"], point["answer"])] * point["pairs"]
    return {
        "seconds": median(seconds[1:]),
        "peak_gb": peak_memory() / 1e9,
        "flop": pair_step(Shape.of(policy.model), lengths, head=True, reference=True),
        "parameters": sum(p.numel() for p in policy.model.parameters()),
    }


if __name__ == "__main__":
    main()
