"""A GGUF file as a directory that any program opens: weights in float32, config, tokenizer, generation settings.

Weights and tokenizer are read by transformers (``from_pretrained(folder, gguf_file=name)``). What that leaves out
without a word is an error or said here: tensors that reach no weight, scaled rotary positions (``models.gguf_rope``),
end tokens beside the first, a vocabulary or a template other than the file's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from trueup.errors import ModelError
from trueup.ledger import write_json
from trueup.models.failures import clear_errors, quiet
from trueup.models.files import read_json
from trueup.models.gguf import BLOCKS, Gguf, read_gguf
from trueup.models.gguf_rope import ROPE_FACTORS, rope_parameters

ROLES = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}
"""Roles of special tokens, and their keys below ``tokenizer.ggml``."""
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""Keys of tokens that end a text, a turn, a message."""
PROBES = (
    "Hello  world, it's 12345 o'clock.\n\n\tdef f(x):  # naïve — Zürich 東京 🙂",
    " leading and trailing ",
    "A1b2C3 don't we'll I'M $3.50 <tag> [x](y)\r\n",
)
"""Texts on which the saved tokenizer must give the ids of the one that was read."""


def require_readable(gguf: Gguf) -> None:
    """Refuse, before anything is written, what transformers cannot read.

    Raises:
        ModelError: The package ``gguf`` is not installed, or transformers does not know the architecture.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            "the package gguf is not installed, which reads such files",
            where=str(gguf.path),
            fix="pip install 'trueup[gguf]'",
        )
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    aside = {"general", "tokenizer", "t5", "umt5"}
    known = {*GGUF_CONFIG_ARCHS, *GGUF_SUPPORTED_ARCHITECTURES} - aside
    spelled = {name.replace("_", "").replace("-", "") for name in known}
    if gguf.architecture.replace("_", "").replace("-", "") not in spelled:
        raise ModelError(
            f"transformers cannot read GGUF files of the architecture {gguf.architecture!r}",
            where=str(gguf.path),
            expected=f"one of {', '.join(sorted(known))}",
            fix="give the model as safetensors, from where the GGUF was made",
        )
    unread = [kind for kind in sorted({tensor.kind for tensor in gguf.tensors}) if not _readable(kind)]
    if unread:
        raise ModelError(
            f"the package gguf cannot de-quantise {', '.join(unread)}",
            where=str(gguf.path),
            fix="take a file of the model in another quantisation, such as Q8_0, Q4_K_M or F16",
        )


def write_model(gguf: Gguf, folder: Path, say: Callable[[str], None]) -> list[str]:
    """Write the model of a GGUF file into an empty directory.

    Args:
        gguf: The file's header.
        folder: The directory.
        say: Told what is done now.

    Returns:
        What differs from the file's own metadata, in sentences for people.

    Raises:
        ModelError: It cannot be read, or not all of it.
    """
    where = str(gguf.path)
    with tempfile.TemporaryDirectory(prefix="trueup-gguf-") as room, clear_errors(where), quiet():
        link = Path(room) / "model.gguf"  # whatever the file itself is named
        link.symlink_to(gguf.path.resolve())
        say("tokenizer")
        with _calm():
            tokenizer, notes = _tokenizer(gguf, link, folder)
        say("weights: de-quantised")
        with _calm():
            model = _model(gguf, link)
        say("weights: written")
        _set_ends(model, tokenizer, gguf)
        model.save_pretrained(folder, max_shard_size="5GB")
    _write_licence(gguf, folder)
    return notes


def _model(gguf: Gguf, link: Path) -> Any:
    """The file's model in float32, with nothing in its config that says that it once was quantised."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(link.parent, gguf_file=link.name, local_files_only=True)
    rope = rope_parameters(gguf, config)
    if rope is not None:
        config.rope_parameters = rope
    model, info = AutoModelForCausalLM.from_pretrained(
        link.parent,
        gguf_file=link.name,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
        local_files_only=True,
    )
    _require_all(gguf, model, info)
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.is_quantized, model.hf_quantizer = False, None
    model.config.dtype = torch.float32
    return model


def _require_all(gguf: Gguf, model: Any, info: dict[str, Any]) -> None:
    """Every number of the file must be in a weight, and every weight from the file."""
    lacking = sorted(info["missing_keys"]) or sorted(str(key[0]) for key in info["mismatched_keys"])
    if lacking:
        raise ModelError(
            f"{len(lacking)} weights of {type(model).__name__} are not in the file or have another shape there: "
            f"{', '.join(lacking[:4])}{', ...' if len(lacking) > 4 else ''}",
            where=str(gguf.path),
            fix="give the model as safetensors, from where the GGUF was made",
        )
    held = [tensor for tensor in gguf.tensors if tensor.name not in ROPE_FACTORS]
    stored = sum(math.prod(tensor.shape) for tensor in held)
    read = sum(weight.numel() for weight in model.parameters())
    if stored != read:
        raise ModelError(
            f"the file holds {stored:,} weights, and {type(model).__name__} as transformers reads it has {read:,}",
            where=str(gguf.path),
            expected="a file of which every tensor is read",
            fix="give the model as safetensors, from where the GGUF was made",
        )


def _tokenizer(gguf: Gguf, link: Path, folder: Path) -> tuple[Any, list[str]]:
    """The file's tokenizer, saved; and where it is not what the file says."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(link.parent, gguf_file=link.name, local_files_only=True)
    metadata = read_gguf(gguf.path, vocabulary=True).metadata
    tokenizer.save_pretrained(folder)
    _drop_beyond(folder / "tokenizer.json", len(metadata["tokenizer.ggml.tokens"]))
    again = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    template = str(gguf.metadata.get("tokenizer.chat_template") or "")
    for text in (*PROBES, template):
        if again(text)["input_ids"] != tokenizer(text)["input_ids"]:
            raise ModelError(
                f"transformers does not open its tokenizer again as it was: {text[:40]!r} has other ids",
                where=str(gguf.path),
                fix="give the model as safetensors, from where the GGUF was made",
            )
    return again, tokenizer_notes(metadata, again)


def _drop_beyond(file: Path, count: int) -> None:
    """Take out added tokens beyond the file's own, for which the model has no embedding.

    transformers adds the special tokens of the class that it builds a tokenizer by, where the file names none.
    """
    stored = read_json(file)
    kept = [token for token in stored["added_tokens"] if token["id"] < count]
    if len(kept) < len(stored["added_tokens"]):
        write_json(file, {**stored, "added_tokens": kept})


def tokenizer_notes(metadata: dict[str, Any], tokenizer: Any) -> list[str]:
    """Where a tokenizer is not what a GGUF's metadata say: vocabulary, special tokens, template, end of an answer."""
    tokens, notes = metadata["tokenizer.ggml.tokens"], []
    unknown = [token for index, token in enumerate(tokens) if tokenizer.convert_ids_to_tokens(index) is None]
    if unknown:
        notes.append(f"{len(unknown)} of the file's {len(tokens)} tokens have no id, such as {unknown[0]!r}")
    if len(tokenizer) > len(tokens):
        notes.append(f"the tokenizer has {len(tokenizer)} tokens, the file {len(tokens)}")
    for role, key in ROLES.items():
        wanted, used = metadata.get(f"tokenizer.ggml.{key}"), getattr(tokenizer, f"{role}_token_id")
        if wanted is not None and wanted != used:
            name = repr(tokens[wanted]) if 0 <= wanted < len(tokens) else "no token of it"
            notes.append(f"{role} is {used} ({getattr(tokenizer, f'{role}_token')!r}), by the file {wanted} ({name})")
    begins = metadata.get("tokenizer.ggml.add_bos_token")
    if begins is not None and tokenizer.bos_token_id is not None:
        first = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        if first != bool(begins):
            notes.append(f"plain text begins {'with' if first else 'without'} bos, by the file the other way round")
    template = metadata.get("tokenizer.chat_template")
    if (tokenizer.chat_template or None) != (template or None):
        notes.append("the chat template is not the file's")
    others = sorted(key for key in metadata if key.startswith("tokenizer.chat_template."))
    if others:
        notes.append(f"further chat templates are not used: {', '.join(key.rsplit('.', 1)[1] for key in others)}")
    ends = [tokens[i] for i in _ends(metadata) if i < len(tokens)]
    if isinstance(template, str) and not any(end in template for end in ends) and "eos_token" not in template:
        named = ", ".join(map(repr, ends)) or "none"
        notes.append(
            f"the chat template writes none of the file's end tokens ({named}): answers may not end where they should"
        )
    return notes


def _ends(metadata: dict[str, Any]) -> list[int]:
    named = [metadata.get(f"tokenizer.ggml.{key}") for key in ENDS]
    return [int(index) for index in dict.fromkeys(named) if isinstance(index, int)]


def _set_ends(model: Any, tokenizer: Any, gguf: Gguf) -> None:
    """Generation settings that name every token which ends an answer by the file; transformers takes the first only."""
    ends = _ends(gguf.metadata)
    if ends:
        model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    for role in ("bos", "pad"):
        setattr(model.generation_config, f"{role}_token_id", getattr(tokenizer, f"{role}_token_id"))


def _write_licence(gguf: Gguf, folder: Path) -> None:
    """A model card that carries the file's name and licence on."""
    about = {key: gguf.metadata.get(f"general.{key}") for key in ("name", "organization", "license", "license.link")}
    front = {"license": about["license"], "license_link": about["license.link"]}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items() if value]
    text = f"Converted from `{gguf.path.name}` ({gguf.kinds}) to float32."
    title = " / ".join(str(about[key]) for key in ("organization", "name") if about[key]) or gguf.path.stem
    (folder / "README.md").write_text("\n".join(["---", *lines, "---", f"# {title}", "", text, ""]), encoding="utf-8")
    write_json(folder / "gguf_metadata.json", _plain(gguf.metadata))


def _plain(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata without its long lists."""
    return {key: value for key, value in metadata.items() if not (isinstance(value, list) and len(value) > 64)}


def _readable(kind: str) -> bool:
    """Whether the package ``gguf`` turns a storage type into numbers: seen on one block of zeros."""
    import gguf
    import numpy as np

    stored = gguf.GGMLQuantizationType[kind] if kind in gguf.GGMLQuantizationType.__members__ else None
    if stored is None:
        return False
    dtype = {"F32": np.float32, "F16": np.float16}.get(kind, np.uint8)
    try:
        gguf.dequantize(np.zeros((1, BLOCKS[kind][2] // np.dtype(dtype).itemsize), dtype), stored)
    except (NotImplementedError, KeyError):
        return False
    return True


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Without the bars of other libraries where nobody watches: in a log file each of their steps would be a line."""
    with contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO()):
        yield
