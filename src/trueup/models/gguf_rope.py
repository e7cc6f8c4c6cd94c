"""Scaled rotary positions of a GGUF file, which transformers' reader leaves out.

A file says them by ``rope.scaling.*`` (linear, YaRN: Peng et al. 2023) or, for Llama 3.1 and later, by a tensor of
divisors, ``rope_freqs``. Read without them a model is another one from the first long text on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trueup.errors import ModelError
from trueup.models.gguf import Gguf, Tensor

ROPE_FACTORS = ("rope_freqs.weight",)
"""Tensors that hold positions, and become no weight."""
LONG_FACTORS = ("rope_factors_long.weight", "rope_factors_short.weight")
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Of all models of Llama 3.1 to 3.3; the factor differs."""


def rope_parameters(gguf: Gguf, config: Any) -> dict[str, Any] | None:
    """What ``config.rope_parameters`` must be so that positions are the file's; None if it is right as it was read.

    Raises:
        ModelError: The file scales its positions in a way that no setting of transformers gives.
    """
    read = getattr(config, "rope_parameters", None)
    scaling, factor = gguf.own("rope.scaling.type"), gguf.own("rope.scaling.factor")
    linear = gguf.own("rope.scale_linear")  # the key of old files
    if scaling is None and linear is not None:
        scaling, factor = "linear", linear
    scaled = scaling not in (None, "none") and factor not in (None, 0, 1)
    names = {tensor.name: tensor for tensor in gguf.tensors}
    divisors = next((names[name] for name in ROPE_FACTORS if name in names), None)
    if any(name in names for name in LONG_FACTORS):
        raise _unread(gguf, "by long and short factors (longrope)")
    if not scaled and divisors is None:
        return None
    if not isinstance(read, dict) or "rope_theta" not in read:
        raise _unread(gguf, f"by {scaling or ROPE_FACTORS[0]}, differently in different layers")
    if read.get("rope_type", "default") != "default":
        return None
    if divisors is not None:
        if scaled:
            raise _unread(gguf, f"by {scaling} and by {divisors.name} at once")
        return _llama3(gguf, divisors, read)
    original = gguf.own("rope.scaling.original_context_length")
    if scaling == "linear":
        return {**read, "rope_type": "linear", "factor": float(factor)}
    extra = [key for key in ("attn_factor", "yarn_log_multiplier") if gguf.own(f"rope.scaling.{key}") not in (None, 1)]
    if scaling == "yarn" and original and not extra:
        return {
            **read,
            "rope_type": "yarn",
            "factor": float(factor),
            "original_max_position_embeddings": int(original),
        }
    raise _unread(gguf, f"by {scaling}" + (f" with {', '.join(extra)}" if extra else ""))


def _llama3(gguf: Gguf, divisors: Tensor, read: dict[str, Any]) -> dict[str, Any] | None:
    """The settings that give the file's divisors by Llama 3's formula, as transformers computes it."""
    if divisors.kind != "F32" or divisors.size == 0:
        raise _unread(gguf, f"by {divisors.name} stored as {divisors.kind}")
    with open(gguf.path, "rb") as handle:
        handle.seek(divisors.offset)
        stored = np.frombuffer(handle.read(divisors.size), dtype="<f4").astype(np.float64)
    factor = float(stored.max())
    if np.array_equal(stored, np.ones_like(stored)):
        return None
    low, high, original = LLAMA3.values()
    lengths = 2 * math.pi * float(read["rope_theta"]) ** (np.arange(len(stored)) / len(stored))
    smooth = np.clip((original / lengths - low) / (high - low), 0.0, 1.0)
    if not np.allclose(stored, 1 / ((1 - smooth) / factor + smooth), rtol=1e-3):
        raise _unread(gguf, f"by {divisors.name}, whose numbers are not Llama 3's")
    return {**read, "rope_type": "llama3", "factor": factor, **LLAMA3}


def _unread(gguf: Gguf, how: str) -> ModelError:
    return ModelError(
        f"the file scales rotary positions {how}, which transformers does not read from GGUF",
        where=str(gguf.path),
        fix="give the model as safetensors, from where the GGUF was made",
    )
