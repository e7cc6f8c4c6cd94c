"""How a tokenizer and a model belong together: ids with embeddings, vocabularies that mean the same, padding."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from typing import Any

import torch

from trueup.errors import ModelError

NEW_PAD = "<|trueup_pad|>"
SPARE = (re.compile(r"(?<!vision_)(?<!image_)(?<!video_)(?<!audio_)pad", re.IGNORECASE), re.compile("reserved|unused"))
"""Names of special tokens that are there to stand for nothing, the likeliest first."""


def require_embedded(model: Any, tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for.

    Raises:
        ModelError: It says how many.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    beyond = [token for token, index in tokenizer.get_vocab().items() if index >= rows]
    if beyond:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens, the model embeds {rows}; it has no embedding for "
            f"{', '.join(repr(token) for token in sorted(beyond)[:3])}",
            where=name,
            fix="use the tokenizer that belongs to the model, or resize its embeddings once and save it",
        )


def vocabulary_difference(first: Any, second: Any) -> str | None:
    """Why ids of one tokenizer mean something else to the other; None if they mean the same."""
    first_vocab, second_vocab = first.get_vocab(), second.get_vocab()
    if first_vocab != second_vocab:
        changed = sorted(
            token
            for token in first_vocab.keys() | second_vocab.keys()
            if first_vocab.get(token) != second_vocab.get(token)
        )
        return f"{len(changed)} tokens have other ids, such as {changed[0]!r}"
    for role in ("eos_token", "bos_token"):
        names = getattr(first, role), getattr(second, role)
        if names[0] != names[1]:
            return f"{role} is {names[0]!r} for one and {names[1]!r} for the other"
    return None


def padded(
    model: Any, tokenizer: Any, end_ids: Collection[int], weights: dict[str, torch.Tensor]
) -> tuple[Any, dict[str, torch.Tensor], dict[str, int]]:
    """A tokenizer and weights for a sequence classifier that is read at the last token which is not padding.

    That is how Hugging Face finds the end of a row. So padding must be a token that no row ends with: neither an end
    token, nor one that text can end with, nor one without an embedding. Where the tokenizer's own is none of these it
    stays; else a token that stands for nothing takes its place, in the last resort a new one.

    Args:
        model: The classifier.
        tokenizer: Not changed.
        end_ids: Tokens that end the rows it was trained on.
        weights: Of the classifier, by name; not changed.

    Returns:
        The tokenizer to save, the weights to save, and the changes of the config.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    special = {str(token): int(index) for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= {token: int(tokenizer.convert_tokens_to_ids(token)) for token in tokenizer.all_special_tokens}
    refused = {*end_ids, tokenizer.eos_token_id, tokenizer.unk_token_id}
    usable = {token: index for token, index in special.items() if index < rows and index not in refused}
    copied = copy.deepcopy(tokenizer)
    copied.padding_side = "right"  # where positions are learned, Hugging Face counts padding on the left as text
    if tokenizer.pad_token in usable:
        return copied, weights, {"pad_token_id": usable[tokenizer.pad_token]}
    template = str(tokenizer.chat_template or "")
    spare = (token for name in SPARE for token in sorted(usable) if name.search(token) and token not in template)
    copied.add_special_tokens({"pad_token": next(spare, NEW_PAD)})
    index = int(copied.pad_token_id)
    if index < rows:
        return copied, weights, {"pad_token_id": index}
    embedding = model.get_input_embeddings().weight
    names = [name for name, weight in weights.items() if weight.data_ptr() == embedding.data_ptr()]
    longer = torch.cat([embedding.detach(), embedding.detach().new_zeros(index + 1 - rows, embedding.shape[1])])
    return copied, weights | dict.fromkeys(names, longer), {"pad_token_id": index, "vocab_size": index + 1}
