"""What `trueup plan --on` counts with: accelerators by their makers' data sheets, models by their shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.config import Tiny
from trueup.errors import ModelError, UsageError, nearest


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One GPU: dense bfloat16 products in TFLOP/s, memory in GB (10^9 bytes), bandwidth of that memory in GB/s."""

    name: str
    tflops: float
    gb: float
    gb_s: float


ACCELERATORS = {
    gpu.name: gpu
    for gpu in (
        Accelerator("l4", 121, 24, 300),
        Accelerator("rtx3090", 71, 24, 936),
        Accelerator("rtx4090", 165, 24, 1008),
        Accelerator("l40s", 362, 48, 864),
        Accelerator("a100-40", 312, 40, 1555),
        Accelerator("a100", 312, 80, 2039),
        Accelerator("h100", 989, 80, 3350),
        Accelerator("h200", 989, 141, 4800),
        Accelerator("b200", 2250, 180, 8000),
        Accelerator("mi300x", 1307, 192, 5300),
    )
}
"""Data sheets of the makers, SXM or OAM form where there are several, without sparsity."""


def accelerator(name: str) -> Accelerator:
    """The accelerator of that name.

    Raises:
        UsageError: There is none.
    """
    if name.lower() not in ACCELERATORS:
        raise UsageError(f"{name!r} is not known", where="--on", expected=nearest(name.lower(), ACCELERATORS))
    return ACCELERATORS[name.lower()]


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's shape; ``gated`` MLPs have three matrices (Llama), others two (GPT-2)."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_width: int
    intermediate: int
    vocabulary: int
    gated: bool = True
    tied: bool = True

    @property
    def attention_width(self) -> int:
        """Of all heads together."""
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        """Of all keys, and of all values."""
        return self.kv_heads * self.head_width

    @property
    def block_weights(self) -> int:
        """Weights of all blocks, norms included."""
        attention = 2 * self.hidden * (self.attention_width + self.kv_width)
        mlp = (3 if self.gated else 2) * self.hidden * self.intermediate
        return self.layers * (attention + mlp + 2 * self.hidden)

    @property
    def end_weights(self) -> int:
        """Weights outside the blocks: embeddings, last norm, and a head where it has its own."""
        return (1 if self.tied else 2) * self.vocabulary * self.hidden + self.hidden

    @property
    def weights(self) -> int:
        """All of them."""
        return self.block_weights + self.end_weights

    @property
    def product_weights(self) -> int:
        """Weights that each token is multiplied by: all but the embeddings, which are looked up."""
        return self.block_weights + self.vocabulary * self.hidden


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("smollm2-135m", 30, 576, 9, 3, 64, 1536, 49_152),
        Shape("qwen3-0.6b", 28, 1024, 16, 8, 128, 3072, 151_936),
        Shape("llama-3.2-1b", 16, 2048, 32, 8, 64, 8192, 128_256),
        Shape("qwen3-4b", 36, 2560, 32, 8, 128, 9728, 151_936),
        Shape("llama-2-7b", 32, 4096, 32, 32, 128, 11_008, 32_000, tied=False),
        Shape("llama-3.1-8b", 32, 4096, 32, 8, 128, 14_336, 128_256, tied=False),
        Shape("qwen3-32b", 64, 5120, 64, 8, 128, 25_600, 151_936, tied=False),
        Shape("llama-3.1-70b", 80, 8192, 64, 8, 128, 28_672, 128_256, tied=False),
    )
}
"""Published configurations by name, for plans without the weights at hand."""


def shape_of(name: str, tiny: Tiny | None = None) -> Shape:
    """The shape of a model: a name in ``SHAPES``, what transformers finds a configuration of, or ``tiny``.

    Raises:
        ModelError: Nothing is known of it, or the configuration lacks a number.
    """
    if name == "tiny":
        tiny = tiny or Tiny()
        inner, width = 8 * tiny.hidden // 3 // 16 * 16, tiny.hidden // tiny.heads
        return Shape("tiny", tiny.layers, tiny.hidden, tiny.heads, tiny.heads, width, inner, tiny.vocabulary)
    if name.lower() in SHAPES:
        return SHAPES[name.lower()]
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, local_files_only=True).get_text_config()
    except Exception as error:  # a config.json is anybody's: transformers raises whatever its numbers lead to
        if Path(name, "config.json").is_file():
            problem = f"config.json cannot be used: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
            raise ModelError(problem, where=name, expected="the configuration of a decoder") from error
        known = f"a directory with config.json, or one of {', '.join(SHAPES)}"
        raise ModelError("its shape is not known here", where=name, expected=known, fix="--as NAME") from error
    return _of_config(config, name)


def _of_config(config: Any, name: str) -> Shape:
    layers, hidden, heads, vocabulary = (
        _number(config, key, name) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
    )
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * hidden
    activation = str(getattr(config, "hidden_act", None) or getattr(config, "activation_function", ""))
    return Shape(
        name,
        layers,
        hidden,
        heads,
        getattr(config, "num_key_value_heads", None) or heads,
        getattr(config, "head_dim", None) or hidden // heads,
        inner,
        vocabulary,
        gated=activation not in ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"),
        tied=bool(config.tie_word_embeddings),
    )


def _number(config: Any, key: str, name: str) -> int:
    value = getattr(config, key, None)
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"{key} is {value!r}", where=f"{name}: configuration", expected="a whole number above 0")
    return value
