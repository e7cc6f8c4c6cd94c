"""The weights of a GGUF file: names, order, shapes and types, each read and turned when it is written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from trueup.errors import ModelError
from trueup.models.export_architectures import Architecture, head_width, refuse
from trueup.models.files import INDEX, WEIGHTS, Folder, read_json, weights

BLOCK = 32
"""Weights that share a scale in Q8_0."""


@dataclass(frozen=True)
class Tensor:
    """One weight of the file.

    Attributes:
        name: In the file.
        key: In Hugging Face's; empty for what is made from the config.
        shape: As it is written.
        stored: Its type, of ``gguf.GGMLQuantizationType``.
        heads: Heads whose halves are interleaved; 0 for none.
        transposed: Whether Hugging Face has it the other way round.
    """

    name: str
    key: str
    shape: tuple[int, ...]
    stored: Any
    heads: int = 0
    transposed: bool = False

    @property
    def bytes(self) -> int:
        """What it takes in the file."""
        import gguf

        block, size = gguf.GGML_QUANT_SIZES[self.stored]
        return math.prod(self.shape) // int(block) * int(size)

    def read(self, folder: Folder, config: Any) -> np.ndarray[Any, Any]:
        """The weight as it is written.

        Raises:
            ModelError: It does not fit into float16.
        """
        import gguf

        weight = _frequency_factors(config) if not self.key else _load(folder, self.key).float()
        if self.transposed:
            weight = weight.T
        if self.heads:
            halves = weight.reshape(self.heads, 2, weight.shape[0] // self.heads // 2, *weight.shape[1:])
            weight = halves.transpose(1, 2).reshape(weight.shape)
        array: np.ndarray[Any, Any] = np.ascontiguousarray(weight.numpy())
        if self.stored is gguf.GGMLQuantizationType.F16 and np.abs(array).max(initial=0.0) > np.finfo(np.float16).max:
            raise ModelError(
                f"the weight {self.key} does not fit into float16: its largest number is {np.abs(array).max():g}",
                where=folder.name,
                fix="--dtype bf16, which has the range of float32",
            )
        return gguf.quants.quantize(array, self.stored)  # type: ignore[no-any-return]


def plan_tensors(folder: Folder, config: Any, architecture: Architecture, kind: str) -> list[Tensor]:
    """Every weight of the file in order.

    Raises:
        ModelError: A weight has no place in it.
    """
    import gguf

    arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    planned = []
    for key, entry in weights(folder.path).items():
        if MASKS.search(key) or (key == "lm_head.weight" and config.tie_word_embeddings):
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise refuse(f"GGUF has no place for the weight {key}", folder.name)
        turned = key.endswith(architecture.transposed) if architecture.transposed else False
        shape = tuple(reversed(entry["shape"])) if turned else tuple(entry["shape"])
        heads = _heads(key, config) if architecture.rotated else 0
        planned.append(Tensor(name, key, shape, _stored(name, shape, kind), heads, turned))
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "llama3":
        planned.append(Tensor("rope_freqs.weight", "", (head_width(config) // 2,), _stored("", (1,), kind)))
    _require_all(folder, config, {tensor.key for tensor in planned})
    return planned


def _require_all(folder: Folder, config: Any, keys: set[str]) -> None:
    """Refuse to leave out a weight that the model computes with.

    Raises:
        ModelError: It says which.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    prefix = f"{model.base_model_prefix}."
    stored = keys | {prefix + key for key in keys}  # older files name the trunk's weights without it
    missing = sorted(name for name, _ in model.named_parameters() if name not in stored)
    if missing:
        raise ModelError(
            f"{len(missing)} weights of the config are not in the files ({', '.join(missing[:3])})",
            where=folder.name,
            expected="every weight that config.json describes",
            fix="config.json and the weights come from different models, or some files are missing: get both again",
        )


MASKS = re.compile(r"(\.attn\.(masked_)?bias|rotary_emb\.inv_freq)$")
"""Tables that old versions saved beside the weights."""


def _heads(key: str, config: Any) -> int:
    if ".self_attn.q_proj." in key:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads or config.num_attention_heads) if ".self_attn.k_proj." in key else 0


def _stored(name: str, shape: tuple[int, ...], kind: str) -> Any:
    """The type of a weight in the file; vectors and learned positions stay in float32."""
    from gguf import GGMLQuantizationType as Type

    if len(shape) < 2 or name.startswith("position_embd"):
        return Type.F32
    if kind == "q8_0" and shape[-1] % BLOCK:
        return Type.F16
    return {"f32": Type.F32, "f16": Type.F16, "bf16": Type.BF16, "q8_0": Type.Q8_0}[kind]


def _frequency_factors(config: Any) -> torch.Tensor:
    """By what llama.cpp divides each rotary frequency of Llama 3.1 and later (its paper's section 3.4.1, "llama3")."""
    rope = config.rope_parameters
    width = head_width(config)
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    waves = 2 * math.pi * float(rope["rope_theta"]) ** exponents
    low, high, original = (
        float(rope[name]) for name in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    smooth = (original / waves - low) / (high - low)
    between = 1.0 / ((1.0 - smooth) / float(rope["factor"]) + smooth)
    factors = torch.where(waves < original / high, torch.ones_like(waves), between)
    return torch.where(waves > original / low, torch.full_like(waves, float(rope["factor"])), factors).float()


def _load(folder: Folder, key: str) -> torch.Tensor:
    file = WEIGHTS if (folder.path / WEIGHTS).is_file() else read_json(folder.path / INDEX)["weight_map"][key]
    with safe_open(folder.path / file, framework="pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(key)
    return tensor
