"""The part of ``docs/results.md`` that the real road makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import (
    real_answers,
    real_constitution,
    real_constitution_judge,
    real_demos,
    real_judges,
    real_preferences,
    real_sentiment,
)
from benchmarks.shown import interval
from trueup.commands.estimate import Amount, Asked, count
from trueup.commands.hardware import accelerator, shape_of
from trueup.commands.pipeline import Stage, resolve_stage

FRONTIER = Path("docs/images/real-sentiment.svg")


def section() -> str:
    """Markdown; empty where nothing was measured."""
    made = (_sentiment(), _preferences(), _demos(), _judges(), _constitution(), _answers())
    parts = [part for part in made if part]
    if not parts:
        return ""
    parts.append(_larger())
    opening = (
        "## A real pretrained model\n\n"
        "`make real DATA=DIR`: SmolLM2-135M-Instruct (134.5 million weights, Q4_1 as it comes from the package registry, "
        "then trained in bfloat16), two CPU cores. Each part has its own command, `python -m benchmarks.real --data DIR "
        "--only PART`, and goes on where it was cut off. Minutes are wall time on a machine that did other work too."
    )
    return "\n\n".join([opening, *parts])


def _load(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _sentiment() -> str:
    found = _load(real_sentiment.RESULTS)
    if not found:
        return ""
    counts, sizes = found["counts"], found["sizes"]
    FRONTIER.write_text(real_sentiment.frontier(found), encoding="utf-8")
    examples = "\n\n".join(
        "\n".join([f"> **{one['opening']}**", *(f">\n> *{n}*: {t.strip()}" for n, t in one.items() if n != "opening")])
        for one in found["examples"]
    )
    return "\n\n".join(
        [
            "### Sentiment by VADER (`--only sentiment`)",
            "The task of Ziegler et al. (2019) and of the controlled experiment of Rafailov et al. (2023), offline. The model "
            f"continues openings; {counts['sentences']} of its own first sentences teach it where to end. Of two continuations the "
            f"one with the higher VADER score is preferred: {counts['pairs']} pairs ({counts['ties']} of {counts['drawn']} were ties, "
            f"{counts['no_end']} reached no end). *VADER* is the mean on {sizes['test']} openings that nobody trained on, from -1 to "
            "1; *KL* is that of whole continuations from the start; nats a token show what is still English to the model that it "
            f"started from. PPO: {sizes['steps']} steps of {sizes['rollouts']} rollouts; the number behind a name is beta. The reward "
            f"model orders {found['reward_accuracy']:.3f} of held-out pairs right.",
            real_sentiment.table(found),
            f"![VADER over KL for DPO, PPO and best-of-n](images/{FRONTIER.name})",
            " ".join(real_sentiment.conclusions(found)),
            examples,
            _costs(found["costs"]),
        ]
    )


def _preferences() -> str:
    found = _load(real_preferences.RESULTS)
    if not found:
        return ""
    curve = found["curve"]
    parts = [
        "### Human preferences: harmless or not (`--only preferences`)",
        "The 1,191 usable harmlessness pairs of Bai et al. (2022), five folds by prompt, each pair held out once; where fewer "
        f"folds were trained, the difference is over the same folds. {_kinds(found['rows'])} *log-prob*: what the chat model itself "
        "finds more likely, as a sum or a token. The bag of words has the ridge that is best on the held-out pairs "
        f"({found['ridge']}), which favours it.",
        real_preferences.table(found),
        " ".join(real_preferences.conclusions(found)),
    ]
    if curve:
        slope, goals = curve["slope"], curve["doublings"]
        needed = "; ".join(
            f"{goal} would need {2**doublings:.1f} times these pairs"
            if doublings is not None
            else f"{goal} is out of reach"
            for goal, doublings in goals.items()
        )
        parts.append(
            f"Each doubling of the pairs adds {interval(slope, '+.3f')} ({curve['folds']} folds). If the line went on, {needed}; the "
            "interval of the slope says how little that is known."
        )
    return "\n\n".join([*parts, _costs(found["costs"])])


KINDS = {
    "frozen": "*frozen*: a head alone, fitted to the chat model's last states.",
    "frozen mean": "*frozen mean*: the same on the mean state of the answer.",
    "full": "*full*: a reward model from the chat model, all weights, one epoch from the fitted head (`head_start=fit`).",
    "mean": "*mean*: *full* with a head on the mean state (`pooling=mean`).",
    "drawn": "*drawn*: the same from a drawn head, at 2e-5.",
    "from-sft": "*from-sft*: the same from its SFT on 998 instructions.",
    "lora": "*lora*: adapters only.",
    "full/4": "*full/4*: a quarter of the training pairs.",
    "dpo": "*dpo*: its implicit reward.",
}


def _kinds(rows: dict[str, Any]) -> str:
    return " ".join(words for kind, words in KINDS.items() if kind in rows)


def _demos() -> str:
    found = _load(real_demos.RESULTS)
    if not found:
        return ""
    heading = "### Marked responses and rankings (`--only demos`)"
    return "\n\n".join([heading, real_demos.table(found), _costs(found["costs"])])


def _judges() -> str:
    found = _load(real_judges.RESULTS)
    if not found:
        return ""
    return "\n\n".join(
        [
            "### Judges against people (`--only judges`)",
            "Share of pairs on which a judge prefers what people prefer. *Letters*: the chat model is asked which answer is "
            "better, A or B, in both orders; *place A* is the probability that it gives to the place, which the mean of both "
            "orders takes out.",
            real_judges.table(found),
        ]
    )


def _constitution() -> str:
    found = _load(real_constitution.RESULTS)
    if not found:
        return ""
    parts = [
        "### Constitutional AI (`--only constitution`)",
        "SmolLM2 as its own judge and critic under three principles of the bundled constitution. Is the judge worth anything? "
        "XSTest's published answers have labels by people, which say which answers break a principle (half of these, so a coin "
        "agrees on one half), and which of two answers to one prompt is better. *Ordered right*: how often an answer that "
        "breaks the principle has the higher probability of it, wherever the bar is. *Phrases*: the agreement of a list of "
        f"refusal phrases. Answers are cut after {real_constitution_judge.LONGEST} characters.",
        real_constitution_judge.verdict_table(found),
        real_constitution_judge.pair_table(found),
    ]
    if "rounds" in found:
        sizes = found["sizes"]
        parts += [
            f"Two rounds of critique and revision (`rewrite: all`) and SFT on {2 * sizes['prompts']} prompts, half of AdvBench and half "
            f"of XSTest, at most {sizes['tokens']} tokens; audited on as many others. Harm and help are the judge's words, so "
            "the tables above say what they are worth; refusals are told by phrases, which agree with people on most answers (below).",
            real_constitution.rounds_table(found),
            real_constitution.count_table(found),
            *(real_constitution.shown(one) for one in found["examples"]),
        ]
    return "\n\n".join([*parts, _costs(found["costs"])])


def _answers() -> str:
    found = _load(real_answers.RESULTS)
    if not found:
        return ""
    agree = interval(found["phrases_agree_with_people"])
    return "\n\n".join(
        [
            "### Refusals before and after (`--only answers`)",
            f"XSTest, {found['prompts']['safe']} safe and {found['prompts']['unsafe']} unsafe prompts. Published models by the labels of "
            f"people; ours by phrases, which agree with those people on {agree} of the published answers.",
            real_answers.table(found),
        ]
    )


LARGER = (("llama-3.2-1b", "rtx4090", 1), ("llama-3.2-1b", "h100", 1), ("llama-2-7b", "h100", 4))
"""Models, GPUs, and how many of them."""
PAIRS, PAIR_TOKENS = 1_000, 172
"""Of the harmless pairs: rows of a fold's training, and tokens of a prompt with one answer, on average."""


def _larger() -> str:
    """The same stages at 1B and 7B, counted."""
    small = shape_of("smollm2-135m")
    lines = ["| model | on | stage | GB each | minutes |", "|---|---|---|---:|---:|"]
    for model, gpu, gpus in LARGER:
        asked = Asked(accelerator(gpu), gpus, model, PAIRS, PAIR_TOKENS)
        for stage in _stages(model):
            one = count(stage, resolve_stage(stage, str), shape_of(model), _amount(asked), asked)
            minutes = "does not fit" if one.seconds is None else f"{one.seconds / 60:.1f}"
            lines.append(f"| {model} | {gpus} x {gpu} | {stage.name} | {sum(one.memory_gb.values()):.0f} | {minutes} |")
    ratios = [f"{name} {shape_of(name).weights / small.weights:.0f} times" for name, *_ in dict.fromkeys(LARGER)]
    return "\n\n".join(
        [
            "### What to expect of larger models",
            f"Counted by `trueup plan --on GPU` for {PAIRS:,} pairs of {PAIR_TOKENS} tokens a side and 40 steps of 64 answers, with "
            "recomputation and passes of 2,048 tokens; nothing of it was measured, and start-up and reading come on top. On two CPU "
            f"cores time grows with the weights ({', '.join(dict.fromkeys(ratios))}), and weights that learn take 18 bytes each: 22 GB "
            "at 1B before any activation.",
            "\n".join(lines),
        ]
    )


def _stages(model: str) -> list[Stage]:
    shared = {
        "model": {"name": model, "dtype": "bfloat16", "gradient_checkpointing": True},
        "batch": {"size": 64, "micro_tokens": 2048},
        "data": "pairs.jsonl",
    }
    low_rank = {**shared, "model": {**shared["model"], "lora": {"rank": 16}}}
    online = {**low_rank, "reward": "reward", "steps": 40, "answers": 4, "sampling": {"max_new_tokens": 64}}
    return [
        Stage("reward model", "reward", {**shared, "epochs": 1}),
        Stage("reward model, LoRA", "reward", {**low_rank, "epochs": 1}),
        Stage("DPO, LoRA", "dpo", {**low_rank, "epochs": 1}),
        Stage("RLOO, LoRA", "rloo", online),
    ]


def _amount(asked: Asked) -> Amount:
    return Amount(asked.rows or 0, float(asked.tokens or 0), (asked.tokens or 0) / 3)


def _costs(costs: dict[str, dict[str, float]]) -> str:
    if not costs:
        return ""
    cells = ", ".join(f"{name} {one['minutes']:.1f} min, {one['gb']:.1f} GB" for name, one in costs.items())
    return f"Time and peak memory of each stage: {cells}."
