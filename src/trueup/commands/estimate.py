"""``trueup plan --on GPU``: memory and time of a recipe on hardware that is not here, by counting.

Where a machine is at hand, ``trueup plan`` without ``--on`` measures and is right. This counts: weights, gradients and
optimizer state as trueup holds them, activations by what the backward pass of a block needs, products by the weights
that a token meets. It trusts one number that was not counted, the share of the GPU's peak that training reaches.

Counted a token, forward: 2 operations a weight, and 2 * layers * attention width * length for causal attention (Kaplan
et al. 2020, arXiv 2001.08361, halved for the mask). Backward is twice the forward; a frozen weight costs half of that;
recomputed activations cost another forward. Sampling reads all weights and the cache for each token of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trueup.commands.estimate_rewards import Scorers, adapter_bases, scorers_of
from trueup.commands.hardware import Accelerator, Shape, shape_of
from trueup.commands.pipeline import Stage, read_recipe, resolve_stage
from trueup.config import Lora, Settings, Tiny
from trueup.errors import UsageError
from trueup.ledger.progress import duration
from trueup.recipes.table import RECIPES

EFFICIENCY = 0.35
"""Share of the dense bfloat16 peak. Not measured by trueup; 26,000 tokens a second for a 0.6B model at 16k context with
recomputation on one H100, which a trainer publishes, is 0.3 to 0.4 by this count."""
SAMPLING = 0.5
"""Share of the bandwidth that sampling reaches."""
USABLE = 0.9
"""Share of the memory that can be filled before the allocator's holes matter."""
CONTEXT_GB = 1.0
"""CUDA's own memory and the chunks of logits."""
CHARACTERS = 4.0
"""Of a token, in English prose."""
STATE = {"weights": 4, "bfloat16 copies": 2, "gradients": 4, "optimizer": 8}
"""Bytes of a weight that learns."""
FROZEN = {"weights": 4, "bfloat16 copies": 2}
"""Bytes of a weight that does not, on a GPU; that of a reference or a reward model too."""
DEAD = 0.5
"""Share of groups whose rewards are all equal, where a method draws others in their place (``resample``). Not counted:
it depends on how hard the prompts are for the policy, and changes as it learns (Yu et al. 2025, arXiv 2503.14476)."""
GPUS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Amount:
    """How much a stage reads: rows, and tokens of a sequence (prompt with answer) and of a prompt alone."""

    rows: int
    sequence: float
    prompt: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one stage would take on one kind of GPU. ``gpus`` is None where no number of them holds it."""

    stage: str
    kind: str
    model: Shape
    gpus: int | None
    engine: str
    memory_gb: dict[str, float]
    """By part, of one process."""
    seconds: float | None
    tokens_s: float | None
    """Tokens that are learned from, all GPUs together, with everything that a step does."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "stage": self.stage,
            "kind": self.kind,
            "model": self.model.name,
            "weights": self.model.weights,
            "gpus": self.gpus,
            "engine": self.engine,
            "memory_gb": self.memory_gb,
            "seconds": self.seconds,
            "tokens_s": self.tokens_s,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plan is for."""

    gpu: Accelerator
    gpus: int | None = None
    """None: as few as hold it."""
    model: str | None = None
    """A shape to count with instead of the recipe's own models."""
    rows: int | None = None
    tokens: int | None = None
    efficiency: float = EFFICIENCY


def estimate(recipe: Path, asked: Asked, tell: Callable[[str], None] = lambda line: None) -> list[Estimate]:
    """Count every training stage of ``recipe``; what else it has is not counted, which ``tell`` is called with.

    Raises:
        ConfigError: The recipe has a mistake.
        ModelError: The shape of a model is not known.
        UsageError: Neither the data nor the arguments say how much there is to read.
    """
    out, stages = read_recipe(recipe)
    bases = adapter_bases(out, stages)
    shapes: dict[str, Shape] = {}
    made = []
    for stage in stages:
        if stage.kind not in RECIPES:
            tell(f"{stage.name}: {stage.kind} is not counted")
            if isinstance(model := stage.settings.get("model"), Mapping) and "name" in model:
                shapes[stage.name] = _named(str(model["name"]), shapes, asked)  # later stages may go on from it
            continue
        config: Any = resolve_stage(stage, lambda name: f"@{name}")
        shapes[stage.name] = _named(config.model.name, shapes, asked, config.model.tiny)
        made.append(count(stage, config, shapes[stage.name], _amount(stage, config, asked), asked, bases))
    if not made:
        raise UsageError("no stage trains anything", where=str(recipe), expected=f"one of {', '.join(RECIPES)}")
    return made


def count(
    stage: Stage, config: Any, shape: Shape, amount: Amount, asked: Asked, bases: Mapping[str, str] | None = None
) -> Estimate:
    """One stage, by its settings, the shape of its model and how much it reads.

    Args:
        stage: Its name and kind.
        config: Its settings.
        shape: Of the model that learns.
        amount: Rows and tokens.
        asked: What the plan is for.
        bases: Folders of adapters that earlier stages will write, and the models that they change.
    """
    if hasattr(config, "sampling"):
        work = _online(config, shape, amount, scorers_of(config.reward, bases or {}, config.model.engine))
    else:
        work = _offline(stage.kind, config, shape, amount)
    gpus, engine, memory = _fit(config, shape, work, asked)
    notes = [amount.note] if amount.note else []
    if again := getattr(config, "resample", 0):
        notes.append(
            f"{stage.name}: counted with {sum(work.draws[1:]) / work.draws[0]:.2f} answers drawn again for each answer"
            f" of a step, as if {DEAD:.0%} of all groups taught nothing; resample={again} allows {again}"
        )
    if config.model.dtype != "bfloat16":
        notes.append(f"{stage.name}: counted with model.dtype=bfloat16, which the recipe does not set")
    seconds = None
    if gpus is not None:
        seconds = work.operations / (asked.gpu.tflops * 1e12 * asked.efficiency * gpus)
        seconds += _sampling_seconds(work, asked.gpu, gpus)
    else:
        most = asked.gpus or GPUS[-1]
        notes.append(f"{stage.name}: {most} of these do not hold it; {_way_out(config, shape, work, asked)}")
    pace = work.learned_tokens / seconds if seconds else None
    return Estimate(stage.name, stage.kind, shape, gpus, engine, memory, seconds, pace, tuple(notes))


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage computes and holds, before it is known how many GPUs share it."""

    operations: float
    learned_tokens: float
    longest: int
    frozen: Mapping[str, Shape] = field(default_factory=dict)
    """Further models by what they are for."""
    rounds: int = 0
    """Steps that sample, and below: tokens of an answer, bytes of a sequence's cache, bytes of the weights it reads."""
    draws: tuple[float, ...] = ()
    """Answers of each draw of a step; after the first come those in the place of groups that teach nothing."""
    answer_tokens: int = 0
    sequence_cache: float = 0.0
    read_bytes: float = 0.0


def forward(shape: Shape, length: float, *, head: bool = True) -> float:
    """Operations of one token of a sequence of ``length`` in the forward pass."""
    weights = shape.product_weights if head else shape.block_weights
    return 2.0 * weights + 2.0 * shape.layers * shape.attention_width * length


def training(config: Any, shape: Shape, length: float, *, head: bool = True) -> float:
    """Operations of one token that is learned from: forward, backward, and the forward again where it is recomputed."""
    passes = (2.0 if config.model.lora else 3.0) + float(config.model.gradient_checkpointing)
    return forward(shape, length, head=head) * passes


def activations(shape: Shape, tokens: int, *, recompute: bool) -> float:
    """Bytes that the backward pass needs of ``tokens`` under bfloat16 autocast: the residual stream is float32.

    A block keeps its two norms' inputs and outputs (float32) and their bfloat16 copies, queries, keys and values before
    and after rotation, the attention's output, and four tensors of the MLP. Recomputed, only its input is kept, and one
    block's are there at a time.
    """
    block = 16 * shape.hidden + 4 * shape.hidden + 6 * shape.attention_width + 8 * shape.kv_width
    block += (8 if shape.gated else 4) * shape.intermediate
    if recompute:
        return tokens * (4.0 * shape.hidden * shape.layers + block)
    return tokens * float(block) * shape.layers


def _offline(kind: str, config: Any, shape: Shape, amount: Amount) -> Work:
    responses = 1 if kind in ("sft", "kto") else 2
    tokens = amount.rows * config.epochs * responses * amount.sequence
    operations = tokens * training(config, shape, amount.sequence, head=kind != "reward")
    frozen = {}
    if kind == "reward" and config.head_start == "fit":  # one pass over the pairs that the head is fitted to
        from trueup.recipes.head_start import FITTED  # loads torch: only where it is asked for

        fitted = min(amount.rows, FITTED) * responses * amount.sequence
        operations += fitted * forward(shape, amount.sequence, head=False)
    if kind in ("dpo", "kto"):  # log-probs of the reference are computed once
        operations += amount.rows * responses * amount.sequence * forward(shape, amount.sequence)
        if not config.model.lora:
            frozen["reference"] = shape
    return Work(operations, tokens, math.ceil(min(config.batch.max_length, 2 * amount.sequence)), frozen)


def _online(config: Any, shape: Shape, amount: Amount, scorers: Scorers) -> Work:
    answer = config.sampling.max_new_tokens
    length = amount.prompt + answer
    # Of the groups that one draw brings, this share is drawn again, and of these the same share.
    draws = tuple(config.batch.size * DEAD**number for number in range(getattr(config, "resample", 0) + 1))
    learned = config.steps * config.batch.size * length
    updates = getattr(config, "epochs", 1)
    # The policy's and the reference's log-probs and the reward models, then the updates on one batch of answers.
    scored = 2 * forward(shape, length) + scorers.passes * forward(shape, length, head=False)
    operations = config.steps * sum(draws) * length * scored + updates * learned * training(config, shape, length)
    frozen = {} if config.model.lora else {"reference": shape}
    frozen |= {"reward model" if k == 0 else f"reward model {k + 1}": shape for k in range(scorers.models)}
    return Work(
        operations,
        learned,
        math.ceil(length),
        frozen,
        rounds=config.steps,
        draws=draws,
        answer_tokens=answer,
        sequence_cache=4.0 * shape.layers * shape.kv_width * length,
        read_bytes=2.0 * shape.product_weights,
    )


def _sampling_seconds(work: Work, gpu: Accelerator, gpus: int) -> float:
    """Each token of a draw reads all weights once and half of the cache, on average, of each answer."""
    shares = [math.ceil(answers / gpus) for answers in work.draws]
    a_token = sum(work.read_bytes + share * work.sequence_cache / 2 for share in shares) / (gpu.gb_s * 1e9 * SAMPLING)
    return work.rounds * work.answer_tokens * a_token


def _fit(config: Any, shape: Shape, work: Work, asked: Asked) -> tuple[int | None, str, dict[str, float]]:
    """The fewest GPUs that hold it, or those asked for; and the memory of one process with them."""
    room = asked.gpu.gb * USABLE
    memory: dict[str, float] = {}
    for gpus in (asked.gpus,) if asked.gpus else GPUS:
        for engine in ("ddp",) if gpus == 1 else ("ddp", "fsdp2"):
            memory = memory_gb(config, shape, work, gpus, sharded=engine == "fsdp2")
            if sum(memory.values()) <= room:
                return gpus, engine, memory
    return None, "fsdp2", memory


def memory_gb(config: Any, shape: Shape, work: Work, gpus: int, *, sharded: bool) -> dict[str, float]:
    """GB of one process by part; answers are shared by all, blocks where they are sharded, their ends never."""
    shards = gpus if sharded else 1
    held = shape.block_weights / shards + shape.end_weights
    parts: dict[str, float] = {}
    if config.model.lora:
        widths = 2 * (shape.hidden + shape.attention_width) + 2 * (shape.hidden + shape.kv_width)
        widths += (3 if shape.gated else 2) * (shape.hidden + shape.intermediate)
        adapters = shape.layers * config.model.lora.rank * widths
        parts |= {f"{part}, frozen": held * size for part, size in FROZEN.items()}
        parts["adapters with their state"] = float(adapters * sum(STATE.values()))
    else:
        parts |= {part: held * size for part, size in STATE.items()}
    for name, other in work.frozen.items():
        whole = name.startswith("reward model")  # scored by each process as it is
        parts[name] = (other.block_weights / (1 if whole else shards) + other.end_weights) * float(sum(FROZEN.values()))
    if shards > 1:
        parts["one gathered block"] = 8.0 * shape.block_weights / shape.layers
    parts["activations"] = activations(
        shape,
        max(config.batch.micro_tokens or 8192, work.longest),
        recompute=config.model.gradient_checkpointing,
    )
    if work.draws:
        sampled = math.ceil(work.draws[0] / gpus) * work.sequence_cache
        # Sampling gathers the weights whole, and its cache is gone before activations are there.
        gathered = 2.0 * shape.block_weights if shards > 1 else 0.0
        parts["activations"] = max(parts["activations"], sampled + gathered)
    return {name: size / 1e9 for name, size in parts.items()} | {"context": CONTEXT_GB}


def _way_out(config: Any, shape: Shape, work: Work, asked: Asked) -> str:
    """The first change of settings with which it fits, and what it then takes."""
    recomputed, adapters = {"gradient_checkpointing": True}, {"lora": Lora()}
    short = {"micro_tokens": work.longest}
    for model, batch in ((recomputed, {}), (recomputed, short), (recomputed | adapters, short)):
        changed = SimpleNamespace(
            model=config.model.model_copy(update=model), batch=config.batch.model_copy(update=batch)
        )
        gpus, engine, memory = _fit(changed, shape, work, asked)
        if gpus is not None:
            names = [f"model.{name}" for name in model] + [f"batch.{name}={value}" for name, value in batch.items()]
            where = f"{gpus} ({engine})" if gpus > 1 else "one"
            return f"with {', '.join(names)} {where} would, {sum(memory.values()):.0f} GB each"
    return "nor with recomputation and adapters: take a smaller model or GPUs with more memory"


def _named(name: str, shapes: Mapping[str, Shape], asked: Asked, tiny: Tiny | None = None) -> Shape:
    if asked.model:
        return shape_of(asked.model)
    if name.startswith("@") and name[1:] in shapes:
        return shapes[name[1:]]
    return shape_of(name, tiny)


def _amount(stage: Stage, config: Settings, asked: Asked) -> Amount:
    """Rows and tokens as asked, else by the data: characters by four, a prompt a third of what the arguments say."""
    if asked.rows and asked.tokens:
        return Amount(asked.rows, asked.tokens, asked.tokens / 3)
    data = str(getattr(config, "data", ""))
    if data.startswith("@") or not data:
        raise UsageError(
            f"{data or 'no data'} is not there yet", where=f"stage {stage.name}", fix="--rows N --tokens N"
        )
    rows, sequence, prompt = _measured(stage.kind, data)
    note = f"{stage.name}: {rows:,} rows, {sequence:.0f} tokens each, {CHARACTERS:.0f} characters counted as one"
    return Amount(asked.rows or rows, asked.tokens or sequence, asked.tokens / 3 if asked.tokens else prompt, note)


def _measured(kind: str, data: str) -> tuple[int, float, float]:
    from trueup.data import read
    from trueup.types import prompt_text

    readers = {"sft": read.read_demonstrations, "kto": read.read_labelled, "dpo": read.read_pairs}
    readers["reward"] = read.read_pairs
    items: Sequence[Any] = readers.get(kind, read.read_prompts)(data).items
    prompts = [len(prompt_text(getattr(item, "prompt", item))) / CHARACTERS for item in items]
    answers = [_answer_length(item) / CHARACTERS for item in items]
    prompt = sum(prompts) / len(items)
    return len(items), prompt + sum(answers) / len(items), prompt


def _answer_length(item: Any) -> float:
    """Characters of an answer; of a pair the mean of both; of a prompt none."""
    texts = [getattr(item, name) for name in ("chosen", "rejected", "completion") if hasattr(item, name)]
    return sum(map(len, texts)) / len(texts) if texts else 0.0


def table(estimates: Sequence[Estimate], asked: Asked) -> str:
    """The plan for people."""
    width = max(5, *(len(one.stage) for one in estimates))
    lines = [
        f"Counted, not measured: {asked.gpu.name}, {asked.gpu.tflops:g} TFLOP/s in bfloat16 of which training reaches "
        f"{asked.efficiency:.0%}, {asked.gpu.gb:g} GB.",
        f"{'stage':<{width}}  {'weights':>8}  {'GPUs':>11}  {'GB each':>8}  {'tokens/s':>9}  {'time':>9}",
    ]
    for one in estimates:
        gpus = "none" if one.gpus is None else f"{one.gpus} {one.engine if one.gpus > 1 else ''}".strip()
        cells = (f"{one.tokens_s:>9,.0f}", f"{duration(one.seconds):>9}") if one.seconds and one.tokens_s else ("", "")
        lines.append(
            f"{one.stage:<{width}}  {one.model.weights / 1e9:>7.2f}B  {gpus:>11}  {sum(one.memory_gb.values()):>8.1f}  "
            f"{cells[0]:>9}  {cells[1]:>9}"
        )
    for one in estimates:
        parts = sorted(one.memory_gb.items(), key=lambda part: -part[1])
        lines.append(f"{one.stage}: " + ", ".join(f"{name} {size:.1f}" for name, size in parts) + " GB")
    lines += [note for one in estimates for note in one.notes]
    return "\n".join(lines)
