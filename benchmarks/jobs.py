"""One timed job of one side, in a process of its own: ``python -m benchmarks.jobs SIDE JOB --work DIR`` prints JSON.

SIDE is ``trueup``, ``trueup-lean`` (training jobs with gradient checkpointing, as in TRL by default),
``trl`` (its defaults) or ``trl-best`` (the fastest of its settings that we found: no gradient checkpointing, reference
log-probs precomputed and not counted). All sides read the same weights and the same batches in the same order, with the
same optimizer, so their losses must agree step by step.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import sampling

LEARNING_RATE = 1e-5
JOBS = ("dpo-bf16", "dpo-fp32", "reward-bf16", "sft-bf16", "sample-gpt2", "sample-tiny", "rlhf-gpt2", "rlhf-tiny")
REAL_TRAINING = ("dpo-smollm2", "dpo-smollm2-fp32", "reward-smollm2", "sft-smollm2")
REAL_SAMPLING = ("sample-smollm2-1", "sample-smollm2-8", "sample-smollm2-32", "sample-smollm2-greedy")
"""Jobs of SmolLM2-135M-Instruct: training, in bfloat16 unless the name says float32, and sampling
(``benchmarks.sampling``). Its files are in ``WORK/smollm2``."""
RLHF = {"gpt2": 16, "tiny": 32}
"""Prompts of one RLHF step; each gets ``NEW_TOKENS`` and the batch is learned from ``PPO_EPOCHS`` times."""
MICRO = {"cuda": {"micro_tokens": 65_536}}
"""Tokens of one pass, where they are not the default."""
NEW_TOKENS, PPO_EPOCHS, PROMPT_TOKENS = 32, 4, 96
SAMPLED_ROWS, SAMPLED_TOKENS = 32, 48
"""Prompts of one call of a sampling job, and new tokens of each."""


def main() -> None:
    """Run the job and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["trueup", "trueup-lean", "trl", "trl-best", *sampling.SIDES[1:]])
    parser.add_argument("job", choices=[*JOBS, *REAL_TRAINING, *REAL_SAMPLING])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="gpt2", help="folder of the model inside WORK, for training jobs")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new", type=int, default=sampling.NEW, help="new tokens of SmolLM2's answers")
    args = parser.parse_args()
    if args.side.startswith("trueup"):  # others' interpreters may have no trueup
        from trueup.commands.restart import restart

        restart(any_program=True)  # as the command does
    method, _, detail = args.job.partition("-")
    lean = args.side == "trueup-lean"
    if lean and method in ("rlhf", "sample"):
        parser.error(f"{args.job} has no trueup-lean: that side is for dpo, reward and sft jobs")
    setting = Setting(args.work, args.model, args.device, args.batch)
    if args.job in REAL_TRAINING:
        detail = "fp32" if detail.endswith("fp32") else "bf16"
        setting = Setting(args.work / "smollm2", "model", args.device, args.batch)
    if args.job in REAL_SAMPLING:
        found = sampling.job(args.side, args.job.rpartition("-")[2], args.work / "smollm2", args.new)
    elif method == "rlhf":
        step = _trueup_rlhf if args.side == "trueup" else _trl_rlhf
        found = step(args.work, detail, args.side == "trl-best")
    elif method == "sample":
        found = _sample(args.side, args.work, detail)
    elif args.side.startswith("trueup"):
        found = _trueup(method, detail, setting, lean=lean)
    else:
        found = _trl(method, detail, setting, best=args.side == "trl-best")
    found["peak_gb"] = _peak_gb(args.device)
    print("RESULT " + json.dumps(found))


@dataclass(frozen=True)
class Setting:
    """Where the weights and batches of a training job are, and what it runs on."""

    work: Path
    model: str
    device: str
    batch: int


def _peak_gb(device: str) -> float:
    """Most memory held, of this program alone where the system tells it; on a GPU, of the GPU's.

    The interpreter of TRL 1.12 has no trueup, whose ``peak_memory`` would say the same.
    """
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e9
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM"))


def _trueup(method: str, dtype: str, setting: Setting, *, lean: bool) -> dict[str, Any]:
    import tempfile

    from trueup.ledger import read_lines
    from trueup.recipes import dpo, reward
    from trueup.recipes.registry import execute
    from trueup.recipes.table import RECIPES

    work = setting.work
    optim = {"learning_rate": LEARNING_RATE, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "eps": 1e-8}
    optim["betas"] = [0.9, 0.999]
    settings: dict[str, Any] = {
        "data": str(work / f"{method}.jsonl"),
        "model": {
            "name": str(work / setting.model),
            "dtype": {"bf16": "bfloat16", "fp32": "float32"}[dtype],
            "device": setting.device,
            "gradient_checkpointing": lean,
        },
        "batch": {"size": setting.batch, "max_length": 512, "pool": 1} | MICRO.get(setting.device, {}),
        "optim": optim,
        "epochs": 1,
        "save_every": 10_000,
        "probes": 0,  # the others sample nothing either
    }
    once = {"seconds": 0.0}
    if method == "dpo":
        settings["objective"] = {"kind": "dpo", "beta": 0.1}
        honest = dpo.reference_logps

        def timed(*given: Any) -> Any:
            begin = time.perf_counter()
            found = honest(*given)
            once["seconds"] += time.perf_counter() - begin
            return found

        dpo.reference_logps = timed
    if method == "reward":
        settings["centre"] = 0.0
        opened = reward.open_reward_model

        def with_the_common_head(*given: Any, **more: Any) -> Any:
            import torch
            from safetensors.torch import load_file

            model = opened(*given, **more)
            with torch.no_grad():
                model.model.score.weight.copy_(load_file(work / "scorer" / "model.safetensors")["score.weight"])
            return model

        reward.open_reward_model = with_the_common_head
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        execute(method, RECIPES[method].settings()(**settings), out, quiet=True)
        seconds = [row["seconds"] for row in read_lines(out / "timing.jsonl")[0]]
        losses = [row["nll" if method == "sft" else "loss"] for row in read_lines(out / "metrics.jsonl")[0]]
    return {"seconds": seconds, "losses": losses, "once_seconds": once["seconds"]}


def _trl(method: str, dtype: str, setting: Setting, *, best: bool) -> dict[str, Any]:
    import tempfile
    from importlib.util import find_spec

    import trl
    from datasets import load_dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

    work = setting.work
    marks: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            marks.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.perf_counter())

    kinds = {
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "reward": (trl.RewardTrainer, trl.RewardConfig),
        "sft": (trl.SFTTrainer, trl.SFTConfig),
    }
    trainer_class, config_class = kinds[method]

    class InOrder(trainer_class):  # type: ignore[misc, valid-type]
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    options: dict[str, Any] = {
        "per_device_train_batch_size": setting.batch,
        "max_length": 512,
        "bf16": dtype == "bf16",
        "use_cpu": setting.device == "cpu",
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "num_train_epochs": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    if best:
        options["gradient_checkpointing"] = False
        if method == "dpo":
            options["precompute_ref_log_probs"] = True
        if setting.device == "cuda":  # what is installed there; the page names it
            options["use_liger_kernel"] = find_spec("liger_kernel") is not None
            if method != "reward" and find_spec("flash_attn") is not None:
                options["padding_free"] = True
                options["model_init_kwargs"] = {"attn_implementation": "flash_attention_2"}
    model: Any = str(work / setting.model)
    if method == "reward":
        model = AutoModelForSequenceClassification.from_pretrained(work / "scorer", num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(work / setting.model)
    data = load_dataset("json", data_files=str(work / f"{method}-in-plan-order.jsonl"), split="train")
    with tempfile.TemporaryDirectory() as folder:
        trainer = InOrder(
            model=model,
            args=config_class(output_dir=folder, **options),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    # From one step's beginning to the next: what happens between steps is part of the price.
    seconds = [end - begin for begin, end in zip(marks[::2], [*marks[2::2], marks[-1]], strict=True)]
    return {"seconds": seconds, "losses": losses, "once_seconds": 0.0}


def _sample(side: str, work: Path, which: str) -> dict[str, Any]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work / which)
    texts = [json.loads(line)["prompt"] for line in (work / "prompts.jsonl").read_text().splitlines()[:SAMPLED_ROWS]]
    prompts = [tuple(tokenizer(text)["input_ids"][-PROMPT_TOKENS:]) for text in texts]
    run = _trueup_sampling(work / which, prompts) if side == "trueup" else _peer_sampling(work / which, prompts)
    run()
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": [0.0, *seconds], "losses": [], "once_seconds": 0.0}


def _trueup_sampling(model: Path, prompts: list[tuple[int, ...]]) -> Callable[[], None]:
    from trueup.config import Model, Sampling
    from trueup.engine.device import tuned_process
    from trueup.engine.generate import generate
    from trueup.models.policy import open_policy

    policy = open_policy(Model(name=str(model), dtype="bfloat16"), frozen=True)

    def run() -> None:
        with tuned_process():
            generate(policy, prompts, Sampling(max_new_tokens=SAMPLED_TOKENS), stop_ids=(), seed=0)

    return run


def _peer_sampling(model: Path, prompts: list[tuple[int, ...]]) -> Callable[[], None]:
    """``generate`` of the model as transformers opens it, under autocast as in a trainer."""
    import torch
    from transformers import AutoModelForCausalLM

    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    width = max(len(p) for p in prompts)
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    length = {"min_new_tokens": SAMPLED_TOKENS, "max_new_tokens": SAMPLED_TOKENS}
    options = {"do_sample": True, "top_k": 0, "pad_token_id": 0} | length

    def run() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            policy.generate(input_ids=ids, attention_mask=mask, **options)

    return run


def _trueup_rlhf(work: Path, which: str, _: bool) -> dict[str, Any]:
    import tempfile

    from trueup.ledger import read_lines
    from trueup.recipes.registry import execute
    from trueup.recipes.table import RECIPES

    size = RLHF[which]
    settings: dict[str, Any] = {
        "data": str(work / "prompts.jsonl"),
        "reward": str(work / f"judge-{which}"),
        "model": {"name": str(work / which), "dtype": "bfloat16"},
        "batch": {"size": size, "max_length": 512, "max_prompt_length": PROMPT_TOKENS, "max_truncated": 1.0},
        "optim": {"learning_rate": LEARNING_RATE, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0},
        "sampling": {"max_new_tokens": NEW_TOKENS, "temperature": 0.7},
        "epochs": PPO_EPOCHS,
        "mini_batches": 1,
        "steps": 4,
        "probes": 0,
        "save_every": 10_000,
    }
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        execute("ppo", RECIPES["ppo"].settings()(**settings), out, quiet=True)
        seconds = [row["seconds"] for row in read_lines(out / "timing.jsonl")[0]]
        lengths = [row["completion_length"] for row in read_lines(out / "metrics.jsonl")[0]]
    return {"seconds": seconds, "losses": [], "lengths": lengths, "once_seconds": 0.0}


def _trl_rlhf(work: Path, which: str, best: bool) -> dict[str, Any]:
    """The last TRL release that has PPO, 1.12; run it with an interpreter where that one is installed."""
    import tempfile

    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    marks: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            marks.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.perf_counter())

    tokenizer = AutoTokenizer.from_pretrained(work / which, padding_side="left")
    texts = [json.loads(line)["prompt"] for line in (work / "prompts.jsonl").read_text().splitlines()]
    rows = [{"input_ids": tokenizer(text)["input_ids"][-PROMPT_TOKENS:]} for text in texts]
    size = RLHF[which]
    judges = [AutoModelForSequenceClassification.from_pretrained(work / f"judge-{which}", num_labels=1) for _ in "rv"]
    options: dict[str, Any] = {"gradient_checkpointing": False} if best else {}
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=1,
            num_mini_batches=1,
            num_ppo_epochs=PPO_EPOCHS,
            total_episodes=4 * size,
            response_length=NEW_TOKENS,
            num_sample_generations=0,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            bf16=True,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **options,
        )
        trainer = PPOTrainer(
            args=config,
            processing_class=tokenizer,
            model=AutoModelForCausalLM.from_pretrained(work / which),
            ref_model=AutoModelForCausalLM.from_pretrained(work / which),
            reward_model=judges[0],
            value_model=judges[1],
            train_dataset=Dataset.from_list(rows),
            callbacks=[Clock()],
        )
        trainer.train()
    seconds = [end - begin for begin, end in pairwise(marks)]
    return {"seconds": seconds, "losses": [], "lengths": [float(NEW_TOKENS)] * len(seconds), "once_seconds": 0.0}


if __name__ == "__main__":
    main()
