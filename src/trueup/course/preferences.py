"""Preference data of the course: pairs, a dataset from parallel lists, a padded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.errors import DataError, ShapeError


@dataclass
class PreferencePair:
    """One comparison: ``chosen`` was preferred to ``rejected`` as an answer to ``prompt``."""

    prompt: str
    chosen: str
    rejected: str


def create_preference_dataset(
    prompts: list[str], chosen_responses: list[str], rejected_responses: list[str]
) -> list[PreferencePair]:
    """Pairs from parallel lists.

    Raises:
        DataError: The lists differ in length; zipping them would drop rows without a word.
    """
    counts = len(prompts), len(chosen_responses), len(rejected_responses)
    if len(set(counts)) != 1:
        raise DataError(
            f"{counts[0]} prompts, {counts[1]} chosen and {counts[2]} rejected responses",
            where="create_preference_dataset",
            expected="three lists of one length",
        )
    rows = zip(prompts, chosen_responses, rejected_responses, strict=True)
    return [PreferencePair(prompt=p, chosen=c, rejected=r) for p, c, r in rows]


def create_preference_batch(pairs: list[PreferencePair], tokenizer: Any) -> dict[str, NDArray[np.int64]]:
    """Token ids of a batch, padded on the right.

    Args:
        pairs: At least one.
        tokenizer: Anything with ``encode(text)``, or a function from text to ids. ``pad_token_id`` is used where it
            has one, else 0; the masks, not the padding value, say what is real.

    Returns:
        ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` [batch, length] and the same with ``_mask`` (1 for a token).
    """
    if not pairs:
        raise DataError("no pairs", where="create_preference_batch", expected="at least one")
    pad = getattr(tokenizer, "pad_token_id", None) or 0
    batch: dict[str, NDArray[np.int64]] = {}
    for side in ("prompt", "chosen", "rejected"):
        ids = [encode(tokenizer, getattr(pair, side)) for pair in pairs]
        width = max(1, *(len(row) for row in ids))
        batch[f"{side}_ids"] = np.array([[*row, *[pad] * (width - len(row))] for row in ids], dtype=np.int64)
        batch[f"{side}_mask"] = np.array([[1] * len(row) + [0] * (width - len(row)) for row in ids], dtype=np.int64)
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
