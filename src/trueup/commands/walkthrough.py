"""``trueup quickstart``: the whole pipeline on the embedded sandbox, where the truth is known.

World -> judgments in a feedback store -> audit -> snapshot -> SFT of the base model that comes with the package (or of
one that is trained first) -> reward model -> PPO, and DPO from the same SFT -> gold evaluation -> report.
Every stage is an ordinary run that the ordinary commands could have made; the recipe is written to
``recipe.yaml`` beside the runs. A second call resumes or skips what is done.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from trueup.collectors.sandbox_panel import JudgingBatch, audit, chat, collect_judgments
from trueup.commands.pipeline import run_stages
from trueup.commands.sandbox_recipe import ANSWER, CONTEXT, DEFAULT, SMOKE, Size, stages, write_recipe
from trueup.config import Batch, Model, Sampling
from trueup.config.seeds import derive
from trueup.data.read import read_pairs
from trueup.data.render import Renderer
from trueup.data.write import write_jsonl
from trueup.engine.ask import ask
from trueup.engine.device import peak_memory
from trueup.engine.rendering import renderer_of
from trueup.errors import RunError, UsageError
from trueup.evaluation.baselines import bag_of_words, length_only, outcomes
from trueup.evaluation.collect import collect_answers
from trueup.evaluation.rows import write_rows
from trueup.evaluation.skill import Skill, reward_skill
from trueup.ledger import read_lines, write_json
from trueup.models.policy import Policy, open_policy
from trueup.reports.build import Report, build_report
from trueup.rewards.protocol import Reward
from trueup.rewards.registry import open_reward
from trueup.sandbox import (
    Annotator,
    Answering,
    SandboxPrompt,
    World,
    copy_base,
    gold_agrees,
    gold_score,
    noise_ceiling,
    panel,
)
from trueup.types import Completion, Demonstration, PreferencePair, StopReason, prompt_json, prompt_text, question

_FILES = ("base", "demonstrations", "held_out_demonstrations", "pairs", "held_out_pairs", "prompts", "test_prompts")
"""Data files of a walk, by the names under which ``world.json`` has them."""
NOTES = (
    "The sandbox is a generated world in which the quality of every answer is known (gold). Simulated annotators with "
    "noise and small biases judged pairs of answers; everything after that saw only their judgments, never gold.",
    "No held-out prompt occurs in a training file; the topics that they ask about do.",
)


def write_world(folder: Path, seed: int, size: Size, *, from_scratch: bool = False) -> dict[str, Any]:
    """Generate the data files of a quickstart and return their paths and facts."""
    world = World(seed)
    folder.mkdir(parents=True, exist_ok=True)
    base = write_corpus(folder / "corpus.jsonl", size.corpus) if from_scratch else copy_base(folder / "base")
    model = None if from_scratch else _model(base, seed)
    pairs, judging = _judged(world, folder / "feedback", seed, size, model)
    files = {
        "base": base,
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
        PreferencePair(question(p.prompt), p.chosen, p.rejected, p.strength)
        for p in read_pairs(str(pairs["held_out_pairs"])).items
    ]
    facts = {"seed": seed, "noise_ceiling": noise_ceiling(held_out)}
    return {"files": {k: str(v) for k, v in files.items()}, "facts": facts, "feedback": judging}


def write_corpus(path: Path, texts: int) -> Path:
    """What a base model reads: the open web of everything that is written down, which is the same for every seed."""
    return write_jsonl(path, map(_demonstration, World(0, whole=True).corpus(texts)))


def _judged(
    world: World, folder: Path, seed: int, size: Size, model: Answering | None
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Collect judgments in a store, audit them and freeze them: the two pair files, and what to tell of it."""
    if folder.exists():  # a walk that was cut off before its data were whole
        shutil.rmtree(folder)
    collected = collect_judgments(
        folder / "feedback.db",
        panel(seed, size.annotators),
        [
            JudgingBatch(
                world.candidate_pairs("train", size.pairs, per_prompt=2, model=model), "train", size.votes, seed + 1
            ),
            JudgingBatch(
                world.candidate_pairs("validation", size.held_out_pairs, per_prompt=3, model=model),
                "validation",
                1,
                seed + 2,
            ),
        ],
        idle=Annotator("who-does-not-read", spam=1.0),
        gold_items=world.candidate_pairs("test", size.gold_items),
        seed=seed,
    )
    audited = audit(collected, folder / "snapshot")
    files = audited.snapshot.files
    summary = {
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
    return {"pairs": files["train"], "held_out_pairs": files["validation"]}, summary


def _model(base: Path, seed: int) -> Answering:
    """What a base model answers: people compare a model's answers, not only writers'."""
    policy, renderer = _opened(base)

    def answers(prompts: Sequence[SandboxPrompt]) -> list[str]:
        asked = [chat(prompt.text) for prompt in prompts]
        _, drawn = ask(policy, renderer, asked, Sampling(max_new_tokens=ANSWER), seed=derive(seed, "candidates"))
        return [one.text for one in drawn]

    return answers


def _opened(path: Path) -> tuple[Policy, Renderer]:
    """A model that only answers, and how it is asked."""
    opening = Model(name=str(path))
    policy = open_policy(opening, frozen=True)
    return policy, renderer_of(policy, opening, Batch(max_length=CONTEXT))


def _demonstration(d: Demonstration) -> dict[str, Any]:
    prompt = chat(d.prompt) if isinstance(d.prompt, str) and d.prompt else d.prompt
    return {"prompt": prompt_json(prompt), "completion": d.completion}


def quickstart(
    out: Path,
    *,
    seed: int = 0,
    size: Size = DEFAULT,
    from_scratch: bool = False,
    quiet: bool = False,
    tell: Callable[[str], None] = print,
) -> Report:
    """Run everything; what is done and unchanged is skipped. Returns the report.

    Args:
        out: Folder of data, runs and report.
        seed: World, annotators, weights and sampling.
        size: How much of everything.
        from_scratch: Train the base model first instead of taking the one that comes with the package.
        quiet: No progress.
        tell: Gets a line for every step.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    tell(f"to watch it while it runs, in another terminal: trueup explore {out}")
    world = prepared(out / "data", seed, size, from_scratch, tell)
    recipe = stages(world["files"], seed, size, from_scratch=from_scratch)
    write_recipe(out / "recipe.yaml", out, recipe)
    runs = run_stages(out, recipe, fresh=True, quiet=quiet, tell=tell)
    tell("evaluation: the same held-out prompts to every model, judged by gold")
    reward = open_reward(str(runs["reward"] / "final"))
    models = {name: runs[name] / "final" for name in ("sft", "dpo", "ppo")}
    models = {"base": runs["base"] / "final" if from_scratch else Path(world["files"]["base"])} | models
    rows = evaluate_models(world["files"], models, reward, seed)
    write_rows(rows, out / "eval.jsonl")
    skill = held_out_skill(world["files"], reward)
    facts = {**world["facts"], "seconds": time.perf_counter() - started}
    facts["peak_memory_gb"] = peak_memory() / 2**30
    report = build_report(
        runs,
        rows,
        out,
        title="trueup quickstart: from preferences to an aligned, measured model",
        notes=NOTES,
        facts=facts,
        probes=judged_probes(runs["ppo"]),
        feedback=world["feedback"],
        skill=skill.to_dict(),
        smoke=size.smoke,
        commands=(
            f"trueup quickstart --seed {seed} --out {out}{' --smoke' if size == SMOKE else ''}"
            f"{' --from-scratch' if from_scratch else ''}",
            f"trueup run {out / 'recipe.yaml'}",
        ),
    )
    for line in report.verdict:
        tell(line)
    tell(f"curves and samples, step by step: trueup explore {out}; what to look at there: trueup explore --tour")
    tell(f"report: {report.html}")
    return report


def prepared(
    folder: Path,
    seed: int,
    size: Size,
    from_scratch: bool,
    tell: Callable[[str], None],
    *,
    anew: bool = True,
) -> dict[str, Any]:
    """The data of a walk: what an earlier one with the same wishes wrote, or new.

    Raises:
        UsageError: Other data are there, and ``anew`` is False, so that nothing may be written over.
        RunError: What is there is damaged.
    """
    marker = folder / "world.json"
    wanted = {"seed": seed, "size": asdict(size), "from_scratch": from_scratch}
    world = _world_there(marker)
    if world is not None and world["wanted"] != wanted and not anew:
        raise UsageError(f"another world is here: {world['wanted']}", where=str(folder), fix="choose another --out")
    if world is None or world["wanted"] != wanted:
        tell("world: prompts and demonstrations; simulated annotators judge, their work is audited and frozen")
        world = write_world(folder, seed, size, from_scratch=from_scratch) | {"wanted": wanted}
        write_json(marker, world)
    for annotator in world["feedback"]["left_out"]:
        tell(f"audit: {annotator['annotator']} left out: {'; '.join(annotator['signs'])}")
    return world


def _world_there(marker: Path) -> dict[str, Any] | None:
    """What an earlier walk wrote of its data, with all of its files; None where there was none.

    Raises:
        RunError: It is damaged, or files that it names are gone: nobody can tell what else is.
    """
    if not marker.exists():
        return None
    try:
        world = json.loads(marker.read_text(encoding="utf-8"))
        files, left_out = world["files"], world["feedback"]["left_out"]
        world["facts"] | world["wanted"]  # both are objects
        gone = [name for name in (files[key] for key in _FILES) if not Path(name).exists()]
        problem = f"files that it names are gone: {', '.join(gone)}" if gone else None
        [(annotator["annotator"], *annotator["signs"]) for annotator in left_out]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"it is damaged: {type(error).__name__}: {error}"
    if problem is None:
        return dict(world)
    raise RunError(
        f"the quickstart's data cannot be used: {problem}",
        where=str(marker),
        fix=f"move {marker.parent} away and run the same command again: it makes the same data from the seed, and runs"
        " that are done are skipped",
    )


def evaluate_models(
    files: Mapping[str, str], models: Mapping[str, Path], reward: Reward | None, seed: int
) -> list[dict[str, Any]]:
    """One sampled answer of each model to each held-out prompt, judged by gold and a proxy if any; KL from ``sft``."""
    lines, _ = read_lines(Path(files["test_prompts"]))
    prompts = [chat(line["text"]) for line in lines]
    opened = {name: _opened(path) for name, path in models.items()}
    policies = {name: policy for name, (policy, _) in opened.items()}
    return collect_answers(
        policies,
        prompts,
        renderers={name: renderer for name, (_, renderer) in opened.items()},
        sampling=Sampling(max_new_tokens=ANSWER),
        seed=seed,
        kinds=[line["kind"] for line in lines],
        gold=gold_score,
        reward=reward,
        reference=policies["sft"],
    )


def held_out_skill(files: Mapping[str, str], reward: Reward) -> Skill:
    """A reward on held-out pairs, beside gold, length alone and a bag of words on the same pairs."""
    train, held_out = (read_pairs(files[name]).items for name in ("pairs", "held_out_pairs"))
    prompts = [pair.prompt for pair in held_out] * 2
    answers = [pair.chosen for pair in held_out] + [pair.rejected for pair in held_out]
    scores = reward.score(prompts, [Completion(text, (), StopReason.EOS) for text in answers]).tolist()
    chosen, rejected = scores[: len(held_out)], scores[len(held_out) :]
    plain = [replace(pair, prompt=question(pair.prompt)) for pair in held_out]
    length, words = length_only(train, held_out), bag_of_words(train, held_out)
    return reward_skill(
        outcomes([a - b for a, b in zip(chosen, rejected, strict=True)]),
        [prompt_text(pair.prompt) for pair in held_out],
        ceiling_P=gold_agrees(plain),
        baselines={"length alone": length.right_P, "a bag of words": words.right_P},
    )


def judged_probes(run: Path) -> list[dict[str, Any]]:
    """The fixed prompts that PPO answered along the way, judged by gold afterwards; training never saw gold."""
    lines, _ = read_lines(run / "samples.jsonl")
    scored = [line for line in lines if line["score"] is not None]  # a part of the reward may have dropped an answer
    return [line | {"gold": gold_score(line["question"], line["completion"]).total} for line in scored]
