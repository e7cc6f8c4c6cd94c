"""The architectures that are written as GGUF, and what llama.cpp must be told of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trueup.errors import ModelError

ACTIVATIONS = {"llama": ("silu", "swish"), "gpt2": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")}


@dataclass(frozen=True)
class Architecture:
    """How a family of models is written.

    Attributes:
        name: llama.cpp's name.
        describe: Adds its settings to the file.
        rotated: Whether rows of queries and keys are reordered.
        transposed: Ends of names of weights that Hugging Face has transposed.
    """

    name: str
    describe: Callable[[Any, Any, str], None]
    rotated: bool = False
    transposed: tuple[str, ...] = ()


def refuse(what: str, where: str) -> ModelError:
    """The error for what GGUF could hold and llama.cpp would not act on."""
    return ModelError(
        f"llama.cpp would compute something else: {what}",
        where=where,
        fix="serve the Hugging Face folder (--to hf) with vLLM or transformers",
    )


def _describe_llama(writer: Any, config: Any, where: str) -> None:
    if config.hidden_act not in ACTIVATIONS["llama"]:
        raise refuse(f"hidden_act is {config.hidden_act}", where)
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) and window and window < config.max_position_embeddings:
        raise refuse(f"attention sees a window of {window} of {config.max_position_embeddings} positions", where)
    heads = config.num_attention_heads
    width = head_width(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(width)
    writer.add_value_length(width)
    rope = dict(config.rope_parameters or {})
    if float(rope.get("partial_rotary_factor", 1.0)) != 1.0:
        raise refuse("only a part of each head has rotary positions", where)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if rope.get("rope_type", "default") == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    elif rope.get("rope_type", "default") not in ("default", "llama3"):
        raise refuse(f"rotary positions are scaled by {rope['rope_type']}", where)


def _describe_gpt2(writer: Any, config: Any, where: str) -> None:
    if config.activation_function not in ACTIVATIONS["gpt2"]:
        raise refuse(f"activation_function is {config.activation_function}", where)
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights or config.add_cross_attention:
        raise refuse("attention is scaled by layer, not scaled, or looks at an encoder", where)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def head_width(config: Any) -> int:
    """Dimensions of an attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


_CONV = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
ARCHITECTURES = {
    "llama": Architecture("llama", _describe_llama, rotated=True),
    "mistral": Architecture("llama", _describe_llama, rotated=True),
    "qwen2": Architecture("qwen2", _describe_llama),
    "qwen3": Architecture("qwen3", _describe_llama),
    "gpt2": Architecture("gpt2", _describe_gpt2, transposed=_CONV),
}
"""By ``model_type`` of config.json."""
