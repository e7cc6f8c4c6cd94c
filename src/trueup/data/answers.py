"""From the ids that a model drew back to the text of its answer: the inverse of rendering an answer."""

from __future__ import annotations

from trueup.data.encode import Ids
from trueup.data.render import Renderer
from trueup.types import Prompt

_LEFT = 8
"""Tokens of the prompt that stand to the left while an answer is decoded; SentencePiece drops a blank elsewhere."""


def answer_text(renderer: Renderer, prompt: Prompt, prompt_ids: Ids, ids: Ids, *, ended: bool) -> str:
    """What an answer says, without what the template puts around it.

    Args:
        renderer: The one that made ``prompt_ids``.
        prompt: What was asked; around the answer to a plain text there is nothing to take off.
        prompt_ids: The ids that the sampler was fed.
        ids: The ids that were drawn, the end token included if one was.
        ended: Whether the last id is an end token.
    """
    body = ids[:-1] if ended else ids
    left, both = _decoded(renderer, prompt_ids[-_LEFT:]), _decoded(renderer, prompt_ids[-_LEFT:] + body)
    text = both[len(left) :] if both.startswith(left) else _decoded(renderer, body)
    if isinstance(prompt, str):
        return text
    text = text.removeprefix(_plain(renderer, renderer.chat.gap))
    return text.removesuffix(_plain(renderer, renderer.chat.closing)) if ended else text


def _plain(renderer: Renderer, text: str) -> str:
    """Template text as it stands in a decoded answer: without its control tokens."""
    for spelling in renderer.encoder.special_ids:
        text = text.replace(spelling, "")
    return text


def _decoded(renderer: Renderer, ids: Ids) -> str:
    # Not ``skip_special_tokens``: some tokenizers list the byte pieces, of which a newline is made, as special.
    encoder = renderer.encoder
    control = set(encoder.special_ids.values())
    text = [i for i in ids if i not in control]
    return str(encoder.tokenizer.decode(text, skip_special_tokens=False, clean_up_tokenization_spaces=False))
