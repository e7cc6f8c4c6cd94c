"""Checkpoints whose weights are quantised: recognised by their config and by their tensors, and refused with a way out.

Few-bit weights have no useful gradient, and adapters over them would train against another model than the one that is
scored here. What each kind of file can become differs: some are unpacked by transformers, for others only the model
that they were made from is left. GGUF files are the exception, and are converted (``models.gguf_cache``).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import ModelError

FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Written beside the weights by AutoGPTQ, AutoAWQ and ModelOpt, whose ``config.json`` may say nothing."""
WHOLE = frozenset({"F64", "F32", "F16", "BF16"})
UNUSABLE = ("F8", "F4", "F6", "C")
"""Beginnings of dtypes that a weight has only where something is quantised, or is no real number."""
BASE_MODEL = re.compile(r"^base_model:[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?([\w.-]+/[\w.-]+)", re.MULTILINE)
"""What a model card's front matter names as origin."""
SUFFIX = re.compile(
    r"[-_.](?:bnb[-_.]?[48]bit|unsloth[-_.]bnb[-_.]?4bit|gptq.*|awq.*|fp8.*|nvfp4.*|mxfp4.*|w\d+a\d+.*|[48]bits?"
    r"|int[48].*|exl[23].*)$",
    re.IGNORECASE,
)
"""How names of quantised repositories end after the name of their origin."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to quantise.

    Attributes:
        title: For people.
        settings: Class of transformers that unpacks it with ``dequantize=True``; ``""`` where the loaded model's own
            ``dequantize()`` does; None where nothing does.
        needs: Package that unpacking needs beside transformers.
    """

    title: str
    settings: str | None = None
    needs: str | None = None


KINDS = {
    "bitsandbytes": Kind("bitsandbytes, 4 or 8 bits", "", "bitsandbytes"),
    "gptq": Kind("GPTQ"),
    "awq": Kind("AWQ"),
    "fp8": Kind("FP8", "FineGrainedFP8Config"),
    "compressed-tensors": Kind("compressed-tensors", "CompressedTensorsConfig", "compressed-tensors"),
    "mxfp4": Kind("MXFP4", "Mxfp4Config"),
}
"""By ``quant_method``; others are refused likewise, by their own name."""
PARTS = {
    r"\.(quant_state\.bitsandbytes__\w+|nested_absmax|absmax|SCB)$": "bitsandbytes",
    r"\.g_idx$": "gptq",
    r"\.qzeros$": "awq",
    r"\.(weight_packed|weight_global_scale)$": "compressed-tensors",
    r"\.weight_scale_inv$": "fp8",
    r"_blocks$": "mxfp4",
    r"\.weight_scale$": "fp8",
}
"""Tensors that only such a checkpoint has, the surest first."""


def refuse_quantised(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a directory whose config or whose other files say that its weights are quantised.

    Raises:
        ModelError: Names the method and the way out.
    """
    said = config.get("quantization_config") or config.get("compression_config")
    inner = config.get("text_config")
    if not said and isinstance(inner, Mapping):
        said = inner.get("quantization_config")
    files = [name for name in FILES if (path / name).is_file()]
    if not said and not files:
        return
    method = said.get("quant_method") if isinstance(said, Mapping) else None
    if method is None and isinstance(said, Mapping) and any(key.startswith(("load_in_", "bnb_")) for key in said):
        method = "bitsandbytes"  # its old configs name no method
    raise _refusal(str(method or (files and files[0]) or "quantization_config"), path)


def refuse_packed(tensors: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Refuse weights that are stored in few bits or as whole numbers, whatever the config says.

    Args:
        tensors: Dtype and shape of each tensor by name, as ``models.files.header`` gives them.
        path: The directory.

    Raises:
        ModelError: Names what was seen and the way out.
    """
    counts: Counter[str] = Counter()
    for tensor in tensors.values():
        counts[str(tensor["dtype"])] += math.prod(int(length) for length in tensor["shape"])
    odd = sorted(kind for kind in counts if kind.startswith(UNUSABLE))
    narrow = sorted(kind for kind in counts if kind not in WHOLE)
    for pattern, method in PARTS.items() if narrow else ():
        example = next((name for name in tensors if re.search(pattern, name)), None)
        if example is not None:
            raise _refusal(method, path, f"it holds {example}")
    if not odd and 2 * sum(counts[kind] for kind in narrow) <= sum(counts.values()):
        return
    if odd and all(kind.startswith("C") for kind in odd):
        raise ModelError(
            f"some weights are stored as {', '.join(odd)}",
            where=str(path),
            expected="float32, bfloat16 or float16; complex ones cannot be trained here",
            fix="give another model",
        )
    raise _refusal("by what is not known", path, f"they are stored as {', '.join(odd or narrow)}")


def _refusal(method: str, path: Path, seen: str = "") -> ModelError:
    """The error. ``seen`` is what gave the checkpoint away where its config is silent: then nothing unpacks it."""
    kind = KINDS.get(method.replace("_", "-"), Kind(method))
    origin = _origin(path)
    ways = ["take the model that it was made from" + (f": --model {origin}" if origin else "")]
    if kind.settings is not None and not seen:
        needs = f" (pip install {kind.needs})" if kind.needs else ""
        ways.append(f"or unpack it once{needs}: {_command(kind, path)}")
    ways.append("where memory is short, model.lora.rank=16 and model.dtype=bfloat16 train a whole model in less of it")
    return ModelError(
        f"the weights are quantised ({kind.title}{f': {seen}' if seen else ''})",
        where=str(path if seen else path / "config.json"),
        expected="weights in float32, bfloat16 or float16, or a GGUF file; other quantised ones cannot be trained here",
        fix="; ".join(ways),
    )


def _command(kind: Kind, path: Path) -> str:
    target = f"{path.name}-whole"
    load = f"M.from_pretrained({str(path)!r}, dtype='bfloat16'"
    names = "AutoModelForCausalLM as M, AutoTokenizer as T"
    if kind.settings:
        names += f", {kind.settings} as C"
        load += ", quantization_config=C(dequantize=True))"
    else:
        load += ").dequantize()"
    return (
        f'python -c "from transformers import {names}; {load}.save_pretrained({target!r}); '
        f'T.from_pretrained({str(path)!r}).save_pretrained({target!r})"'
    )


def _origin(path: Path) -> str | None:
    """The hub name of the model that a checkpoint was made from: by its card, else by its own name."""
    try:
        text = (path / "README.md").read_text(encoding="utf-8")[:20_000]
    except (OSError, ValueError):
        text = ""
    named = BASE_MODEL.search(text.split("\n---", 1)[0]) if text.startswith("---") else None
    if named:
        return named[1]
    own = path.name
    if path.parent.name == "snapshots":  # of the hub's cache
        own = path.parent.parent.name.removeprefix("models--").replace("--", "/")
    shorter = SUFFIX.sub("", own)
    return f"{shorter} (guessed from the name {own})" if shorter != own else None
