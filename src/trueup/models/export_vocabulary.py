"""A tokenizer as llama.cpp has it: tokens with their kinds, merges, which pieces text is cut into first, end tokens.

llama.cpp cuts text by rules that have names (``tokenizer.ggml.pre``). The names stand here beside the rules of the
tokenizers library that do the same; a tokenizer with any other rule is refused, because its ids would differ without a
word. tests/models/test_export_gguf.py compares ids with llama.cpp's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import ModelError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of tokens, as ``gguf.TokenType`` numbers them."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {
    _CONTRACTIONS + _WORDS % "{1,3}": "llama-bpe",
    _CONTRACTIONS + _WORDS % "": "qwen2",
}
"""Regular expressions of a ``Split`` that llama.cpp knows, and its name for them."""
KNOWN = (
    "byte-level BPE cut as GPT-2, SmolLM, Llama 3 or Qwen 2 do it, or SentencePiece-like BPE with bytes as Llama 2 has"
)


@dataclass(frozen=True)
class Vocabulary:
    """What the GGUF file says of the tokenizer.

    Attributes:
        model: ``gpt2`` (byte-level BPE) or ``llama`` (SentencePiece-like).
        pre: llama.cpp's name for how text is cut first; empty for ``llama``.
        tokens: The text of each id.
        kinds: The kind of each id.
        merges: Merges in their order, ``a b``; empty for ``llama``.
        scores: Of each id; empty for ``gpt2``.
        space: Whether a space is put before text, for ``llama``.
        first: Whether each text begins with the first token by itself.
        last: Whether each text ends with the end token by itself.
        remarks: What differs all the same.
    """

    model: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    scores: list[float]
    space: bool
    first: bool
    last: bool
    remarks: tuple[str, ...]


def read_vocabulary(path: Path, tokenizer: Any, rows: int) -> Vocabulary:
    """The vocabulary of the model in ``path``.

    Args:
        path: Its folder.
        tokenizer: Its tokenizer, opened.
        rows: How many embeddings the model has; ids without a token are unused ones.

    Raises:
        ModelError: llama.cpp would make other ids of the same text.
    """
    file = path / "tokenizer.json"
    where = str(file)
    try:
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
    except (AttributeError, ValueError) as error:
        raise ModelError("it is no tokenizer of the tokenizers library", where=where, expected=KNOWN) from error
    model = spec["model"]
    if model.get("type") != "BPE":
        raise ModelError(f"the tokenizer is a {model.get('type')} model", where=where, expected=KNOWN)
    if model.get("dropout") or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ModelError("its BPE has dropout, a prefix or a suffix of words", where=where, expected=KNOWN)
    texts, kinds, remarks = _tokens(spec, tokenizer, rows)
    first, last = _added(tokenizer, where)
    merges = [merge.split(" ", 1) if isinstance(merge, str) else list(merge) for merge in model["merges"]]
    if model.get("byte_fallback"):
        space = _space_before(spec, where)
        kinds = [BYTE if kind == NORMAL and _is_byte(text) else kind for text, kind in zip(texts, kinds, strict=True)]
        scores = _scores(merges, model["vocab"], texts, where)
        return Vocabulary("llama", "", texts, kinds, [], scores, space, first, last, tuple(remarks))
    pre = _pre(spec, bool(model.get("ignore_merges")), where)
    joined = [" ".join(merge) for merge in merges]
    if spec.get("normalizer") is not None:
        _require_harmless(spec["normalizer"], where)
        remarks.append("the tokenizer writes letters with accents as one sign (NFC) first, and llama.cpp does not")
    return Vocabulary("gpt2", pre, texts, kinds, joined, [], False, first, last, tuple(remarks))


def _tokens(spec: Mapping[str, Any], tokenizer: Any, rows: int) -> tuple[list[str], list[int], list[str]]:
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    added = {int(entry["id"]): entry for entry in spec.get("added_tokens", [])}
    special = set(tokenizer.all_special_ids)
    texts, kinds, remarks = [], [], list[str]()
    for index in range(max(rows, max(by_id, default=-1) + 1)):
        if index not in by_id:
            texts.append(f"[UNUSED{index}]")
            kinds.append(UNUSED)
            continue
        texts.append(by_id[index])
        if index == tokenizer.unk_token_id and spec["model"].get("byte_fallback"):
            kinds.append(UNKNOWN)
        elif index in special or (index in added and added[index]["special"]):
            kinds.append(CONTROL)
        else:
            kinds.append(USER_DEFINED if index in added else NORMAL)
    odd = [str(e["content"]) for e in added.values() if e.get("lstrip") or e.get("rstrip") or e.get("single_word")]
    if odd:
        remarks.append(f"the tokenizer drops spaces beside {', '.join(odd[:4])}, and llama.cpp does not")
    return texts, kinds, remarks


def _added(tokenizer: Any, where: str) -> tuple[bool, bool]:
    """Whether the first and the end token stand around each text by themselves."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    first = bool(whole) and whole[0] == tokenizer.bos_token_id and len(whole) > len(plain)
    rest = whole[1:] if first else whole
    last = len(rest) == len(plain) + 1 and rest[-1] == tokenizer.eos_token_id
    if (rest[:-1] if last else rest) != plain:
        raise ModelError(
            "the tokenizer puts other tokens around a text than its first and its end token",
            where=where,
            expected="BOS before, EOS behind, or nothing",
        )
    return first, last


def _pre(spec: Mapping[str, Any], ignores_merges: bool, where: str) -> str:
    """llama.cpp's name for the way in which text is cut into pieces before merging."""
    outer = spec.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", []) if outer.get("type") == "Sequence" else [outer]
    kinds = [step.get("type") for step in steps]
    last = steps[-1] if steps else {}
    name = None
    if kinds and kinds[-1] == "ByteLevel" and not last.get("add_prefix_space"):
        if kinds == ["ByteLevel"] and last.get("use_regex", True):
            name = "gpt-2"
        elif kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and last.get("use_regex", True):
            name = "smollm"
        elif kinds == ["Split", "ByteLevel"] and not last.get("use_regex", True):
            split = steps[0]
            pattern = (split.get("pattern") or {}).get("Regex", "")
            isolated = split.get("behavior") == "Isolated" and not split.get("invert")
            name = SPLITS.get(pattern) if isolated else None
    # llama.cpp takes whole words of the vocabulary before it merges where the rule is Llama 3's, and nowhere else.
    if name is None or ignores_merges != (name == "llama-bpe"):
        shown = f"{'then '.join(map(str, kinds)) or 'none'}{', whole words first' if ignores_merges else ''}"
        raise ModelError(
            f"the tokenizer cuts text in a way that llama.cpp has no name for here ({shown})",
            where=where,
            expected=KNOWN,
            fix="serve the Hugging Face folder (--to hf) with vLLM or transformers",
        )
    return name


def _require_harmless(normalizer: Mapping[str, Any], where: str) -> None:
    if normalizer.get("type") != "NFC":
        raise ModelError(
            f"the tokenizer changes text first ({normalizer.get('type')}), and llama.cpp does not",
            where=where,
            expected=KNOWN,
        )


def _space_before(spec: Mapping[str, Any], where: str) -> bool:
    """Whether a space is put before each text, of a tokenizer that writes spaces as ``▁``."""
    outer, pre = spec.get("normalizer") or {}, spec.get("pre_tokenizer")
    steps = outer.get("normalizers", []) if outer.get("type") == "Sequence" else [outer]
    kinds = [step.get("type") for step in steps]
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    if pre is None and kinds in (["Prepend", "Replace"], ["Replace"]) and dict(steps[-1]) == replaced:
        return kinds[0] == "Prepend" and steps[0].get("prepend") == "▁"
    if not kinds[0] and pre is not None and pre.get("type") == "Metaspace" and pre.get("replacement") == "▁":
        scheme = pre.get("prepend_scheme", "always")
        if scheme in ("always", "never") and not pre.get("split", True):
            return bool(scheme == "always")
    raise ModelError(
        "the tokenizer writes spaces in a way that llama.cpp does not",
        where=where,
        expected=KNOWN,
        fix="serve the Hugging Face folder (--to hf) with vLLM or transformers",
    )


def _scores(merges: Sequence[Sequence[str]], vocab: Mapping[str, int], texts: Sequence[str], where: str) -> list[float]:
    """A score for each id that makes llama.cpp merge in the order of ``merges``: the earlier, the higher.

    llama.cpp orders by the token that a merge gives, so all merges that give one token must follow one another.
    """
    rank: dict[str, int] = {}
    before = None
    for number, merge in enumerate(merges):
        result = "".join(merge)
        if result in rank and result != before:
            raise ModelError(
                f"merges that give the token {result!r} stand apart", where=where, expected="SentencePiece-like BPE"
            )
        rank.setdefault(result, number)
        before = result
    lowest = -float(len(merges)) - 1
    return [-float(rank[text]) if text in rank else lowest if text in vocab else 0.0 for text in texts]


def _is_byte(text: str) -> bool:
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")
