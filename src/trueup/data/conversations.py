"""Conversations in the spellings that files use, as our ``Message`` turns.

Three spellings: chat (``{"role", "content"}``), ShareGPT (``{"from", "value"}``), and transcripts, one text with
``Human:`` and ``Assistant:`` (Bai et al. 2022, arXiv:2204.05862).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trueup.config import TEMPLATE_OWN
from trueup.data.fields import SKIPPING, Fault, Row, checked_text, short
from trueup.types import CONTEXT, Message, Role, answer_of

ROLES: dict[str, Role] = {
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
    "ipython": "tool",
}
"""What files call the speakers, in small letters: the one table of roles."""
_OWNROLES = ("system", "developer", "user", "assistant", "tool", "function", "observation", "ipython")
"""Roles that a chat template may know by these names; it is given them as they are written."""
_TEXT_PARTS = ("text", "input_text", "output_text")
_SPELLINGS = (("role", "content"), ("from", "value"), ("role", "text"))
_DEEPEST = 100
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which files hold the reasoning of a turn."""
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def is_conversation(value: Any) -> bool:
    """Whether ``value`` is written as turns: a list of objects, or one object with a role."""
    if isinstance(value, Mapping):
        return any(role in value for role, _ in _SPELLINGS)
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def is_transcript(value: Any) -> bool:
    """Whether ``value`` is one text that begins with ``Human:`` and holds an ``Assistant:``."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def messages(value: Any, field: str, *, blank: bool = False) -> tuple[Message, ...]:
    """Turns from a list of chat or ShareGPT objects, or from one such object.

    Every key of a turn is kept for the chat template. Text may be empty in turns by the system, by a tool or with
    tool calls or reasoning, and in the last turn (whose emptiness ``split_answer`` judges); with ``blank``, in all.
    """
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, (list, tuple)) or not turns:
        raise Fault(
            f"{field} is not a conversation",
            f"is {short(value)}",
            field=field,
            expected='a list of turns such as {"role": "user", "content": "..."}',
        )
    return tuple(_message(turn, f"{field}[{n}]", empty=blank or n == len(turns) - 1) for n, turn in enumerate(turns))


def _message(turn: Any, field: str, *, empty: bool) -> Message:
    spelling = next((s for s in _SPELLINGS if isinstance(turn, Mapping) and set(s) <= turn.keys()), None)
    if spelling is None and isinstance(turn, Mapping) and "role" in turn and _says_more(turn):
        spelling = _SPELLINGS[0]  # a turn of tool calls alone may come without content
    if spelling is None:
        raise Fault(
            "a turn is not an object with role and content",
            f"is {short(turn)}",
            field=field,
            expected='an object with "role" and "content" (or "from" and "value")',
        )
    name, content = turn[spelling[0]], turn.get(spelling[1])
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        known = ", ".join(ROLES)
        raise Fault("a turn has an unknown role", f"is {short(name)}", field=f"{field}.{spelling[0]}", expected=known)
    wordless = _says_more(turn) or role in ("system", "tool")
    spelled = _text_of(content, f"{field}.{spelling[1]}")
    if content is None and wordless:
        spelled = ""
    text = checked_text(spelled, f"{field}.{spelling[1]}", empty=empty or wordless)
    kept: dict[str, Any] = {"role": name if name in _OWNROLES else role}
    if content is not None:
        kept["content"] = content
    kept |= {key: value for key, value in turn.items() if key not in (*spelling, CONTEXT)}
    _one_reasoning(kept, field)
    message = Message.of(role, text, _json(kept, field))
    return replace(message, context=_compact(_context(turn[CONTEXT], field))) if turn.get(CONTEXT) else message


def _one_reasoning(turn: Mapping[str, Any], field: str) -> None:
    """A turn's reasoning has several names, of which a template reads one: two texts would be one too many."""
    named = {key: turn[key] for key in REASONING if turn.get(key)}
    if len({_compact(value) if not isinstance(value, str) else value for value in named.values()}) > 1:
        keys = " and ".join(named)
        raise Fault(
            "a turn has several reasonings",
            f"has {keys}, and they differ: a chat template reads one",
            field=field,
            expected="one reasoning in a turn",
            fix=f"join them under one key, or take out all but one; or {SKIPPING}",
        )


def _says_more(turn: Mapping[str, Any]) -> bool:
    """Whether a turn says something beside its text: a call of a tool, or its reasoning."""
    return any(turn.get(key) for key in ("tool_calls", "function_call", *REASONING))


def _text_of(content: Any, field: str) -> Any:
    """The text of content that is given in parts (``[{"type": "text", "text": ...}]``); anything else as it is."""
    if not isinstance(content, (list, tuple)) or not content or not all(isinstance(p, Mapping) for p in content):
        return content
    for number, part in enumerate(content):
        if part.get("type", "text") not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            kind = part.get("type", "no type")
            raise Fault(
                f"a turn holds a part that is no text ({kind})",
                f"is {short(part)}",
                field=f"{field}[{number}]",
                expected='parts such as {"type": "text", "text": "..."}: models of text see no images and no sound',
                fix=f"remove the row, or {SKIPPING}",
            )
    return "".join(part["text"] for part in content)


def _json(value: Any, field: str, depth: int = 0) -> Any:
    """``value`` as JSON: what a template is given, kept with the row. Text in it is checked."""
    if depth > _DEEPEST:
        raise Fault("a turn is nested too deeply", f"has more than {_DEEPEST} levels", field=field)
    if isinstance(value, str):
        return checked_text(value, field, empty=True)
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {checked_text(k, field, empty=True): _json(v, f"{field}.{k}", depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(v, f"{field}[{n}]", depth + 1) for n, v in enumerate(value)]
    raise Fault(
        "a turn holds a value that is not JSON",
        f"is {short(value)}, a {type(value).__name__}",
        field=field,
        expected="text, finite numbers, true, false, lists and objects",
    )


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# What a row gives beside its turns ------------------------------------------------------------------------------------

_CONTEXT_COLUMNS = ("tools", "documents", "chat_template_kwargs")


def with_system(row: Row, turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """``turns`` with what the row gives beside them: the text of ``system``, its tools, documents, template variables.

    A ``system`` column goes in front where the turns have no system turn; the rest is kept on the first turn.
    """
    system = row.get("system")
    if system and not (turns and turns[0].role == "system"):
        turns = (Message("system", checked_text(system, "system")), *turns)
    context = _context({name: row.get(name) for name in _CONTEXT_COLUMNS if name in row}, "")
    if not context or not turns:
        return turns
    return (replace(turns[0], context=_compact(context)), *(replace(turn, context="") for turn in turns[1:]))


def _context(columns: Any, field: str) -> dict[str, Any]:
    prefix = f"{field}.{CONTEXT}." if field else ""
    if not isinstance(columns, Mapping):
        raise Fault(f"{CONTEXT} is not an object", f"is {short(columns)}", field=f"{field}.{CONTEXT}")
    context: dict[str, Any] = {}
    for name, value in columns.items():
        spelled = _parsed(value)
        if spelled is None or spelled == "":
            continue
        if name == "chat_template_kwargs":
            _check_variables(spelled, prefix + name)
        elif not isinstance(spelled, list) or not all(isinstance(entry, Mapping) for entry in spelled):
            raise Fault(
                f"{name} is not a list of objects",
                f"is {short(value)}",
                field=prefix + name,
                expected='a list of objects, as {"type": "function", "function": {"name": ..., "parameters": ...}}'
                if name == "tools"
                else "a list of objects with title and text",
                fix=f"a column that means something else needs another name; or {SKIPPING}",
            )
        context[name] = _json(spelled, prefix + name)
    return context


def _check_variables(value: Any, field: str) -> None:
    own = [name for name in TEMPLATE_OWN if isinstance(value, Mapping) and name in value]
    if not isinstance(value, Mapping) or own:
        raise Fault(
            "chat_template_kwargs cannot be used",
            f"is {short(value)}" if not own else f"sets {own[0]}",
            field=field,
            expected='an object of variables for the chat template, as {"enable_thinking": false}',
        )


def _parsed(value: Any) -> Any:
    """A list or an object that a cell spells as JSON, as CSV has it and some JSON files too."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


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
        checked_text(turns[-1].content, field, empty=turns[-1].role == "tool")
    return tuple(turns)


def split_answer(turns: Sequence[Message], field: str) -> tuple[tuple[Message, ...], str]:
    """What comes before the last assistant turn, and its answer (``types.answer_of``), which must say something."""
    if not turns or turns[-1].role != "assistant":
        raise Fault(
            f"{field} does not end with an assistant turn",
            f"ends with a turn by {turns[-1].role if turns else 'nobody'}",
            field=field,
            expected="a last turn by the assistant, which is the response",
        )
    last = turns[-1]
    checked_text(last.content, field, empty=bool(last.turn) and _says_more(last.to_dict()))
    return tuple(turns[:-1]), answer_of(last)


def shared_prompt(
    chosen: Sequence[Message], rejected: Sequence[Message], names: tuple[str, str] = ("chosen", "rejected")
) -> tuple[tuple[Message, ...], str, str]:
    """Prompt and both answers of two conversations that differ in their last turn only; ``names`` are their columns."""
    before, good = split_answer(chosen, names[0])
    other, bad = split_answer(rejected, names[1])
    if before != other:
        turn = next((n for n, (a, b) in enumerate(zip(before, other, strict=False)) if a != b), None)
        where = (
            f"at turn {turn + 1}" if turn is not None else f"in length, {len(before) + 1} and {len(other) + 1} turns"
        )
        raise Fault(
            "the sides do not share a prompt",
            f"{names[0]} and {names[1]} already differ before the last turn, {where}",
            field=names[1],
            expected="two conversations that are the same up to the last assistant turn",
        )
    return asking(before, names[0]), good, bad


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
    for speaker, utterance in zip(parts[1::2], parts[2::2], strict=True):
        role: Role = "user" if speaker == "Human" else "assistant"
        content = utterance.strip()
        if turns and turns[-1].role == role:
            content = f"{turns.pop().content}\n\n{content}".strip()
        turns.append(Message(role, content))
    return tuple(turns)
