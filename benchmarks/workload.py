"""The common input of every speed comparison: one model, one tokenizer, one list of pairs, written once, read by both.

The model is GPT-2's 124M configuration with random weights (speed does not depend on them), the pairs are real
dialogues where a data directory is given and sandbox pairs otherwise: as many as the steps need, at even quantiles of
length, so that a few batches are as long as the whole file's. Pairs stand in the order in which trueup's
``EpochPlan`` will take them, so a peer that reads the file from the top sees the same batches.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from benchmarks import sampling
from benchmarks.flops import Shape, pair_step, rlhf_step, sft_step
from benchmarks.jobs import NEW_TOKENS, PPO_EPOCHS, PROMPT_TOKENS, RLHF, SAMPLED_ROWS, SAMPLED_TOKENS
from trueup.config import Batch, Model
from trueup.data.batch import EpochPlan
from trueup.data.read import read_pairs
from trueup.data.render import Renderer
from trueup.data.write import write_jsonl
from trueup.errors import DataError
from trueup.models.export_folder import find_source
from trueup.models.export_gguf import export_gguf
from trueup.models.heads import open_reward_model
from trueup.models.load import load_causal_lm, load_tokenizer
from trueup.models.tiny import learn_tokenizer
from trueup.types import PreferencePair, prompt_text

BATCH = 8
LONGEST = 512
PURPOSES = {"dpo": "dpo order", "reward": "reward order", "sft": "sft order"}


def prepare(folder: Path, data: Path | None, *, steps: int, seed: int = 0) -> dict[str, Any]:
    """Write ``gpt2/``, ``tiny/``, their reward models and one file a job into ``folder``; returns token statistics."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = _pairs(data)
    texts = [f"{p.prompt} {p.chosen} {p.rejected}" for p in pairs]
    tokenizer = learn_tokenizer(texts, 5_000, 1024)
    tokenizer.chat_template = None  # plain text on both sides
    torch.manual_seed(seed)
    shapes = {
        "gpt2": AutoConfig.for_model("gpt2", bos_token_id=0, eos_token_id=tokenizer.eos_token_id, pad_token_id=0),
        "tiny": AutoConfig.for_model(
            "llama",
            vocab_size=16_384,
            hidden_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=688,
            max_position_embeddings=512,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
    }
    sizes = {}
    for name, config in shapes.items():
        config.pad_token_id = tokenizer.pad_token_id
        model = AutoModelForCausalLM.from_config(config)
        sizes[name] = Shape.of(model)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    scorer = AutoModelForSequenceClassification.from_pretrained(folder / "gpt2", num_labels=1)
    scorer.config.pad_token_id = tokenizer.pad_token_id
    scorer.save_pretrained(folder / "scorer")
    tokenizer.save_pretrained(folder / "scorer")
    for name in shapes:
        judge = open_reward_model(Model(name=str(folder / name)), new_head=True, seed=seed)
        judge.export(folder / f"judge-{name}")
    return _write_jobs(folder, pairs, tokenizer, sizes, steps, seed)


def prepare_large(
    folder: Path, data: Path | None, config: Any, *, batch: int, steps: int, seed: int = 0
) -> dict[str, Any]:
    """Write ``large/``, random weights of ``config``, with DPO and SFT files of ``batch`` pairs a step."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = _pairs(data)
    tokenizer = learn_tokenizer([f"{p.prompt} {p.chosen} {p.rejected}" for p in pairs], 5_000, 1024)
    tokenizer.chat_template = None
    torch.manual_seed(seed)
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model = AutoModelForCausalLM.from_config(config)
    shape = Shape.of(model)
    model.save_pretrained(folder / "large")
    tokenizer.save_pretrained(folder / "large")
    fits = _evenly(_fitting(pairs, tokenizer, steps * batch), steps * batch)
    _write_files(folder, fits, batch, seed)
    lengths = _lengths(fits)
    flop = {
        "dpo": pair_step(shape, lengths, head=True, reference=True) / steps,
        "sft": sft_step(shape, [(p, c) for p, c, _ in lengths]) / steps,
    }
    return _facts(fits) | {"parameters": model.num_parameters(), "flop": flop}


def prepare_smollm2(
    folder: Path, data: Path | None, *, steps: int, batch: int = BATCH, seed: int = 0
) -> dict[str, Any]:
    """Write SmolLM2-135M-Instruct as ``model/``, ``scorer/`` and GGUF files, its job files and prompts into ``folder``.

    The pad token is one of its own, since a reward model's reads the last token that is no padding; there is no chat
    template, so that all sides read plain text.
    """
    from benchmarks.real_model import smollm2

    folder.mkdir(parents=True, exist_ok=True)
    opened = Model(name=str(smollm2()))
    model, tokenizer = load_causal_lm(opened), load_tokenizer(opened.name)
    tokenizer.chat_template, tokenizer.pad_token = None, "<|endoftext|>"
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    torch.manual_seed(seed)
    scorer = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=1)
    scorer.save_pretrained(folder / "scorer")
    tokenizer.save_pretrained(folder / "scorer")
    for kind in ("f32", "bf16", "f16"):
        shutil.rmtree(folder / f"gguf-{kind}", ignore_errors=True)
        export_gguf(find_source(str(folder / "model")), folder / f"gguf-{kind}", kind)
    fits = _fitting(_pairs(data), tokenizer, steps * batch)
    by_length = sorted(fits, key=lambda one: abs(len(one[1][0].prompt_ids) - sampling.PROMPT_TOKENS))
    prompts = list(dict.fromkeys(tuple(sides[0].prompt_ids) for _, sides in by_length))[:SAMPLED_ROWS]
    (folder / "asked.json").write_text(json.dumps(prompts))
    fits = _evenly(fits, steps * batch)
    _write_files(folder, fits, batch, seed)
    shape, lengths = Shape.of(model), _lengths(fits)
    flop = {
        "dpo": pair_step(shape, lengths, head=True, reference=True) / steps,
        "reward": pair_step(shape, lengths, head=False, reference=False) / steps,
        "sft": sft_step(shape, [(p, c) for p, c, _ in lengths]) / steps,
    }
    asked = sum(map(len, prompts)) / len(prompts)
    return _facts(fits) | {"weights": model.num_parameters(), "asked_tokens": asked, "flop": flop}


def _write_jobs(
    folder: Path, pairs: list[PreferencePair], tokenizer: Any, sizes: dict[str, Shape], steps: int, seed: int
) -> dict[str, Any]:
    fits = _fitting(pairs, tokenizer, steps * BATCH)
    asked, fits = _evenly(fits, max(steps * BATCH, 4 * 32)), _evenly(fits, steps * BATCH)
    _write_files(folder, fits, BATCH, seed)
    write_jsonl(folder / "prompts.jsonl", [{"prompt": f.prompt} for f, _ in asked])
    facts = _facts(fits) | {"flop": _operations(fits, asked, sizes, steps)}
    (folder / "facts.json").write_text(json.dumps(facts, indent=1))
    return facts


def _fitting(pairs: list[PreferencePair], tokenizer: Any, count: int) -> list[tuple[PreferencePair, Any]]:
    """Pairs that fit the longest sequence, rendered."""
    renderer = Renderer.of(tokenizer, Batch(max_length=LONGEST))
    fits = []
    for pair in pairs:
        try:
            sides = [renderer.render(pair.prompt, side) for side in (pair.chosen, pair.rejected)]
        except DataError:  # longer than the job's limit; the same pairs are left out for both sides
            continue
        if max(len(s.prompt_ids) + len(s.completion_ids) for s in sides) < LONGEST:
            fits.append((pair, sides))
    if len(fits) < count:
        raise SystemExit(f"{len(fits)} pairs fit {LONGEST} tokens; {count} are needed")
    return fits


def _write_files(folder: Path, fits: list[tuple[PreferencePair, Any]], batch: int, seed: int) -> None:
    for job, purpose in PURPOSES.items():
        plan = EpochPlan(range(len(fits)), batch, 1, seed, purpose)
        place = [i for step in range(len(plan)) for i in plan[step]]
        rows = [
            {"prompt": f.prompt, "completion": f.chosen}
            if job == "sft"
            else {"prompt": f.prompt, "chosen": f.chosen, "rejected": f.rejected}
            for f, _ in fits
        ]
        write_jsonl(folder / f"{job}.jsonl", rows)
        write_jsonl(folder / f"{job}-in-plan-order.jsonl", [rows[i] for i in place])


def _lengths(fits: list[tuple[PreferencePair, Any]]) -> list[tuple[int, int, int]]:
    """Tokens of prompt, chosen and rejected side."""
    return [(len(s[0].prompt_ids), len(s[0].completion_ids), len(s[1].completion_ids)) for _, s in fits]


def _facts(fits: list[tuple[PreferencePair, Any]]) -> dict[str, Any]:
    names = ("mean_prompt_tokens", "mean_chosen_tokens", "mean_rejected_tokens")
    columns = zip(*_lengths(fits), strict=True)
    return {"pairs": len(fits)} | {name: sum(column) / len(fits) for name, column in zip(names, columns, strict=True)}


def _evenly(fits: list[tuple[PreferencePair, Any]], count: int) -> list[tuple[PreferencePair, Any]]:
    """Pairs at even quantiles of length, in the order of the file: a few that are as long as all are."""
    by_length = sorted(
        range(len(fits)), key=lambda i: sum(len(s.prompt_ids) + len(s.completion_ids) for s in fits[i][1])
    )
    picked = (
        {by_length[int((k + 0.5) * len(fits) / count)] for k in range(count)} if len(fits) > count else range(len(fits))
    )
    return [fits[i] for i in sorted(picked)]


def _operations(
    fits: list[tuple[PreferencePair, Any]], asked: list[tuple[PreferencePair, Any]], sizes: dict[str, Shape], steps: int
) -> dict[str, float]:
    """Useful floating-point operations of one step of each job, on average."""
    lengths = _lengths(fits)
    gpt2 = sizes["gpt2"]
    found = {
        "dpo": pair_step(gpt2, lengths, head=True, reference=True) / steps,
        "reward": pair_step(gpt2, lengths, head=False, reference=False) / steps,
        "sft": sft_step(gpt2, [(p, c) for p, c, _ in lengths]) / steps,
    }
    for name, count in RLHF.items():
        prompts = [min(PROMPT_TOKENS, len(s[0].prompt_ids)) for _, s in asked]
        share = len(prompts) / count
        found[f"rlhf-{name}"] = rlhf_step(sizes[name], sizes[name], prompts, NEW_TOKENS, PPO_EPOCHS) / share
        sampled = [min(PROMPT_TOKENS, len(s[0].prompt_ids)) for _, s in asked[:SAMPLED_ROWS]]
        new = SAMPLED_ROWS * SAMPLED_TOKENS
        rows = [(0, p + SAMPLED_TOKENS) for p in sampled]
        found[f"sample-{name}"] = sizes[name].forward(sum(sampled) + new, rows, new)
    return found


def _pairs(data: Path | None) -> list[PreferencePair]:
    if data is None:
        from trueup.sandbox import World, label_pairs, panel

        world = World(0)
        labelled = label_pairs(panel(0), world.candidate_pairs("train", 400), per_pair=1, seed=0)
        return [
            PreferencePair(f"Human: {prompt_text(p.prompt)}\n\nAssistant:", " " + p.chosen, " " + p.rejected)
            for p in labelled
        ]
    found = read_pairs(data / "preference/hh_harmless.jsonl.gz", on_bad="skip").items
    flat = []
    for pair in found:
        assert not isinstance(pair.prompt, str)
        turns = "".join(f"\n\n{'Human' if m.role == 'user' else 'Assistant'}: {m.content}" for m in pair.prompt)
        flat.append(PreferencePair(turns + "\n\nAssistant:", " " + pair.chosen, " " + pair.rejected))
    return flat
