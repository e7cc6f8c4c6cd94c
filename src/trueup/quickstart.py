"""``trueup quickstart``: the whole road on the embedded sandbox, where the truth is known.

World -> judgments in a feedback store -> audit -> snapshot -> base model -> SFT -> reward model -> PPO, and DPO from
the same SFT -> gold evaluation -> report.
Every stage is an ordinary run that the ordinary commands could have made; the recipe is written to
``recipe.yaml`` beside the runs. A second call resumes or skips what is done.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trueup.config import Batch, Model, Sampling
from trueup.crowd import Batch as Judging
from trueup.crowd import audit, chat
from trueup.crowd import collect as collect_judgments
from trueup.data.read import read_pairs
from trueup.data.render import Renderer
from trueup.data.sandbox import Annotator, World, gold, noise_ceiling, panel
from trueup.data.write import write_jsonl
from trueup.engine.device import peak_memory
from trueup.evaluation.baselines import bag_of_words, length_only
from trueup.evaluation.collect import collect
from trueup.evaluation.rows import write_rows
from trueup.ledger import read_lines, write_atomic, write_json
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy
from trueup.pipeline import Stage, run_stages
from trueup.recipes.registry import RECIPES
from trueup.reports.build import Report, build_report
from trueup.types import Demonstration, PreferencePair, Prompt, prompt_json


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; ``DEFAULT`` is meant for 8 minutes on two cores."""

    corpus: int = 95_000
    demonstrations: int = 6_000
    pairs: int = 20_000
    votes: int = 3
    annotators: int = 8
    """Those who read; one more does not."""
    gold_items: int = 60
    held_out_pairs: int = 2_400
    prompts: int = 4_000
    test_prompts: int = 400
    base_epochs: float = 1.0
    sft_epochs: float = 2.0
    reward_epochs: float = 2.5
    ppo_steps: int = 105


DEFAULT = Size()
_CONTEXT, _ANSWER = 160, 64
NOTES = (
    "The sandbox is a generated world in which the quality of every answer is known (gold). Simulated annotators with "
    "noise and small biases judged pairs of answers; everything after that saw only their judgments, never gold.",
    "No held-out prompt occurs in a training file; the topics that they ask about do.",
)
SMOKE = Size(
    corpus=300,
    demonstrations=120,
    pairs=120,
    held_out_pairs=40,
    prompts=60,
    test_prompts=16,
    ppo_steps=2,
)


def write_world(folder: Path, seed: int, size: Size) -> dict[str, Any]:
    """Generate the data files of a quickstart and return their paths and facts."""
    world = World(seed)
    folder.mkdir(parents=True, exist_ok=True)
    pairs, judging = _judged(world, folder / "feedback", seed, size)
    files = {
        "corpus": write_jsonl(folder / "corpus.jsonl", map(_demonstration, world.corpus(size.corpus))),
        "demonstrations": write_jsonl(
            folder / "demonstrations.jsonl", map(_demonstration, world.demonstrations("train", size.demonstrations))
        ),
        "held_out_demonstrations": write_jsonl(
            folder / "held-out-demonstrations.jsonl", map(_demonstration, world.demonstrations("validation", 400))
        ),
        **pairs,
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
    held_out = [
        PreferencePair(_question(p.prompt), p.chosen, p.rejected, p.strength)
        for p in read_pairs(str(pairs["held_out_pairs"])).items
    ]
    facts = {"seed": seed, "noise_ceiling": noise_ceiling(held_out)}
    return {"files": {k: str(v) for k, v in files.items()}, "facts": facts, "feedback": judging}


def _judged(world: World, folder: Path, seed: int, size: Size) -> tuple[dict[str, Path], dict[str, Any]]:
    """Collect judgments in a store, audit them and freeze them: the two pair files, and what to tell of it."""
    if folder.exists():  # a walk that was cut off before its data were whole
        shutil.rmtree(folder)
    collected = collect_judgments(
        folder / "feedback.db",
        panel(seed, size.annotators),
        [
            Judging(world.candidate_pairs("train", size.pairs, per_prompt=2), "train", size.votes, seed + 1),
            Judging(world.candidate_pairs("validation", size.held_out_pairs, per_prompt=2), "validation", 1, seed + 2),
        ],
        idle=Annotator("who-does-not-read", spam=1.0),
        gold_items=world.candidate_pairs("test", size.gold_items),
        seed=seed,
    )
    audited = audit(collected, folder / "snapshot")
    files = audited.snapshot.files
    told = {
        "card": f"{folder.parent.name}/{folder.name}/snapshot/card.html",
        "db": str(collected.db),
        "project": collected.project,
        "snapshot": audited.snapshot.identity,
        "judgments": len(collected.judged.judgments),
        "annotators": size.annotators + 1,
        "pairs": dict(audited.snapshot.rows),
        "simulated": True,
        "left_out": [
            {"annotator": name, "planted": collected.names[name], "signs": list(signs)}
            for name, signs in audited.suspects.items()
        ],
    }
    return {"pairs": files["train"], "held_out_pairs": files["validation"]}, told


def _question(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1].content


def _demonstration(d: Demonstration) -> dict[str, Any]:
    prompt = chat(d.prompt) if isinstance(d.prompt, str) and d.prompt else d.prompt
    return {"prompt": prompt_json(prompt), "completion": d.completion}


def stages(files: Mapping[str, str], seed: int, size: Size) -> list[Stage]:
    """The recipe: five ordinary runs."""
    batch = {"size": 64, "max_length": _CONTEXT}
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
                "objective": {"kind": "dpo-nll", "beta": 0.05, "nll_weight": 0.2},
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
                "sampling": {"max_new_tokens": _ANSWER},
                "probes": 32,
                "probe_every": 7,
                "kl": {"kind": "adaptive", "beta": 0.05, "target": 6.0, "horizon": 2000},
                "optim": {"learning_rate": 3e-4, "eps": 1e-5, "schedule": "constant", "warmup": 0.0},
                "seed": seed,
            },
        ),
    ]


def quickstart(
    out: Path, *, seed: int = 0, size: Size = DEFAULT, quiet: bool = False, tell: Callable[[str], None] = print
) -> Report:
    """Run everything; what is done and unchanged is skipped. Returns the report."""
    out.mkdir(parents=True, exist_ok=True)
    marker = out / "data" / "world.json"
    wanted = {"seed": seed, "size": asdict(size)}
    started = time.perf_counter()
    if marker.exists() and json.loads(marker.read_text())["wanted"] == wanted:
        world = json.loads(marker.read_text())
    else:
        tell("world: prompts and demonstrations; simulated annotators judge, their work is audited and frozen")
        world = write_world(out / "data", seed, size) | {"wanted": wanted}
        write_json(marker, world)
    for one in world["feedback"]["left_out"]:
        tell(f"audit: {one['annotator']} left out: {'; '.join(one['signs'])}")
    recipe = stages(world["files"], seed, size)
    write_recipe(out / "recipe.yaml", out, recipe)
    runs = run_stages(out, recipe, fresh=True, quiet=quiet, tell=tell)
    tell("evaluation: the same held-out prompts to every model, judged by gold")
    rows = evaluate(world["files"], runs, seed)
    write_rows(rows, out / "eval.jsonl")
    facts = {**world["facts"], **baselines(world["files"]), "seconds": time.perf_counter() - started}
    facts["peak_memory_gb"] = peak_memory() / 2**30
    report = build_report(
        runs,
        rows,
        out,
        title="trueup quickstart: from preferences to an aligned, measured model",
        notes=NOTES,
        defaults={kind: _defaults(kind) for kind in ("sft", "reward", "dpo", "ppo")},
        facts=facts,
        probes=judged_probes(runs["ppo"]),
        feedback=world["feedback"],
        commands=(f"trueup quickstart --seed {seed} --out {out}", f"trueup run {out / 'recipe.yaml'}"),
    )
    for line in report.verdict:
        tell(line)
    tell(f"report: {report.html}")
    return report


def evaluate(files: Mapping[str, str], runs: Mapping[str, Path], seed: int) -> list[dict[str, Any]]:
    """One sampled answer of base, SFT, PPO and DPO to each held-out prompt, judged by gold and by the proxy."""
    lines, _ = read_lines(Path(files["test_prompts"]))
    prompts = [chat(line["text"]) for line in lines]
    batch = Batch(max_length=_CONTEXT)
    policies = {
        name: open_policy(Model(name=str(runs[name] / "final")), frozen=True) for name in ("base", "sft", "dpo", "ppo")
    }
    renderers = {name: Renderer.of(p.tokenizer, batch, context=p.context) for name, p in policies.items()}
    judge = open_reward_model(Model(name=str(runs["reward"] / "final")), new_head=False)
    return collect(
        policies,
        prompts,
        renderers=renderers,
        sampling=Sampling(max_new_tokens=_ANSWER),
        seed=seed,
        kinds=[line["kind"] for line in lines],
        gold=gold,
        reward=judge,
        reward_renderer=Renderer.of(judge.tokenizer, batch, context=judge.context),
        reference=policies["sft"],
    )


def baselines(files: Mapping[str, str]) -> dict[str, float]:
    """Held-out accuracy of preferring by length and by words alone."""
    train, held_out = (read_pairs(files[name]).items for name in ("pairs", "held_out_pairs"))
    return {
        "length_baseline": length_only(train, held_out).accuracy.estimate,
        "words_baseline": bag_of_words(train, held_out).accuracy.estimate,
    }


def judged_probes(run: Path) -> list[dict[str, Any]]:
    """The fixed prompts that PPO answered along the way, judged by gold afterwards; training never saw gold."""
    lines, _ = read_lines(run / "samples.jsonl")
    return [line | {"gold": gold(line["question"], line["completion"]).total} for line in lines]


def write_recipe(path: Path, out: Path, recipe: list[Stage]) -> None:
    """The stages as a file for ``trueup run``."""
    import yaml

    rows = [{"name": s.name, "kind": s.kind, **s.settings} for s in recipe]
    text = "# Written by trueup quickstart; trueup run does the same stages again.\n"
    write_atomic(path, (text + yaml.safe_dump({"out": str(out), "stages": rows}, sort_keys=False)).encode())


def _defaults(kind: str) -> dict[str, Any]:
    """The defaults of a method's settings, by validating nothing but what is required."""
    required = {"data": "", "reward": ""} if kind == "ppo" else {"data": ""}
    found: dict[str, Any] = RECIPES[kind].settings().model_validate(required).model_dump(mode="json")
    return found
