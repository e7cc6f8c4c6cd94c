"""The recipe of the sandbox: how much of everything, and the ordinary runs that ``trueup quickstart`` chains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trueup.commands.pipeline import Stage
from trueup.ledger import write_atomic

CONTEXT, ANSWER = 160, 64
"""Longest prompt with answer, longest sampled answer, in tokens."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; ``DEFAULT`` takes about 7 minutes on two cores with AVX-512, without the base model."""

    corpus: int = 480_000
    """Texts for a base model that is trained from scratch."""
    demonstrations: int = 4_000
    pairs: int = 12_000
    votes: int = 3
    annotators: int = 8
    """Those who read; one more does not."""
    gold_items: int = 60
    held_out_pairs: int = 2_100
    prompts: int = 4_000
    test_prompts: int = 400
    base_epochs: float = 1.0
    sft_epochs: float = 1.0
    reward_epochs: float = 2.5
    ppo_steps: int = 60

    @property
    def smoke(self) -> bool:
        """Whether it is too little to say anything but that everything runs."""
        return self.ppo_steps < 20 or self.test_prompts < 100 or self.held_out_pairs < 200


DEFAULT: Size = Size()
SMOKE: Size = Size(
    corpus=300,
    demonstrations=120,
    pairs=120,
    held_out_pairs=40,
    prompts=60,
    test_prompts=16,
    ppo_steps=2,
)


def base_stage(corpus: str | Path, epochs: float = 1.0) -> Stage:
    """How the base model is trained, here and for the package."""
    tiny = {"hidden": 160, "layers": 4, "heads": 4, "vocabulary": 2048, "context": 192}
    return Stage(
        "base",
        "sft",
        {
            "data": str(corpus),
            "model": {"name": "tiny", "tiny": tiny},
            "batch": {"size": 32, "max_length": CONTEXT},
            "epochs": epochs,
            "optim": {"learning_rate": 4e-3, "weight_decay": 0.01},
            "seed": 0,
        },
    )


def stages(files: Mapping[str, str], seed: int, size: Size, *, from_scratch: bool = False) -> list[Stage]:
    """The recipe: four ordinary runs, five with the base model."""
    batch = {"size": 64, "max_length": CONTEXT}
    base = "@base" if from_scratch else files["base"]
    return [
        *([base_stage(files["base"], size.base_epochs)] if from_scratch else []),
        Stage(
            "sft",
            "sft",
            {
                "data": files["demonstrations"],
                "validation": files["held_out_demonstrations"],
                "model": {"name": base},
                "batch": batch,
                "epochs": size.sft_epochs,
                "optim": {"learning_rate": 1e-3, "weight_decay": 0.01},
                "seed": seed,
            },
        ),
        Stage(
            "reward",
            "reward",
            {
                "data": files["pairs"],
                "validation": files["held_out_pairs"],
                "model": {"name": base},
                "batch": {**batch, "size": 32},
                "epochs": size.reward_epochs,
                "evaluate_every": 500,
                "optim": {"learning_rate": 1e-3, "weight_decay": 0.1},
                "seed": seed,
            },
        ),
        Stage(
            "dpo",
            "dpo",
            {
                "data": files["pairs"],
                "validation": files["held_out_pairs"],
                "model": {"name": "@sft"},
                "batch": batch,
                "epochs": 1,
                "evaluate_every": 150,
                "objective": {"kind": "dpo-nll", "beta": 0.1, "nll_weight": 1.0},
                "optim": {"learning_rate": 6e-4, "warmup": 0.1},
                "seed": seed,
            },
        ),
        Stage(
            "ppo",
            "ppo",
            {
                "data": files["prompts"],
                "model": {"name": "@sft"},
                "reward": "@reward",
                "batch": {**batch, "size": 128},
                "steps": size.ppo_steps,
                "epochs": 2,
                "mini_batches": 2,
                "sampling": {"max_new_tokens": ANSWER},
                "probes": 32,
                "probe_every": 7,
                "kl": {"kind": "adaptive", "beta": 0.05, "target": 4.0, "horizon": 2000},
                "optim": {"learning_rate": 5e-4, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
                "seed": seed,
            },
        ),
    ]


def write_recipe(path: Path, out: Path, recipe: list[Stage]) -> None:
    """The stages as a file for ``trueup run``."""
    import yaml

    rows = [{"name": s.name, "kind": s.kind, **s.settings} for s in recipe]
    text = "# Written by trueup quickstart; trueup run does the same stages again.\n"
    write_atomic(path, (text + yaml.safe_dump({"out": str(out), "stages": rows}, sort_keys=False)).encode())
