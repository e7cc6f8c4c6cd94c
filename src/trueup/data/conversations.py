"""Conversations in the spellings that files use, as our ``Message`` turns.

Three spellings: chat (``{"role", "content"}``), ShareGPT (``{"from", "value"}``), and transcripts, one text with
``Human:`` and ``Assistant:`` (Bai et al. 2022, arXiv:2204.05862).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trueup.data.fields import Fault, Row, checked_text, short
from trueup.types import Message, Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_SPELLINGS = (("role", "content"), ("from", "value"), ("role", "text"))
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def is_conversation(value: Any) -> bool:
    """Whether ``value`` is written as turns: a list of objects, or one object with a role."""
    if isinstance(value, Mapping):
        return any(role in value for role, _ in _SPELLINGS)
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def is_transcript(value: Any) -> bool:
    """Whether ``value`` is one text that begins with ``Human:`` and holds an ``Assistant:``."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def messages(value: Any, field: str) -> tuple[Message, ...]:
    """Turns from a list of chat or ShareGPT objects, or from one such object.

    Text may be empty only in system turns and in the last turn (whose emptiness ``split_answer`` judges).
    """
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, (list, tuple)) or not turns:
        raise Fault(
            f"{field} is not a conversation",
            f"is {short(value)}",
            field=field,
            expected='a list of turns such as {"role": "user", "content": "..."}',
        )
    return tuple(_message(turn, f"{field}[{n}]", last=n == len(turns) - 1) for n, turn in enumerate(turns))


def _message(turn: Any, field: str, *, last: bool) -> Message:
    spelling = next((s for s in _SPELLINGS if isinstance(turn, Mapping) and set(s) <= turn.keys()), None)
    if spelling is None:
        raise Fault(
            "a turn is not an object with role and content",
            f"is {short(turn)}",
            field=field,
            expected='an object with "role" and "content" (or "from" and "value")',
        )
    name, content = turn[spelling[0]], turn[spelling[1]]
    role = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        known = ", ".join(_ROLES)
        raise Fault("a turn has an unknown role", f"is {short(name)}", field=f"{field}.{spelling[0]}", expected=known)
    return Message(role, checked_text(_joined(content), f"{field}.{spelling[1]}", empty=last or role == "system"))


def _joined(content: Any) -> Any:
    """Content given as text parts (``[{"type": "text", "text": ...}]``) as one text; anything else as it is."""
    if isinstance(content, (list, tuple)) and content:
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        if len(parts) == len(content) and all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts)
    return content


def with_system(row: Row, turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """``turns`` behind the text of a ``system`` column, if the row has one and the turns have none."""
    system = row.get("system")
    if not system or (turns and turns[0].role == "system"):
        return turns
    return (Message("system", checked_text(system, "system")), *turns)


def asking(turns: Sequence[Message], field: str) -> tuple[Message, ...]:
    """``turns`` as a prompt: someone other than the assistant speaks last."""
    if not turns or turns[-1].role == "assistant":
        raise Fault(
            "the prompt does not end with a user turn",
            "ends with an assistant turn" if turns else "has no turns",
            field=field,
            expected="a conversation in which someone other than the assistant speaks last",
        )
    if turns[-1].role != "system":
        checked_text(turns[-1].content, field)
    return tuple(turns)


def split_answer(turns: Sequence[Message], field: str) -> tuple[tuple[Message, ...], str]:
    """What comes before the last assistant turn, and that turn's text, which must not be empty."""
    if not turns or turns[-1].role != "assistant":
        raise Fault(
            f"{field} does not end with an assistant turn",
            f"ends with a turn by {turns[-1].role if turns else 'nobody'}",
            field=field,
            expected="a last turn by the assistant, which is the response",
        )
    return tuple(turns[:-1]), checked_text(turns[-1].content, field)


def shared_prompt(chosen: Sequence[Message], rejected: Sequence[Message]) -> tuple[tuple[Message, ...], str, str]:
    """Prompt, chosen and rejected text of two conversations that differ in their last turn only."""
    before, good = split_answer(chosen, "chosen")
    other, bad = split_answer(rejected, "rejected")
    if before != other:
        turn = next((n for n, (a, b) in enumerate(zip(before, other, strict=False)) if a != b), None)
        where = (
            f"at turn {turn + 1}" if turn is not None else f"in length, {len(before) + 1} and {len(other) + 1} turns"
        )
        raise Fault(
            "the sides do not share a prompt",
            f"chosen and rejected already differ before the last turn, {where}",
            field="rejected",
            expected="two conversations that are the same up to the last assistant turn",
        )
    return asking(before, "chosen"), good, bad


def transcript(value: Any, field: str) -> tuple[Message, ...]:
    """Turns of ``"\\n\\nHuman: ...\\n\\nAssistant: ..."``; neighbouring turns of one speaker become one turn.

    Real files hold the odd ``Assistant: ... Assistant: ...``; chat templates want the speakers to alternate.
    """
    whole = checked_text(value, field)
    parts = _SPEAKER.split(whole)
    if parts[0].strip() or len(parts) < 3:
        raise Fault(
            f"{field} is not a transcript",
            f"begins with {short(whole[:40])}",
            field=field,
            expected='a text that begins with "Human:"',
        )
    turns: list[Message] = []
    for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
        role: Role = "user" if speaker == "Human" else "assistant"
        content = said.strip()
        if turns and turns[-1].role == role:
            content = f"{turns.pop().content}\n\n{content}".strip()
        turns.append(Message(role, content))
    return tuple(turns)
