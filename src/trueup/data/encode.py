"""Text to token ids: special tokens never come out of data, and a completion continues its prompt's own ids.

Why a boundary needs thought: a tokenizer may merge the end of the prompt with the start of the completion
(``"$" + "46"`` can become one token ``"$46"``), and SentencePiece puts a space before a text that stands alone.
A sampler is fed the ids of the prompt, so those ids are fixed first and the completion is whatever continues them:

1. encode prompt and completion as one text; if that begins with the prompt's ids, the rest is the completion;
2. otherwise a token straddles the boundary. The prompt keeps its ids, the completion is encoded alone, as a
   continuation (without the space that SentencePiece would add), and the row is counted as a *seam*.

Either way prompt ids + completion ids decode to prompt + completion, and both sides of a pair share the prompt's ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from trueup.errors import ModelError

Ids: TypeAlias = tuple[int, ...]

# Noncharacters: Unicode reserves them for internal use, so text that is exchanged does not hold them.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_ESCAPED = re.compile(r"\\ufdd0([0-9]+)\\ufdd1")
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_ANCHORS = ("\n", ".", "a", "0")


@dataclass(frozen=True, slots=True)
class Text:
    """A text to encode.

    Plain text is data, taken literally. ``parsed`` text comes from a chat template: the special tokens in it are
    meant, and the data inside it went through ``Encoder.masked``.
    """

    value: str
    parsed: bool = False


class Encoder:
    """A tokenizer, seen as a function from text to ids that keeps data and control tokens apart."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special_ids = _special_tokens(tokenizer)
        self._strings = (_OPEN, *sorted(self.special_ids, key=len, reverse=True))
        self._special = re.compile("|".join(re.escape(s) for s in self._strings))
        self._forbidden = frozenset(self.special_ids.values()) - {tokenizer.unk_token_id}
        self.prefix_ids = self._prefix()
        once = self._batch(["a"], parsed=False)[0]
        # A tokenizer that adds a space before a lone text needs something to its left to continue from.
        self._adds_space = self._decode(once + once) != "aa"

    def holds_special(self, text: str) -> bool:
        """Whether ``text`` contains the spelling of a special token."""
        return self._special.search(text) is not None

    def masked(self, text: str) -> str:
        """``text`` with every spelling of a special token replaced by a mark; ``encode`` puts it back as text."""
        return self._special.sub(lambda m: f"{_OPEN}{self._strings.index(m.group())}{_CLOSE}", text)

    def unmasked(self, text: str) -> str:
        """The text that ``masked`` replaced."""
        return _MARK.sub(lambda m: self._strings[int(m.group(1))], text)

    def encode(self, texts: Sequence[Text]) -> list[Ids]:
        """Ids of each text. No BOS or EOS is added; special tokens appear only where a template wrote them."""
        encodings: list[Ids] = [()] * len(texts)
        for parsed in (False, True):
            plain = [i for i, t in enumerate(texts) if t.parsed is parsed and _OPEN not in t.value]
            for i, ids in zip(plain, self._batch([texts[i].value for i in plain], parsed=parsed), strict=True):
                encodings[i] = ids
        for i, text in enumerate(texts):
            if _OPEN in text.value or self._leaks(text, encodings[i]):
                encodings[i] = self._pieces(text)
        return encodings

    def complete(self, heads: Sequence[tuple[Text, Ids]], tails: Sequence[str]) -> list[tuple[Ids, bool]]:
        """Ids of each tail as the continuation of its head's ids, and whether a token straddled the boundary.

        ``heads`` hold the prompt's text and its ids as the sampler is fed them, without any BOS.
        """
        whole = self.encode([Text(h.value + t, h.parsed) for (h, _), t in zip(heads, tails, strict=True)])
        completed: list[tuple[Ids, bool]] = []
        for (head, head_ids), tail, ids in zip(heads, tails, whole, strict=True):
            if ids[: len(head_ids)] == head_ids:
                completed.append((ids[len(head_ids) :], False))
            else:
                completed.append((self._across(head_ids, Text(tail, head.parsed), ids), True))
        return completed

    def _across(self, head_ids: Ids, tail: Text, whole: Ids) -> Ids:
        wanted = self._decode(whole)
        options = self._continuations(tail)
        for ids in options:
            if self._decode(head_ids + ids) == wanted:
                return ids
        if options and self.tokenizer.unk_token_id in whole:
            return options[0]  # unknown characters do not survive decoding, so nothing can be compared
        raise _cannot_continue(tail.value)

    def _continuations(self, text: Text) -> list[Ids]:
        """Ways to encode ``text`` as if something stood to its left, best first."""
        if not text.value:
            return [()]
        if _OPEN not in text.value:
            encodings = [ids for ids in self._joined(text) if not self._leaks(text, ids)]
            if encodings:
                return encodings
        return [self._pieces(text, continued=True)]

    def _joined(self, text: Text) -> list[Ids]:
        encodings = [] if self._adds_space else [self._batch([text.value], parsed=text.parsed)[0]]
        for anchor in _ANCHORS:
            left, both = self._batch([anchor, anchor + text.value], parsed=text.parsed)
            if both[: len(left)] == left:
                encodings.append(both[len(left) :])
        return encodings

    def _leaks(self, text: Text, ids: Ids) -> bool:
        return not text.parsed and not self._forbidden.isdisjoint(ids)

    def _pieces(self, text: Text, *, continued: bool = False) -> Ids:
        """Encode around the marks; a masked special token becomes the ids of its spelling."""
        ids: Ids = ()
        for number, piece in enumerate(_MARK.split(text.value if text.parsed else self.masked(text.value))):
            going = continued or bool(ids)
            if number % 2:
                ids += self._spelled(self._strings[int(piece)], continued=going)
            elif piece:
                ids += self._one(Text(piece, text.parsed), continued=going)
        return ids

    def _spelled(self, spelling: str, *, continued: bool) -> Ids:
        # A Unigram vocabulary may hold "</s>" as an ordinary piece: then only its parts are harmless.
        for pieces in ((spelling,), (spelling[:1], spelling[1:]), tuple(spelling)):
            ids: Ids = ()
            for piece in pieces:
                if piece:
                    ids += self._one(Text(piece), continued=continued or bool(ids))
            if self._forbidden.isdisjoint(ids):
                return ids
        raise ModelError(
            f"the tokenizer reads {spelling!r} in ordinary text as a control token, however it is split",
            where="tokenizer",
            fix="remove that text from the data, or use another tokenizer",
        )

    def _one(self, text: Text, *, continued: bool) -> Ids:
        if not continued:
            return self._batch([text.value], parsed=text.parsed)[0]
        encodings = self._joined(text)
        if not encodings:
            raise _cannot_continue(text.value)
        return encodings[0]

    def _batch(self, texts: list[str], *, parsed: bool) -> list[Ids]:
        if not texts:
            return []
        id_lists = self.tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=not parsed,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return [tuple(ids) for ids in id_lists]

    def _decode(self, ids: Ids) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _prefix(self) -> Ids:
        """What the tokenizer itself puts before a text (BOS, or nothing); an EOS that it would append is left out."""
        with_special = tuple(self.tokenizer("a", add_special_tokens=True, verbose=False)["input_ids"])
        bare = self._batch(["a"], parsed=True)[0]
        for start in range(len(with_special) - len(bare) + 1):
            if with_special[start : start + len(bare)] == bare:
                return with_special[:start]
        return ()


def escaped_marks(text: str) -> str:
    """``text`` with the marks of ``Encoder.masked`` as they were, where JSON spelled them in ASCII."""
    return _ESCAPED.sub(f"{_OPEN}\\1{_CLOSE}", text) if "\\ufdd0" in text else text


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    """Spelling -> id of BOS, EOS, padding and every other control token.

    Byte-fallback pieces are text (a newline is ``<0x0A>``), though some converted tokenizers list them as special.
    """
    marked = {str(t.content): int(i) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    special_ids = {spelling: number for spelling, number in marked.items() if not _BYTE.fullmatch(spelling)}
    for name in ("bos_token", "eos_token", "pad_token"):
        spelling, number = getattr(tokenizer, name), getattr(tokenizer, name + "_id")
        if spelling is not None and number is not None:
            special_ids[str(spelling)] = int(number)
    return special_ids


def _cannot_continue(text: str) -> ModelError:
    return ModelError(
        "the tokenizer cannot continue a text in the middle of a word",
        where=repr(text[:60]),
        expected="a tokenizer of a causal language model (BPE, SentencePiece)",
        fix="end prompts at a word boundary, or use another tokenizer",
    )
