"""Typed configuration: defaults < YAML file < ``--set a.b=c``; nothing unknown is ever accepted.

A recipe's config is one frozen pydantic model. The docstring under a field is its help, and
the resolved config is written to ``run.json``. Errors name the file, line and field.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trueup.errors import ConfigError, nearest


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


class Batch(Settings):
    """How many examples make one step, and how they are cut into micro-batches."""

    size: int = Field(default=32, ge=1)
    """Examples (pairs, prompts or texts) per optimizer step."""
    pool: int = Field(default=8, ge=1)
    """Training batches are cut from pools of this many, sorted by length, to save padding; 1 is plain random order."""
    micro_tokens: int | None = Field(default=None, ge=1)
    """Padded tokens of one micro-batch; an example longer than this runs alone. None: 8192, on a CPU down to 2048 for
    large models, which need no larger passes to be fast."""
    max_length: int = Field(default=512, ge=2)
    """Longest prompt plus completion in tokens."""
    max_prompt_length: int | None = Field(default=None, ge=1)
    """Longest prompt in tokens; a longer one loses its beginning. None: only ``max_length`` counts."""
    max_truncated: float = Field(default=0.05, ge=0, le=1)
    """Share of examples that may lose completion tokens or be dropped before the run refuses to start."""


class Tiny(Settings):
    """A random-init Llama of a few hundred thousand to a few million parameters, trained from scratch."""

    hidden: int = Field(default=128, ge=8)
    """Width of the residual stream."""
    layers: int = Field(default=4, ge=1)
    """Number of transformer blocks."""
    heads: int = Field(default=4, ge=1)
    """Attention heads; must divide ``hidden``."""
    vocabulary: int = Field(default=2048, ge=300)
    """Size of the byte-level BPE vocabulary learned from the data."""
    context: int = Field(default=256, ge=16)
    """Longest sequence that the positions allow."""


class Lora(Settings):
    """Low-rank adapters on all linear layers instead of full fine-tuning (Hu et al. 2021)."""

    rank: int = Field(default=16, ge=1)
    """Rank of the update."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale: the update is multiplied by ``alpha / rank``."""


class Model(Settings):
    """Which model is trained, and in which precision."""

    name: str = "tiny"
    """A Hugging Face name, a local directory, or ``tiny`` for a new random-init model."""
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
    """Train adapters only; the reference is then the same weights with adapters off."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    template: str | None = Field(default=None, pattern="^plain$")
    """``plain`` renders chat turns with a built-in template where the tokenizer has none."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you read that code."""


class Reading(Settings):
    """How data files are read."""

    columns: dict[str, str] = {}
    """Our column name -> the file's, where they differ, as ``{chosen: best_answer}``."""
    split: str | None = None
    """Split of a dataset that has several."""
    validation_split: str | None = None
    """Split for ``validation``; by default the same as ``split``."""
    skip_bad_rows: bool = False
    """Count and report unusable rows instead of stopping at the first one."""

    def options(self, *, held_out: bool = False) -> dict[str, Any]:
        """Keyword arguments for a reader, of the training file or the held-out one."""
        return {
            "columns": self.columns,
            "split": (self.validation_split or self.split) if held_out else self.split,
            "on_bad": "skip" if self.skip_bad_rows else "error",
        }


class Sampling(Settings):
    """How completions are drawn."""

    max_new_tokens: int = Field(default=48, ge=1)
    """Longest completion in tokens, EOS included."""
    temperature: float = Field(default=1.0, ge=0)
    """Softmax temperature; 0 is greedy. Enters the log-probs when above 0."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling: the smallest set of tokens with this probability mass. 1 is off."""
    top_k: int = Field(default=0, ge=0)
    """Sample among the k most likely tokens. 0 is off."""
    repetition_penalty: float = Field(default=1.0, ge=1)
    """Divide the scores of tokens already seen (Keskar et al. 2019). 1 is off."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice in one mapping."""


def _construct_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise ConfigError(
                f"key {key!r} is written twice (lines {seen[key]} and {line})",
                where=f"{node.start_mark.name}:{line}",
                fix="keep one of them",
            )
        seen[key] = line
    loader.flatten_mapping(node)
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
# YAML 1.1 reads 1e-5 (no dot) as text; everybody who writes a learning rate means a number.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; duplicate keys, tabs, an empty file and unset ``${VARIABLES}`` are errors."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError("no such file", where=str(file), expected="a YAML file", fix="check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(file), expected="a UTF-8 YAML file") from error
    return parse_yaml(text, name=str(file))


def parse_yaml(text: str, name: str = "<text>") -> dict[str, Any]:
    """Parse YAML text into a mapping; see ``read_yaml`` for what is refused."""

    def variable(match: re.Match[str]) -> str:
        value = os.environ.get(match.group(1))
        if value is None:
            line = text[: match.start()].count("\n") + 1
            raise ConfigError(
                f"environment variable {match.group(1)} is not set",
                where=f"{name}:{line}",
                fix=f"export {match.group(1)}=... or write the value in the file",
            )
        return value

    loader = _UniqueKeyLoader(_VARIABLE.sub(variable, text))
    loader.name = name
    try:
        loaded = loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        fix = "use spaces, not tabs" if "\\t" in problem or "\t" in text else None
        raise ConfigError(f"not valid YAML: {problem}", where=f"{name}:{line}", fix=fix) from error
    finally:
        loader.dispose()
    if loaded is None:
        raise ConfigError("the file is empty", where=name, expected="a mapping of settings")
    if not isinstance(loaded, dict):
        raise ConfigError(f"found {type(loaded).__name__}", where=name, expected="a mapping of settings")
    return loaded


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn ``["optim.learning_rate=1e-4"]`` into a nested mapping; the value is read as YAML."""
    nested: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, raw = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{assignment!r}", where="--set", expected="name=value", fix="--set optim.warmup=0.1")
        value = parse_yaml(f"v: {raw}", name=f"--set {assignment}")["v"]
        here = nested
        *parents, leaf = key.strip().split(".")
        for parent in parents:
            here = here.setdefault(parent, {})
            if not isinstance(here, dict):
                raise ConfigError(f"{key!r} sets a block that another --set gave a value", where="--set")
        if leaf in here:
            raise ConfigError(f"{key!r} is set twice", where="--set", fix="keep one")
        here[leaf] = value
    return nested


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
    """Validate ``layers`` (lowest first) into ``kind``; every complaint names its field and a fix."""
    # Start from the kind of each block that has several, so that --set objective.beta=0.2 needs no kind beside it.
    values: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        tag = getattr(default, "kind", None)
        if tag is not None and any(name in layer for layer in layers):
            values[name] = {"kind": tag}
    for layer in layers:
        values = merge(values, layer)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_complaints(kind, error)), where=where) from error


def _complaints(kind: type[Settings], error: ValidationError) -> list[str]:
    lines = [f"{error.error_count()} setting(s) cannot be used"]
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        dotted = ".".join(path)
        if item["type"] == "extra_forbidden":
            known = _known_fields(kind, item["loc"][:-1])
            lines.append(f"  {dotted}: unknown setting; {nearest(path[-1], known)}")
        else:
            lines.append(f"  {dotted}: found {item['input']!r}; {item['msg']}")
    return lines


def _known_fields(kind: type[Settings], path: Sequence[int | str]) -> list[str]:
    current: Any = kind
    for part in path:
        options = [current, *get_args(current)]
        models = [_settings_in(o) for o in options]
        flat = [m for group in models for m in group]
        tagged = [m for m in flat if "kind" in m.model_fields and m.model_fields["kind"].default == part]
        if tagged:
            current = tagged[0]
            continue
        owners = [m for m in flat if part in m.model_fields]
        if not owners:
            continue
        current = owners[0].model_fields[str(part)].annotation
    names = [name for model in _settings_in(current) for name in model.model_fields]
    return names or list(kind.model_fields)


def _settings_in(annotation: Any) -> list[type[Settings]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Settings) else []
    return [model for arg in get_args(annotation) for model in _settings_in(arg)]


def describe(kind: type[Settings], prefix: str = "") -> list[tuple[str, str, Any, str]]:
    """Rows ``(dotted name, type, default, help)`` of a config, blocks expanded; feeds docs and ``--help``."""
    rows: list[tuple[str, str, Any, str]] = []
    for name, info in kind.model_fields.items():
        inner = _settings_in(info.annotation)
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        shown = "required" if info.is_required() else default
        if inner:
            if isinstance(default, Settings):
                shown = f"block ({default.kind})" if hasattr(default, "kind") else "block"
            rows.append((prefix + name, " | ".join(m.__name__ for m in inner), shown, info.description or ""))
            tagged = len(inner) > 1
            for model in inner:
                label = f"{prefix}{name}[{model.model_fields['kind'].default}]." if tagged else f"{prefix}{name}."
                rows.extend(describe(model, label))
        else:
            rows.append((prefix + name, _type_name(info.annotation), shown, info.description or ""))
    return rows


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    if getattr(annotation, "__metadata__", None):
        return _type_name(get_args(annotation)[0])
    return str(annotation).replace("typing.", "").replace("<class '", "").replace("'>", "")


PositiveInt = Annotated[int, Field(ge=1)]
