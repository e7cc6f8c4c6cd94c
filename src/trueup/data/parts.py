"""What an example is made of, whatever kind it is: its texts by their parts, and what makes two the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

from trueup.types import Demonstration, Labelled, PreferencePair, Prompt, Ranked, Rated


def parts_of(item: Any, alone: str = "text") -> dict[str, str]:
    """Part -> text: prompt, chosen, rejected, completion, responses by number; an empty prompt is no part.

    ``alone`` is what a single text is: ``text``, or ``prompt``.
    """
    match item:
        case PreferencePair():
            parts = {"prompt": said(item.prompt), "chosen": item.chosen, "rejected": item.rejected}
        case Demonstration() | Labelled() | Rated():
            parts = {"prompt": said(item.prompt), "completion": item.completion}
        case Ranked():
            parts = {"prompt": said(item.prompt)} | {f"response {n}": r for n, r in enumerate(item.responses, 1)}
        case tuple():
            parts = {"prompt": said(item)}
        case _:
            parts = {alone: str(item)}
    return {name: text for name, text in parts.items() if text or name != "prompt"}


def said(prompt: Prompt) -> str:
    """What is said in a prompt, the turns of a chat without their roles."""
    return prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt)


_BESIDE = {"origin", "strength", "weight", "margin", "pair_id"}
"""Fields that do not make two items different."""


def content_of(item: Any) -> Hashable:
    """What makes two items the same: their texts and labels, not what they are called or where they come from."""
    if not dataclasses.is_dataclass(item):
        return item  # type: ignore[no-any-return]
    return tuple(getattr(item, field.name) for field in dataclasses.fields(item) if field.name not in _BESIDE)
