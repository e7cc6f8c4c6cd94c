"""Preference data of the course: pairs, a dataset from parallel lists, a padded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.errors import DataError, ShapeError

SIDES = ("prompt", "chosen", "rejected")


@dataclass
class PreferencePair:
    """One comparison: ``chosen`` was preferred to ``rejected`` as an answer to ``prompt``.

    The scores are what a judge or a reward model gave the two answers, where that is known; no loss here reads them.
    """

    prompt: str
    chosen: str
    rejected: str
    chosen_score: float | None = None
    rejected_score: float | None = None


class PreferenceBatch(dict[str, NDArray[np.int64]]):
    """``prompt_ids``, ``chosen_ids`` and ``rejected_ids`` [batch, length], and beside the keys how long each row is.

    ``lengths`` maps ``prompt``, ``chosen`` and ``rejected`` to token counts [batch]: padding may be a real token's id,
    as it is where a tokenizer pads with EOS, so the ids alone do not say where a row ends.
    """

    lengths: dict[str, NDArray[np.int64]]


def create_preference_dataset(
    prompts: list[str],
    chosen_responses: list[str],
    rejected_responses: list[str],
    chosen_scores: list[float] | None = None,
    rejected_scores: list[float] | None = None,
) -> list[PreferencePair]:
    """Pairs from parallel lists.

    Raises:
        DataError: The lists differ in length; zipping them would drop rows without a word.
    """
    columns: dict[str, Sequence[Any] | None] = {
        "prompts": prompts,
        "chosen responses": chosen_responses,
        "rejected responses": rejected_responses,
        "chosen scores": chosen_scores,
        "rejected scores": rejected_scores,
    }
    lengths = {name: len(column) for name, column in columns.items() if column is not None}
    if len(set(lengths.values())) != 1:
        raise DataError(
            ", ".join(f"{count} {name}" for name, count in lengths.items()),
            where="create_preference_dataset",
            expected="lists of one length",
        )
    unknown = [None] * len(prompts)
    rows = zip(
        prompts,
        chosen_responses,
        rejected_responses,
        unknown if chosen_scores is None else chosen_scores,
        unknown if rejected_scores is None else rejected_scores,
        strict=True,
    )
    return [PreferencePair(*row) for row in rows]


def create_preference_batch(pairs: list[PreferencePair], tokenizer: Any, *, add_eos: bool = False) -> PreferenceBatch:
    """Token ids of a batch, padded on the right.

    Args:
        pairs: At least one.
        tokenizer: Anything with ``encode(text)``, or a function from text to ids. ``pad_token_id`` is used where it
            has one, else 0; ``lengths`` of the batch, not the padding value, says what is real.
        add_eos: End chosen and rejected answers with the tokenizer's ``eos_token_id``, unless they end so or are empty.
            ``DPOTrainer.train`` does this: a model that never sees an end does not learn to stop.
    """
    if not pairs:
        raise DataError("no pairs", where="create_preference_batch", expected="at least one")
    pad = getattr(tokenizer, "pad_token_id", None) or 0
    eos = getattr(tokenizer, "eos_token_id", None) if add_eos else None
    batch = PreferenceBatch()
    batch.lengths = {}
    for side in SIDES:
        rows = [encode(tokenizer, getattr(pair, side)) for pair in pairs]
        if eos is not None and side != "prompt":
            rows = [row if not row or row[-1] == eos else [*row, int(eos)] for row in rows]
        width = max(1, *(len(row) for row in rows))
        batch[f"{side}_ids"] = np.array([[*row, *[pad] * (width - len(row))] for row in rows], dtype=np.int64)
        batch.lengths[side] = np.array([len(row) for row in rows], dtype=np.int64)
    return batch


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text, from any kind of tokenizer; special tokens are left out where that can be asked for."""
    if hasattr(tokenizer, "encode"):
        try:
            ids = tokenizer.encode(text, add_special_tokens=False)
        except TypeError:
            ids = tokenizer.encode(text)
    else:
        ids = tokenizer(text)
    if isinstance(ids, Mapping):
        ids = ids["input_ids"]
    ids = getattr(ids, "ids", ids)  # an Encoding of the tokenizers library
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
    if not isinstance(ids, Sequence) or isinstance(ids, str) or not all(isinstance(i, Integral) for i in ids):
        raise ShapeError(f"the tokenizer gave {str(ids)[:60]}", where="tokenizer", expected="a flat list of ids")
    return [int(i) for i in ids]
