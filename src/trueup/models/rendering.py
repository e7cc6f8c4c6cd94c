"""What the text of a trained model depends on beside its weights; it is written into ``final/`` with them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field

from trueup.config import Settings
from trueup.ledger import write_json


class Rendering(Settings):
    """How the examples of a training run became token ids."""

    chat_template: str | dict[str, str] | None = None
    """Jinja source that rendered the chats; None where none was rendered, or by the tokenizer's own template."""
    today: date | None = None
    """The day that the template took for today; None where it writes no date."""
    end_ids: tuple[int, ...] = ()
    """Tokens that end an answer."""
    max_length: int = Field(ge=2)
    """Longest prompt plus completion in tokens; what is longer was cut."""
    max_prompt_length: int | None = Field(default=None, ge=1)
    """Longest prompt in tokens; a longer one lost its beginning. None: prompts were not cut."""
    chats: bool
    """Whether any prompt was a chat."""
    texts: bool
    """Whether any prompt was plain text."""


def save_tokenizer(tokenizer: Any, path: Path, rendering: Rendering | None) -> None:
    """Write the tokenizer with the template that the model was trained with."""
    if rendering is not None and rendering.chat_template is not None:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template = rendering.chat_template
    tokenizer.save_pretrained(path)


def end_ids_of(model: Any) -> tuple[int, ...]:
    """End tokens that the model's generation settings name, which may be more than the tokenizer's EOS."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if named is None:
        return ()
    return tuple(int(i) for i in named) if isinstance(named, Iterable) else (int(named),)


def complete_generation(model: Any, tokenizer: Any, rendering: Rendering | None, path: Path) -> None:
    """Complete the saved generation settings, so that every engine stops where it should and knows what padding is.

    The end tokens of training come first. Padding is the tokenizer's own token, or where it has none the first end
    token, which is what transformers takes while it warns.

    In the file: transformers would not save settings that were changed in memory and that it finds fault with, as it
    does with many published ones.
    """
    file = path / "generation_config.json"
    settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    wanted: dict[str, Any] = {}
    ends = list(dict.fromkeys((*(rendering.end_ids if rendering is not None else ()), *end_ids_of(model))))
    if ends and rendering is not None:
        wanted["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    if settings.get("pad_token_id") is None and (tokenizer.pad_token_id is not None or ends):
        wanted["pad_token_id"] = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    if wanted:
        # Settings derived from config.json would give way to it again when they are read.
        settings.pop("_from_model_config", None)
        write_json(file, settings | wanted)
