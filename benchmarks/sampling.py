"""Sampling from SmolLM2-135M-Instruct by one side, timed: trueup, transformers, llama.cpp or vLLM's CPU build.

All sides have the same weights, in bfloat16 (llama.cpp also in float16, which it may be faster in) or float32, the same
prompts, 64 new tokens whatever the end token says, and as many threads. A run is one call with all prompts, from
ids to ids; what is done once for all calls (opening the model, llama.cpp's server) is not counted, what each call does
again is. trueup also gives the log-prob of every token that it draws, the others give none.

This file is read by interpreters that have no trueup: whatever a side needs is imported where it is needed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

NEW = 64
"""New tokens of each answer, unless the command says another number."""
END = 2
"""SmolLM2's end token. Some sides give it no chance, some go on after it."""
PROMPT_TOKENS = 49
"""Prompts are those of the data whose length is nearest to this."""
CALLS = 3
"""Timed calls of a process, after one that is not."""
GREEDY_ROWS = 8
SIDES = ("trueup", "generate", "llama.cpp", "llama.cpp-f16", "vllm")
Ids: TypeAlias = list[int]
Run: TypeAlias = Callable[[list[Ids], int, bool], list[Ids]]
"""(prompts, new tokens, whether greedy) -> the new tokens of each."""


def job(side: str, detail: str, work: Path, new: int = NEW) -> dict[str, Any]:
    """``sample-smollm2-ROWS``: seconds of calls, of their first tokens, and of the first tokens of one prompt for all
    rows. ``sample-smollm2-greedy``: the greedy tokens too, in float32.

    Raises:
        SystemExit: The side has no such job.
    """
    greedy = detail == "greedy"
    if greedy and side == "llama.cpp-f16":
        raise SystemExit("llama.cpp-f16 has no greedy job: that is in float32")
    rows = GREEDY_ROWS if greedy else int(detail)
    prompts: list[Ids] = json.loads((work / "asked.json").read_text())[:rows]
    openers = {"trueup": _trueup, "generate": _generate, "vllm": _vllm}
    run = openers.get(side, _llama_cpp)(work, side, rows, "float32" if greedy else "bfloat16")
    answers = run(prompts, new, greedy)  # warms up
    seconds = [_timed(run, prompts, new, greedy) for _ in range(CALLS)]
    first = [_timed(run, prompts, 1, greedy) for _ in range(CALLS)]
    shared = [_timed(run, [prompts[0]] * rows, 1, greedy) for _ in range(CALLS)]
    return {
        "seconds": [0.0, *seconds],
        "first_seconds": sorted(first)[CALLS // 2],
        "shared_seconds": sorted(shared)[CALLS // 2],
        "losses": [],
        "once_seconds": 0.0,
        "lengths": [len(answer) for answer in answers],
        "tokens": answers if greedy else [],
    }


def _timed(run: Run, prompts: list[Ids], tokens: int, greedy: bool) -> float:
    begin = time.perf_counter()
    run(prompts, tokens, greedy)
    return time.perf_counter() - begin


def threads() -> int:
    """Threads of each side: as many as torch takes."""
    import torch

    return torch.get_num_threads()


def _trueup(work: Path, _: str, rows: int, dtype: str) -> Run:
    from trueup.config import Model, Sampling
    from trueup.engine.device import tuned_process
    from trueup.engine.generate import generate
    from trueup.models.policy import open_policy

    policy = open_policy(Model(name=str(work / "model"), dtype=dtype), frozen=True)

    def run(prompts: list[Ids], tokens: int, greedy: bool) -> list[Ids]:
        sampling = Sampling(max_new_tokens=tokens, temperature=0.0 if greedy else 1.0)
        with tuned_process():
            drawn = generate(policy, [tuple(p) for p in prompts], sampling, stop_ids=(), seed=0)
        return [list(one.ids) for one in drawn]

    return run


def _generate(work: Path, _: str, rows: int, dtype: str) -> Run:
    """With the weights in the precision of the products, which is faster than autocast."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(work / "model", dtype=getattr(torch, dtype)).eval()

    def run(prompts: list[Ids], tokens: int, greedy: bool) -> list[Ids]:
        width = max(len(p) for p in prompts)
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        options: dict[str, Any] = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0, "top_p": 1.0}
        options |= {"min_new_tokens": tokens, "max_new_tokens": tokens, "pad_token_id": 0}
        with torch.no_grad():
            out: list[Ids] = model.generate(input_ids=ids, attention_mask=mask, **options)[:, width:].tolist()
        return out

    return run


def _llama_cpp(work: Path, side: str, rows: int, dtype: str) -> Run:
    """llama.cpp's server inside this process, a slot for each row, all prompts in one request of its own protocol."""
    import urllib.request

    import xllamacpp

    kind = {"float32": "f32", "bfloat16": "f16" if side == "llama.cpp-f16" else "bf16"}[dtype]
    longest = max(len(p) for p in json.loads((work / "asked.json").read_text()))
    settings = xllamacpp.CommonParams()
    settings.model.path = str(next((work / f"gguf-{kind}").glob("*.gguf")))
    settings.n_parallel, settings.n_ctx = rows, rows * (longest + NEW + 16)
    settings.n_gpu_layers, settings.port, settings.cont_batching = 0, 0, True
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads()
    settings.cache_prompt, settings.cache_ram_mib = False, 0
    settings.warmup, settings.verbosity = True, 0
    if dtype == "float32":
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(settings)

    def run(prompts: list[Ids], tokens: int, greedy: bool) -> list[Ids]:
        body: dict[str, Any] = {"prompt": prompts, "n_predict": tokens, "ignore_eos": True}
        body |= {"cache_prompt": False, "return_tokens": True, "samplers": ["temperature"], "seed": 0}
        body |= {"temperature": 0.0 if greedy else 1.0}
        data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.listening_address}/completion", data, kind)
        with urllib.request.urlopen(request) as response:
            answers = json.load(response)
        answers = answers if isinstance(answers, list) else [answers]
        found = {int(answer["index"]): list(answer["tokens"]) for answer in answers}
        return [found[row] for row in range(len(prompts))]

    return run


def _vllm(work: Path, _: str, rows: int, dtype: str) -> Run:
    """vLLM's CPU build inside this process; its own compiler and batches, no cache of prompts."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR"}
    import vllm

    model = vllm.LLM(
        str(work / "model"), dtype=dtype, max_model_len=512, max_num_seqs=rows, enable_prefix_caching=False, seed=0
    )

    def run(prompts: list[Ids], tokens: int, greedy: bool) -> list[Ids]:
        how = vllm.SamplingParams(
            temperature=0.0 if greedy else 1.0, max_tokens=tokens, ignore_eos=True, detokenize=False
        )
        drawn = model.generate([{"prompt_token_ids": p} for p in prompts], how, use_tqdm=False)
        return [list(one.outputs[0].token_ids) for one in drawn]

    return run


def agreement(ours: Sequence[Ids], theirs: Sequence[Ids]) -> float:
    """Share of our tokens before an end token that theirs agree with before the first difference of each answer."""
    same = total = 0
    for one, other in zip(ours, theirs, strict=True):
        before = one[: one.index(END)] if END in one else one
        total += len(before)
        same += next((number for number, token in enumerate(before) if token != other[number]), len(before))
    return same / total


def bandwidth(weight_bytes: int) -> dict[str, float]:
    """GB a second that memory gives to ``threads()`` threads: the best of several times.

    ``copy``: a copy of what no cache holds, read and written bytes together. ``read``: the sum of the same.
    ``reread``: the sum of as many bytes as the weights have, over and over, some of which a large cache may hold.
    """
    import torch

    large, small = (torch.ones(size // 4, dtype=torch.float32) for size in (1 << 30, weight_bytes))
    target = torch.empty_like(large)
    return {
        "copy_gb_per_s": 2 * _rate(lambda: target.copy_(large), large),
        "read_gb_per_s": _rate(large.sum, large),
        "reread_gb_per_s": _rate(small.sum, small),
    }


def _rate(run: Callable[[], Any], tensor: Any) -> float:
    run()
    best, until = float("inf"), time.perf_counter() + 1.0
    while time.perf_counter() < until:
        begin = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begin)
    return float(tensor.numel() * tensor.element_size() / best / 1e9)
