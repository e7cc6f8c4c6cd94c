"""``trueup quickstart``: the whole road on the embedded sandbox, where the truth is known.

World -> base model -> SFT -> reward model -> PPO, and DPO from the same SFT -> gold evaluation -> report.
Every stage is an ordinary run that the ordinary commands could have made; the recipe is written to
``recipe.yaml`` beside the runs. A second call resumes or skips what is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.data.sandbox import World, label_pairs, noise_ceiling, panel
from trueup.data.write import pair_to_json, write_jsonl
from trueup.ledger import write_json
from trueup.pipeline import Stage, run_stages
from trueup.types import Demonstration, Message, PreferencePair, Prompt, prompt_json


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; ``DEFAULT`` fits 8 minutes on two cores."""

    corpus: int = 60_000
    demonstrations: int = 6_000
    pairs: int = 8_000
    votes: int = 3
    held_out_pairs: int = 1_000
    prompts: int = 4_000
    test_prompts: int = 400
    base_epochs: float = 1.0
    sft_epochs: float = 2.0
    ppo_steps: int = 60


DEFAULT = Size()
SMOKE = Size(
    corpus=300,
    demonstrations=120,
    pairs=120,
    held_out_pairs=40,
    prompts=60,
    test_prompts=16,
    ppo_steps=2,
)


def chat(text: str) -> Prompt:
    """The sandbox's prompts are single user turns."""
    return (Message("user", text),)


def write_world(folder: Path, seed: int, size: Size) -> dict[str, Any]:
    """Generate the data files of a quickstart and return their paths and facts."""
    world = World(seed)
    annotators = panel(seed)

    def labelled(split: str, count: int, votes: int, purpose: int) -> list[PreferencePair]:
        pairs = world.candidate_pairs(split, count)  # type: ignore[arg-type]
        return label_pairs(annotators, pairs, per_pair=votes, seed=seed + purpose)

    folder.mkdir(parents=True, exist_ok=True)
    train = labelled("train", size.pairs, size.votes, 1)
    held_out = labelled("validation", size.held_out_pairs, 1, 2)
    files = {
        "corpus": write_jsonl(folder / "corpus.jsonl", map(_demonstration, world.corpus(size.corpus))),
        "demonstrations": write_jsonl(
            folder / "demonstrations.jsonl", map(_demonstration, world.demonstrations("train", size.demonstrations))
        ),
        "held_out_demonstrations": write_jsonl(
            folder / "held-out-demonstrations.jsonl", map(_demonstration, world.demonstrations("validation", 400))
        ),
        "pairs": write_jsonl(folder / "pairs.jsonl", map(_pair, train)),
        "held_out_pairs": write_jsonl(folder / "held-out-pairs.jsonl", map(_pair, held_out)),
        "prompts": write_jsonl(
            folder / "prompts.jsonl",
            ({"prompt": prompt_json(chat(p.text))} for p in world.prompts("train", size.prompts)),
        ),
        "test_prompts": write_jsonl(
            folder / "test-prompts.jsonl",
            (
                {"prompt": prompt_json(chat(p.text)), "text": p.text, "kind": p.kind.value}
                for p in world.prompts("test", size.test_prompts)
            ),
        ),
    }
    facts = {"seed": seed, "noise_ceiling": noise_ceiling(held_out)}
    return {"files": {k: str(v) for k, v in files.items()}, "facts": facts}


def _demonstration(d: Demonstration) -> dict[str, Any]:
    prompt = chat(d.prompt) if isinstance(d.prompt, str) and d.prompt else d.prompt
    return {"prompt": prompt_json(prompt), "completion": d.completion}


def _pair(pair: PreferencePair) -> dict[str, Any]:
    assert isinstance(pair.prompt, str)
    return pair_to_json(PreferencePair(chat(pair.prompt), pair.chosen, pair.rejected, pair.strength, pair.origin))


def stages(files: Mapping[str, str], seed: int, size: Size) -> list[Stage]:
    """The recipe: five ordinary runs."""
    batch = {"size": 64, "max_length": 160, "micro_tokens": 8192}
    tiny = {"hidden": 128, "layers": 2, "heads": 4, "vocabulary": 2048, "context": 192}
    return [
        Stage(
            "base",
            "sft",
            {
                "data": files["corpus"],
                "model": {"name": "tiny", "tiny": tiny},
                "batch": {**batch, "size": 24},
                "epochs": size.base_epochs,
                "optim": {"learning_rate": 4e-3, "weight_decay": 0.01},
                "seed": seed,
            },
        ),
        Stage(
            "sft",
            "sft",
            {
                "data": files["demonstrations"],
                "validation": files["held_out_demonstrations"],
                "model": {"name": "@base"},
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
                "model": {"name": "@sft"},
                "batch": {**batch, "size": 32},
                "epochs": 2,
                "optim": {"learning_rate": 1e-3, "weight_decay": 0.01},
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
                "objective": {"kind": "dpo", "beta": 0.1},
                "optim": {"learning_rate": 2e-4, "warmup": 0.1},
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
                "sampling": {"max_new_tokens": 64},
                "kl": {"kind": "adaptive", "beta": 0.05, "target": 6.0, "horizon": 2000},
                "optim": {"learning_rate": 3e-4, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
                "seed": seed,
            },
        ),
    ]


def quickstart(
    out: Path, *, seed: int = 0, size: Size = DEFAULT, quiet: bool = False, tell: Callable[[str], None] = print
) -> Path:
    """Run everything; returns the path of the report."""
    out.mkdir(parents=True, exist_ok=True)
    marker = out / "data" / "world.json"
    wanted = {"seed": seed, "size": {k: getattr(size, k) for k in Size.__slots__}}
    if marker.exists() and json.loads(marker.read_text())["wanted"] == wanted:
        world = json.loads(marker.read_text())
    else:
        tell("world: generating prompts, demonstrations and simulated judgments")
        world = write_world(out / "data", seed, size) | {"wanted": wanted}
        write_json(marker, world)
    run_stages(out, stages(world["files"], seed, size), fresh=True, quiet=quiet, tell=tell)
    return out
