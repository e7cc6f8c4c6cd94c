"""Typed configuration: defaults < YAML file < ``--set a.b=c``; nothing unknown is ever accepted.

A recipe's config is one frozen pydantic model. The docstring under a field is its help, and
the resolved config is written to ``run.json``. Errors name the file, line and field.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from trueup.config.errors import LIST, blocks_in, complaints, truth_values
from trueup.errors import ConfigError
from trueup.ledger.progress import warn


class Settings(BaseModel):
    """Base of every config block: frozen, strict about unknown keys, documented by field docstrings."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


class Optim(Settings):
    """How gradients become updates."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate of AdamW."""
    schedule: str = Field(default="cosine", pattern="^(cosine|linear|constant)$")
    """Shape after warm-up: cosine or linear to ``final_fraction`` of the peak, or constant."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of all steps spent in linear warm-up."""
    final_fraction: float = Field(default=0.1, ge=0, le=1)
    """Learning rate at the last step as a share of the peak."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """AdamW's denominator term; PPO uses 1e-5."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay on matrices; biases and norms are never decayed."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Global gradient norm above which the whole gradient is scaled down, after accumulation."""
    on_nonfinite: str = Field(default="stop", pattern="^(stop|skip)$")
    """What a NaN or infinite loss or gradient does: stop the run, or skip the step and count it."""

    @field_validator("betas")
    @classmethod
    def _betas_are_decay_rates(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("both must be at least 0 and below 1")
        return betas


class Batch(Settings):
    """How many examples make one step, and how they are cut into micro-batches."""

    size: int = Field(default=32, ge=1)
    """Examples (pairs, prompts or texts) per optimizer step."""
    micro_tokens: int | None = Field(default=None, ge=1)
    """Padded tokens of one micro-batch; an example longer than this runs alone. None: 8192, on a CPU down to 2048 for
    large models, which need no larger passes to be fast."""
    max_length: int = Field(default=512, ge=2)
    """Longest prompt plus completion in tokens."""
    max_prompt_length: int | None = Field(default=None, ge=1)
    """Longest prompt in tokens; a longer one loses its beginning. None: only ``max_length`` counts."""
    max_truncated: float = Field(default=0.05, ge=0, le=1)
    """Share of examples that may lose completion tokens or be dropped before the run refuses to start."""

    @model_validator(mode="after")
    def _prompts_leave_room(self) -> Batch:
        if self.max_prompt_length is not None and self.max_prompt_length >= self.max_length:
            raise ValueError(
                f"max_prompt_length {self.max_prompt_length} leaves no completion within max_length {self.max_length}"
            )
        return self


class EpochBatch(Batch):
    """The same for examples that are gone through in epochs."""

    pool: int = Field(default=8, ge=1)
    """Training batches are cut from pools of this many, sorted by length, to save padding; 1 is plain random order."""


class Tiny(Settings):
    """A random-init Llama of a few hundred thousand to a few million parameters, trained from scratch."""

    hidden: int = Field(default=128, ge=8, le=16384)
    """Width of the residual stream."""
    layers: int = Field(default=4, ge=1, le=512)
    """Number of transformer blocks."""
    heads: int = Field(default=4, ge=1)
    """Attention heads; must divide ``hidden`` into even widths, which rotary positions need."""
    vocabulary: int = Field(default=2048, ge=300, le=1_000_000)
    """Size of the byte-level BPE vocabulary learned from the data."""
    context: int = Field(default=256, ge=16, le=10_000_000)
    """Longest sequence that the positions allow."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Tiny:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            fitting = [n for n in range(1, self.hidden // 2 + 1) if self.hidden % (2 * n) == 0]
            near = sorted(sorted(fitting, key=lambda n: abs(n - self.heads))[:4])
            advice = f"heads may be {', '.join(map(str, near))}" if near else "take an even hidden"
            raise ValueError(f"{self.heads} heads do not divide hidden {self.hidden} into even widths: {advice}")
        return self


class Lora(Settings):
    """Low-rank adapters on all linear layers instead of full fine-tuning (Hu et al. 2021)."""

    rank: int = Field(default=16, ge=1)
    """Rank of the update."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale: the update is multiplied by ``alpha / rank``."""


KERNELS = (
    "activations",
    "linears",
    "norms",
    "rope",
    "attention",
    "head",
    "gradients",
    "packing",
    "decoder",
    "frozen_weights",
)
"""Names of fast paths, as ``kernels.KERNELS`` has them, which loads torch."""


TEMPLATE_OWN = ("messages", "add_generation_prompt", "tools", "documents")
"""Variables of a chat template that stand for the conversation."""


class Model(Settings):
    """Which model is trained, and in which precision."""

    name: str = "tiny"
    """A Hugging Face name, a local directory, a GGUF file, or ``tiny`` for a new random-init model. An adapter's
    directory is opened as its base with the adapter merged, ``base+adapter`` over that base; ``lora`` puts new adapters
    on that."""
    tiny: Tiny = Tiny()
    """Shape of the new model when ``name`` is ``tiny``."""
    dtype: str = Field(default="float32", pattern="^(float32|bfloat16)$")
    """Precision of matrix products; weights that learn and optimizer state stay float32."""
    device: str = Field(default="auto", pattern="^(auto|cpu|cuda(:[0-9]+)?)$")
    """``auto`` takes a GPU when there is one."""
    engine: str = Field(default="auto", pattern="^(auto|ddp|fsdp2)$")
    """How several processes (``torchrun``) hold the model: all of it each (``ddp``, which ``auto`` takes), or with
    the transformer blocks sharded (``fsdp2``). One process holds all of it."""
    lora: Lora | None = None
    """Train adapters only; the reference is then the same weights with adapters off. A reward model's new head learns
    beside them."""
    kernels: str | tuple[str, ...] = "auto"
    """Fast paths: ``auto`` takes all that compute what this model's own code does, ``plain`` none, a list those that it
    names, as ``[linears, packing]``."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    template: str | None = Field(default=None, pattern="^(plain|replace-with-plain)$")
    """``plain`` renders chat turns with a built-in template where the tokenizer has none; the model keeps it.
    ``replace-with-plain`` puts it in the place of the template that the model was trained with."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you read that code."""
    template_variables: dict[str, Any] = {}
    """Further variables of the chat template, as ``{enable_thinking: false}``. A row's own ``chat_template_kwargs`` go
    first."""
    template_date: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    """The day (as ``2026-01-31``) that a chat template which writes the date takes for today. None: the day on which
    the run started, also after a resume."""

    @field_validator("kernels", mode="before")
    @classmethod
    def _kernels_exist(cls, kernels: Any) -> Any:
        if isinstance(kernels, str) and kernels in ("auto", "plain"):
            return kernels
        if isinstance(kernels, list | tuple) and all(name in KERNELS for name in kernels):
            return tuple(kernels)
        raise ValueError(f"auto, plain, or a list of {', '.join(KERNELS)}")

    @field_validator("template_date")
    @classmethod
    def _is_a_day(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                date.fromisoformat(value)
            except ValueError as error:
                raise ValueError(f"no such day ({error}); expected a date such as 2026-01-31") from error
        return value

    @field_validator("template_variables")
    @classmethod
    def _are_names_of_their_own(cls, value: dict[str, Any]) -> dict[str, Any]:
        """They are written into the exported template, so each must be a name there, and not one that is given."""
        for name in value:
            if not (name.isidentifier() and name.isascii()) or name in TEMPLATE_OWN:
                reason = f"; {', '.join(TEMPLATE_OWN)} come from the data" if name in TEMPLATE_OWN else ""
                raise ValueError(f"{name!r} cannot be set; expected names of variables such as enable_thinking{reason}")
        return value


def one_name(data: Any) -> Any:
    """A list of names of data, as a YAML file may have it, as the one text with commas that settings hold."""
    if not isinstance(data, list | tuple):
        return data
    wrong = next((name for name in data if not isinstance(name, str) or not name or "," in name), None)
    if wrong is not None or not data:
        raise ValueError(f"{wrong!r} in a list of names; expected texts without commas" if data else "an empty list")
    return ",".join(data)


def _words(verdicts: Any) -> Any:
    """YAML reads ``{0: first, true: second}`` with a number and a boolean for keys; a file has them as text too."""
    if not isinstance(verdicts, Mapping):
        return verdicts
    return {str(word).lower() if isinstance(word, bool) else str(word): means for word, means in verdicts.items()}


class Reading(Settings):
    """How data files are read."""

    columns: dict[str, str] = {}
    """Our column name -> the file's, where they differ, as ``{chosen: best_answer}``."""
    split: str | None = None
    """Split of a dataset that has several."""
    skip_bad_rows: bool = False
    """Count and report unusable rows instead of stopping at the first one."""
    allow_unwritten: bool = False
    """Train on chats of which the model's template leaves out a part that was said: tool calls, tools, documents, the
    answer's reasoning. What is left out is counted and told."""
    verdicts: Annotated[dict[str, Literal["first", "second", "tie"]], BeforeValidator(_words)] = {}
    """What verdicts on two responses mean, where the file leaves it open, as ``{0: first, 1: second}`` or ``tie``."""
    templated: bool = False
    """Train on prompts that already went through a chat template, their control tokens spelled in letters."""

    def options(self) -> dict[str, Any]:
        """Keyword arguments for a reader."""
        return {
            "columns": self.columns,
            "split": self.split,
            "on_bad": "skip" if self.skip_bad_rows else "error",
            "verdicts": self.verdicts,
            "refuse_templated": not self.templated,
            "tell": warn,
        }


class HeldOutReading(Reading):
    """The same where some of the data is held out."""

    validation_split: str | None = None
    """Split for ``validation``; by default the same as ``split``."""

    def held_out_options(self) -> dict[str, Any]:
        """Keyword arguments for the reader of held-out data."""
        return self.options() | {"split": self.validation_split or self.split}


COLDEST = 1e-3
"""Smallest temperature above 0."""


class Sampling(Settings):
    """How completions are drawn."""

    max_new_tokens: int = Field(default=48, ge=1)
    """Longest completion in tokens, EOS included."""
    temperature: float = Field(default=1.0, ge=0)
    """Softmax temperature, 0 or at least 0.001; 0 is greedy. Enters the log-probs when above 0."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling: the smallest set of tokens with this probability mass. 1 is off."""
    top_k: int = Field(default=0, ge=0)
    """Sample among the k most likely tokens. 0 is off."""
    repetition_penalty: float = Field(default=1.0, ge=1)
    """Divide the scores of tokens already seen (Keskar et al. 2019). 1 is off."""

    @field_validator("temperature")
    @classmethod
    def _no_overflow(cls, value: float) -> float:
        """Logits that are divided by next to nothing are no numbers any more."""
        if 0 < value < COLDEST:
            raise ValueError(f"expected 0, which is greedy, or at least {COLDEST:g}")
        return value


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """``high`` over ``low``, block by block. A block with another ``kind`` replaces the old one whole."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        if (
            isinstance(value, Mapping)
            and isinstance(old, Mapping)
            and value.get("kind", old.get("kind")) == old.get("kind")
        ):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


S = TypeVar("S", bound=Settings)


def build(kind: type[S], *layers: Mapping[str, Any], where: str = "config") -> S:
    """Validate ``layers`` (lowest first) into ``kind``; every complaint names its field, its place and a fix."""
    # A block that is written in part keeps the rest of the method's own default block: PPO's schedule stays constant
    # when its learning rate is set, and --set objective.beta=0.2 needs no kind beside it.
    values: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        if isinstance(default, Settings) and any(isinstance(layer.get(name), Mapping) for layer in layers):
            values[name] = default.model_dump()
    for layer in layers:
        values = merge(values, layer)
    wrong = truth_values(kind, values, layers)
    if wrong:
        raise ConfigError("\n".join([f"{len(wrong)} setting(s) cannot be used", *wrong]), where=where)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(complaints(kind, error, layers)), where=where) from error


def describe(
    kind: type[Settings], prefix: str = "", defaults: Settings | None = None
) -> list[tuple[str, str, Any, str]]:
    """Rows ``(dotted name, type, default, help)`` of a config, blocks expanded; feeds docs and ``--help``.

    ``defaults`` is the block that a method starts from where that is not the default of the block's own class.
    """
    rows: list[tuple[str, str, Any, str]] = []
    for name, info in kind.model_fields.items():
        inner = blocks_in(info.annotation)
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        default = getattr(defaults, name, default)
        shown = "required" if info.is_required() and defaults is None else default
        if inner:
            if isinstance(default, Settings):
                shown = f"block ({default.kind})" if hasattr(default, "kind") else "block"
            rows.append((prefix + name, _block_names(info.annotation, inner), shown, info.description or ""))
            tagged = len(inner) > 1
            for model in inner:
                label = f"{prefix}{name}[{model.model_fields['kind'].default}]." if tagged else f"{prefix}{name}."
                rows.extend(describe(model, label, default if isinstance(default, model) else None))
        else:
            rows.append((prefix + name, _type_name(info.annotation), shown, info.description or ""))
    return rows


def _block_names(annotation: Any, inner: list[type[Any]]) -> str:
    names = " | ".join(block.__name__ for block in inner)
    return f"str | list of {names}" if LIST in str(annotation) else names


def default_values(kind: type[Settings]) -> dict[str, Any]:
    """What the settings of ``kind`` are when nobody sets any, in JSON form; required ones have no default."""
    defaults: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        if not info.is_required():
            default = info.get_default(call_default_factory=True)
            defaults[name] = default.model_dump(mode="json") if isinstance(default, Settings) else default
    return defaults


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    if getattr(annotation, "__metadata__", None):
        return _type_name(get_args(annotation)[0])
    return str(annotation).replace("typing.", "").replace("<class '", "").replace("'>", "")
