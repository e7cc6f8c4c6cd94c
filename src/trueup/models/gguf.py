"""What a GGUF file says of itself: metadata, tensors, and whether it holds a language model that can be trained.

GGUF is llama.cpp's format: one file with metadata (architecture, sizes, vocabulary, chat template) and tensors, mostly
in blocks of few bits (ggml's ``docs/gguf.md``, versions 2 and 3). Nothing here needs torch or the package ``gguf``, and
no tensor is read: a file that is cut short, of another kind or not GGUF at all is refused before minutes go into it.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import ModelError, near_file

MAGIC, SUFFIX = b"GGUF", ".gguf"
VERSIONS = (2, 3)
"""Version 1 counted in 32 bits; nothing writes it any more."""
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Value types of metadata that are one number, and their codes in ``struct``."""
STRING, ARRAY = 8, 9
MOST_DIMENSIONS, DEEPEST_ARRAY = 8, 4
SPLIT = re.compile(r"-(\d{5})-of-(\d{5})$")
"""How ``llama-gguf-split`` ends the stem of a part's name."""
BLOCKS = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q8_1": (9, 32, 36), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "Q8_K": (15, 256, 292),
    "IQ2_XXS": (16, 256, 66), "IQ2_XS": (17, 256, 74), "IQ3_XXS": (18, 256, 98), "IQ1_S": (19, 256, 50),
    "IQ4_NL": (20, 32, 18), "IQ3_S": (21, 256, 110), "IQ2_S": (22, 256, 82), "IQ4_XS": (23, 256, 136), "I8": (24, 1, 1),
    "I16": (25, 1, 2), "I32": (26, 1, 4), "I64": (27, 1, 8), "F64": (28, 1, 8), "IQ1_M": (29, 256, 56),
    "BF16": (30, 1, 2), "TQ1_0": (34, 256, 54), "TQ2_0": (35, 256, 66), "MXFP4": (39, 32, 17),
}  # fmt: skip
"""Name of a storage type: its number, numbers in a block, bytes of a block."""
KINDS = {number: (name, size, length) for name, (number, size, length) in BLOCKS.items()}
OTHER_KINDS = {
    "mmproj": "the vision or audio part of a model (mmproj)",
    "adapter": "a LoRA adapter",
    "imatrix": "an importance matrix",
    "controlvector": "a control vector",
}
"""Values of ``general.type`` that no model has."""
NO_DECODER = {
    "clip": "the vision or audio part of a model (mmproj)",
    "controlvector": "a control vector",
    "bert": "an embedding model",
    "nomic-bert": "an embedding model",
    "nomic-bert-moe": "an embedding model",
    "neo-bert": "an embedding model",
    "modern-bert": "an embedding model",
    "jina-bert-v2": "an embedding model",
    "jina-bert-v3": "an embedding model",
    "gemma-embedding": "an embedding model",
    "t5": "an encoder-decoder model",
    "t5encoder": "an encoder",
    "whisper": "a speech model",
    "wavtokenizer-dec": "a speech model",
}
"""Architectures that are no causal language models."""
POOLINGS = {1: "mean", 2: "cls", 3: "last", 4: "rank"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file.

    Attributes:
        name: By ggml's convention, as ``blk.0.attn_q.weight``.
        shape: Slowest dimension first.
        kind: Storage type, as ``Q4_K``.
        offset: Bytes from the beginning of the file.
        size: Bytes.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Gguf:
    """A file's metadata and the table of its tensors."""

    path: Path
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """By ggml's name, as ``llama``."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def count(self) -> int:
        """Number of weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def kinds(self) -> str:
        """Storage types of the tensors, the commonest first, as ``Q4_1, F32``."""
        return ", ".join(name for name, _ in Counter(tensor.kind for tensor in self.tensors).most_common())

    def own(self, key: str) -> Any:
        """The value of a key of the architecture, as ``rope.scaling.type``; None where the file has none."""
        return self.metadata.get(f"{self.architecture}.{key}")


def gguf_of(name: str) -> Path | None:
    """The GGUF file that a model's name means: the file itself, or the only one in a directory without other weights.

    None where it means something else.

    Raises:
        ModelError: There is no such file, or the directory holds several.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path if path.suffix.lower() == SUFFIX or _starts(path) == MAGIC else None
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() == SUFFIX and p.is_file())
        if not files or any((path / other).is_file() for other in OTHER_WEIGHTS):
            return None
        if len(files) == 1 or _is_one_split(files):
            return files[0]
        raise ModelError(
            f"{len(files)} GGUF files are here, and which of them is meant cannot be known",
            where=name,
            expected="a directory with one of them, or the file itself",
            fix=f"name one: {', '.join(str(file) for file in files[:8])}{', ...' if len(files) > 8 else ''}",
        )
    if path.suffix.lower() == SUFFIX:
        raise ModelError("no such file", where=name, expected="a GGUF file", fix=_near(path))
    return None


OTHER_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_config.json")


def read_gguf(path: Path, vocabulary: bool = False) -> Gguf:
    """Read and check metadata and the table of tensors.

    Args:
        path: The file.
        vocabulary: Also keep long lists of strings (tokens, merges); else their length stands for them.

    Raises:
        ModelError: It is no GGUF file, of an unknown version, or not whole.
    """
    try:
        size = path.stat().st_size
        if size < 24 or _starts(path) != MAGIC:
            raise ModelError(
                "this is no GGUF file" + (", it is empty" if size == 0 else f": it starts with {_starts(path)!r}"),
                where=str(path),
                expected="a file that starts with the four bytes GGUF",
                fix="download it again: a page of a web site or a pointer of Git LFS may stand under its name",
            )
        with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cursor(data, path, vocabulary).file()
    except (struct.error, UnicodeDecodeError, IndexError, OverflowError, MemoryError) as error:
        raise _damaged(path, f"its header cannot be read ({error or type(error).__name__})") from error
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def require_language_model(gguf: Gguf) -> None:
    """Refuse what is no whole causal language model.

    Raises:
        ModelError: Says what it is, and what to take instead.
    """
    where = str(gguf.path)
    part = SPLIT.search(gguf.path.stem)
    if part or int(gguf.metadata.get("split.count") or 0) > 1:
        first = SPLIT.sub(f"-00001-of-{part[2]}", gguf.path.stem) + gguf.path.suffix if part else gguf.path.name
        whole = SPLIT.sub("", gguf.path.stem) + gguf.path.suffix if part else "whole.gguf"
        raise ModelError(
            "the model is split over several files, and this is one of them",
            where=where,
            expected="a whole model in one file",
            fix=f"join them by llama.cpp's own command: llama-gguf-split --merge {first} {whole}",
        )
    kind = OTHER_KINDS.get(str(gguf.metadata.get("general.type"))) or NO_DECODER.get(gguf.architecture)
    pooling = gguf.own("pooling_type")
    if kind is None and pooling in POOLINGS:
        kind = f"{'a reranker' if pooling == 4 else 'an embedding model'} (pooling {POOLINGS[pooling]})"
    if kind is not None:
        raise ModelError(
            f"the file holds {kind}",
            where=where,
            expected="a causal language model",
            fix="give the GGUF of the language model"
            if kind != OTHER_KINDS["adapter"]
            else "give the adapter as PEFT writes it (adapter_config.json), and its base as base_model_name_or_path",
        )
    if not gguf.architecture or not gguf.tensors:
        lacking = "general.architecture" if not gguf.architecture else "tensors"
        raise ModelError(f"the file has no {lacking}", where=where, expected="a language model as llama.cpp writes it")
    if not gguf.metadata.get("tokenizer.ggml.tokens"):
        raise ModelError(
            "the file holds no vocabulary (tokenizer.ggml.tokens)",
            where=where,
            expected="a language model with its tokenizer",
            fix="take another file of the model: this one was written without it",
        )


class _Cursor:
    """Reads one value after the other, and never past the end."""

    def __init__(self, data: mmap.mmap, path: Path, vocabulary: bool) -> None:
        self.data, self.path, self.vocabulary, self.at = data, path, vocabulary, 4

    def file(self) -> Gguf:
        version = self.number("I")
        if version not in VERSIONS:
            other = int.from_bytes(int(version).to_bytes(4, "little"), "big")
            order = " (it was written on a big-endian machine)" if other in VERSIONS else ""
            raise ModelError(
                f"this is GGUF version {other if order else version}{order}",
                where=str(self.path),
                expected=f"version {' or '.join(map(str, VERSIONS))}, little-endian",
                fix="take a newer file of the model",
            )
        tensors, values = self.number("Q"), self.number("Q")
        if max(tensors, values) > len(self.data) // 12:  # each has at least a name's length and a type
            raise _damaged(self.path, f"it says that it has {tensors} tensors and {values} values")
        metadata: dict[str, Any] = {}
        for _ in range(values):
            key = self.text()
            metadata[key] = self.value(self.number("I"))
        table = [self.tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise _damaged(self.path, f"general.alignment is {alignment!r}")
        start = -(-self.at // alignment) * alignment
        whole = tuple(Tensor(t.name, t.shape, t.kind, t.offset + start, t.size) for t in table)
        for tensor in whole:
            if tensor.offset + tensor.size > len(self.data):
                raise _damaged(
                    self.path,
                    f"it is cut short: {tensor.name} ends at byte {tensor.offset + tensor.size}, the file at "
                    f"{len(self.data)}",
                )
        return Gguf(self.path, metadata, whole)

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.at)
        self.at += struct.calcsize(f"<{code}")
        return value

    def skip(self, length: int) -> None:
        if length > len(self.data) - self.at:
            raise _damaged(self.path, f"it is cut short: its header goes on after byte {len(self.data)}")
        self.at += length

    def text(self) -> str:
        start = self.at + 8
        self.skip(8 + self.number_at("Q"))
        return self.data[start : self.at].decode("utf-8")

    def number_at(self, code: str) -> int:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.at)
        return int(value)

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY or depth >= DEEPEST_ARRAY:
            raise _damaged(self.path, f"it holds a value of the unknown type {kind}")
        inner, count = self.number("I"), self.number("Q")
        if inner in NUMBERS:
            code = NUMBERS[inner]
            start = self.at
            self.skip(count * struct.calcsize(f"<{code}"))
            return list(struct.unpack_from(f"<{count}{code}", self.data, start))
        if count > len(self.data):
            raise _damaged(self.path, f"it holds a list of {count} values")
        if inner != STRING or self.vocabulary:
            return [self.value(inner, depth + 1) for _ in range(count)]
        for _ in range(count):
            self.skip(8 + self.number_at("Q"))
        return count

    def tensor(self) -> Tensor:
        name = self.text()
        dimensions = self.number("I")
        if dimensions > MOST_DIMENSIONS:
            raise _damaged(self.path, f"{name} has {dimensions} dimensions")
        shape = tuple(reversed([self.number("Q") for _ in range(dimensions)]))
        number, offset = self.number("I"), self.number("Q")
        if number not in KINDS:
            raise ModelError(
                f"{name} is stored as type {number}, which is not known here",
                where=str(self.path),
                expected=f"one of {', '.join(BLOCKS)}",
                fix="take a file of the model in another quantisation, such as Q8_0, Q4_K_M or F16",
            )
        kind, block, length = KINDS[number]
        count = math.prod(shape)
        if count % block or (shape and shape[-1] % block):
            raise _damaged(self.path, f"{name} has rows of {shape[-1] if shape else 1} numbers in blocks of {block}")
        return Tensor(name, shape, kind, offset, count // block * length)


def _starts(path: Path) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(4)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def _is_one_split(files: list[Path]) -> bool:
    """Whether all of them are parts of one model, which is refused for being split and not for being several."""
    return all(SPLIT.search(file.stem) for file in files) and len({SPLIT.sub("", file.stem) for file in files}) == 1


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f"{path.parent} is no directory either"
    files = sorted(p.name for p in path.parent.iterdir() if p.suffix.lower() == SUFFIX)
    return near_file(path) if files else f"in {path.parent} there is no GGUF file"


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"the GGUF file is damaged: {what}", where=str(path), fix="copy or download it again")
