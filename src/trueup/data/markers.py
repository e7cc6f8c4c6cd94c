"""Text that already went through a chat template: the markers of the templates in use, found without a tokenizer.

Such text is rendered a second time. A marker that is a control token, as ``<|im_start|>``, is then spelled in letters,
for text in the data never becomes a control token, and the model learns turns that no chat of its own has. A marker
that is plain words, as ``### Response:``, is what the model reads either way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from trueup.data.parts import said
from trueup.errors import DataError
from trueup.types import Prompt

_READ = 20_000
"""Characters at each end of a text that are searched."""


@dataclass(frozen=True, slots=True)
class Family:
    """Templates that share markers. ``control``: the markers are control tokens of the models that use them."""

    name: str
    pattern: re.Pattern[str]
    control: bool = True


_ASKS = "Human|HUMAN|User|USER|Instruction|Question|Student|Customer"
_ANSWERS = "Assistant|ASSISTANT|AI|Bot|BOT|GPT|Chatbot|CHATBOT|Model|Agent"

FAMILIES: tuple[Family, ...] = (
    Family("ChatML", re.compile(r"<\|im_[a-z_]+\|>")),
    Family("Llama 3", re.compile(r"<\|(?:start_header_id|end_header_id|eot_id|eom_id|begin_of_text)\|>")),
    Family("Llama 4", re.compile(r"<\|(?:header_start|header_end|eot|eom)\|>")),
    Family(
        "Llama 2 or Mistral", re.compile(r"\[/?INST\]|<</?SYS>>|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS)\]")
    ),
    Family("Gemma", re.compile(r"<(?:start|end)_of_turn>|<\|turn>|<turn\|>")),
    Family("DeepSeek", re.compile(r"<[｜|](?:User|Assistant|(?:begin|end)▁of▁sentence)[｜|]>")),
    Family("Command R", re.compile(r"<\|(?:(?:START|END)_OF_TURN|USER|CHATBOT|SYSTEM)_TOKEN\|>")),
    Family("Granite", re.compile(r"<\|(?:start|end)_of_role\|>")),
    Family("Harmony", re.compile(r"<\|(?:start|channel|message|return)\|>")),
    Family("Phi, Zephyr or GLM", re.compile(r"<\|(?:system|user|assistant|observation|end)\|>")),
    Family("EXAONE", re.compile(r"\[\|(?:system|user|human|assistant|endofturn)\|\]", re.IGNORECASE)),
    Family("Nemotron", re.compile(r"<extra_id_[01]>(?:System|User|Assistant)\b")),
    Family("Baichuan", re.compile(r"<reserved_10[67]>")),
    Family("InternLM", re.compile(r"<\|(?:User|Bot)\|>|<eo[hat]>")),
    Family("special tokens", re.compile(r"<\|[A-Za-z][A-Za-z0-9_/-]{1,40}\|>|<｜[^｜\s]{2,40}｜>")),
    Family("begin or end of sequence", re.compile(r"\A\s*(?:<s>|<bos>)|(?:</s>|<eos>)\s*\Z")),
    Family(
        "Alpaca", re.compile(r"^#{2,3} ?(?:Instruction|Response|Human|Assistant|User) ?:?\s*$", re.MULTILINE), False
    ),
    Family("Alpaca", re.compile(r"^#{2,3} ?(?:Instruction|Response|Human|Assistant|User) ?:", re.MULTILINE), False),
    Family("OpenChat", re.compile(r"GPT4 Correct (?:User|Assistant):"), False),
    Family(
        "a transcript",
        re.compile(rf"(?:\A|\n)\s*(?:{_ASKS}) ?:[\s\S]*?\s(?:{_ANSWERS}) ?:", re.MULTILINE),
        False,
    ),
)
"""The known ones, the more particular first."""

_ROLE = re.compile(rf"\A\s*(?:#{{2,3}} ?)?(?:{_ANSWERS}|Response|{_ASKS}) ?:")
_MORE = re.compile(r"\n\s*(?:#{2,3} ?)?(?:Human|HUMAN|User|USER) ?:")


def family_of(text: str) -> tuple[Family, str] | None:
    """The template whose markers ``text`` holds, and the first of them; long texts are searched at both ends."""
    searched = text if len(text) <= 2 * _READ else f"{text[:_READ]}\n{text[-_READ:]}"
    for family in FAMILIES:
        match = family.pattern.search(searched)
        if match is not None:
            return family, match.group().strip()[:40].splitlines()[0] if match.group().strip() else ""
    return None


def begins_with_a_role(answer: str) -> bool:
    """Whether an answer begins with a speaker's name, as ``Assistant:``, which a template writes, not a speaker."""
    return _ROLE.search(answer[:200]) is not None


def goes_on_for_the_user(answer: str) -> bool:
    """Whether an answer goes on with a turn by the user."""
    return _MORE.search(answer[: 2 * _READ]) is not None


def refuse_own(source: str, prompts: Iterable[Prompt], is_own: Callable[[str], bool]) -> None:
    """Refuse prompts most of which hold control tokens of the very model that is trained on them.

    Args:
        source: The file, for the message.
        prompts: As they were read.
        is_own: Whether a text holds a control token of the model.

    Raises:
        DataError: More than half do.
    """
    texts = [said(prompt) for prompt in prompts]
    own = sum(is_own(text) for text in texts)
    if 2 * own > len(texts):
        raise DataError(
            f"{own} of {len(texts)} prompts hold control tokens of the model",
            where=source,
            expected="prompts as chat turns or as plain text",
            fix=ALLOWED,
        )


ALLOWED = (
    "give the turns themselves (prompt: [{role, content}, ...]) and the model's own template writes the markers; or"
    " train on their letters with --set read.templated=true"
)
"""The two ways on, told with every refusal of such text."""


def templated(parts: Mapping[str, str]) -> tuple[Family, str] | None:
    """The template that the prompt of an example went through, or that a plain text begins with."""
    if "prompt" in parts:
        return family_of(parts["prompt"])
    whole = parts.get("completion", parts.get("text", ""))
    return family_of(whole[:400])
