"""Formats with one response or none: yes/no labels, demonstrations, texts, prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trueup.data.conversations import (
    asking,
    is_conversation,
    is_transcript,
    messages,
    split_answer,
    transcript,
    with_system,
)
from trueup.data.fields import Fault, Row, checked_text, items, present, short, text, yes_no
from trueup.data.formats import (
    NO_WEIGHT,
    PROMPT_USES,
    TURN_COLUMNS,
    Format,
    LeftOut,
    Made,
    Watched,
    prompt_of,
    strength_of,
    texts,
    tuple_of_names,
    weight_of,
)
from trueup.data.pair_formats import PAIRS
from trueup.data.ranked_formats import TIE, is_tree, root_of
from trueup.types import Demonstration, Labelled, Message, PreferencePair, Prompt

_TURNS = "|".join(TURN_COLUMNS)


def _answer(row: Row, names: tuple[str, ...]) -> tuple[str, bool]:
    """The response in the first of ``names`` that the row has, and whether it was given as a chat turn."""
    name = next((n for n in names if n in row), names[0])
    value = present(row, name)
    if is_conversation(value):
        before, answer = split_answer(messages(value, name), name)
        if before:
            raise Fault(f"{name} has several turns", f"has {len(before) + 1} turns", field=name, expected="one turn")
        return answer, True
    return text(row, name), False


def _asked(row: Row, chat: bool, *, empty: bool = False) -> Prompt:
    prompt = prompt_of(row, empty=empty)
    return with_system(row, (Message("user", prompt),)) if chat and isinstance(prompt, str) and prompt else prompt


def _dialogue(row: Row) -> tuple[Prompt, str]:
    name = "messages" if "messages" in row else "conversations"
    before, answer = split_answer(messages(present(row, name), name), name)
    return with_system(row, asking(before, name)), answer


# Yes/no labels --------------------------------------------------------------------------------------------------------


def _label(row: Row) -> bool:
    return yes_no(row, "kto_tag" if "kto_tag" in row and "label" not in row else "label")


def _labelled(row: Row) -> Made[Labelled]:
    answer, chat = _answer(row, ("completion", "response"))
    yield from _with_label(row, _asked(row, chat), answer)


def _labelled_dialogue(row: Row) -> Made[Labelled]:
    prompt, answer = _dialogue(row)
    yield from _with_label(row, prompt, answer)


def _with_label(row: Row, prompt: Prompt, answer: str) -> Made[Labelled]:
    label, strength, weight = _label(row), strength_of(row), weight_of(row)
    if strength == 0.5 or weight == 0:
        yield LeftOut(TIE if strength == 0.5 else NO_WEIGHT)
        return
    yield Labelled(prompt, answer, label, tuple_of_names(row, "origin"), strength, weight)


def _acceptable(row: Row) -> Made[Labelled]:
    prompt = prompt_of(row)
    for side in ("a", "b"):
        yield Labelled(prompt, text(row, f"completion_{side}"), yes_no(row, f"{side}_acceptable"))


def _unpaired(convert: Callable[[Row], Any]) -> Callable[[Row], Made[Labelled]]:
    def labelled(row: Row) -> Made[Labelled]:
        for pair in convert(row):
            if isinstance(row, Watched):
                row.read.discard("margin")  # a single response has no lead over another
            if isinstance(pair, PreferencePair):
                for answer, good in ((pair.chosen, True), (pair.rejected, False)):
                    yield Labelled(pair.prompt, answer, good, pair.origin, pair.strength, pair.weight)
            else:
                yield pair

    return labelled


LABELLED: tuple[Format[Labelled], ...] = (
    Format(
        "prompt, completion, label",
        ("prompt|instruction|question", "completion|response", "label"),
        _labelled,
        (*PROMPT_USES, "origin", "strength", "weight"),
    ),
    Format(
        "conversation and label",
        (_TURNS, "label|kto_tag"),
        _labelled_dialogue,
        ("system", "origin", "strength", "weight"),
    ),
    Format(
        "two responses, each acceptable or not",
        ("prompt|instruction|question", "completion_a", "completion_b", "a_acceptable", "b_acceptable"),
        _acceptable,
        PROMPT_USES,
        note="each row gives two labelled responses",
    ),
    *(
        Format(f.name, f.needs, _unpaired(f.convert), f.uses, f.when, note="each pair gives a yes and a no")
        for f in PAIRS
        if f.gather is None and "chosen" in f.needs
    ),
)

# Demonstrations and texts ---------------------------------------------------------------------------------------------


def _demonstration(row: Row) -> Made[Demonstration]:
    answer, chat = _answer(row, ("completion", "response", "output", "answer"))
    yield from _to_imitate(row, _asked(row, chat, empty=True), answer)


def _dialogue_demonstration(row: Row) -> Made[Demonstration]:
    prompt, answer = _dialogue(row)
    yield from _to_imitate(row, prompt, answer)


def _to_imitate(row: Row, prompt: Prompt, answer: str) -> Made[Demonstration]:
    weight = weight_of(row)
    if weight == 0:
        yield LeftOut(NO_WEIGHT)
        return
    yield Demonstration(prompt, answer, tuple_of_names(row, "origin"), weight)


def _seed_task(row: Row) -> Made[Demonstration]:
    asked = text(row, "instruction")
    for n, instance in enumerate(items(row, "instances")):
        if not isinstance(instance, Mapping) or "output" not in instance:
            raise Fault(
                "an instance has no output",
                f"is {short(instance)}",
                field=f"instances[{n}]",
                expected='an object with "input" and "output"',
            )
        more = instance.get("input")
        whole = f"{asked}\n\n{checked_text(more, f'instances[{n}].input')}" if more else asked
        yield Demonstration((Message("user", whole),), checked_text(instance["output"], f"instances[{n}].output"))


def _text(row: Row) -> Made[Demonstration]:
    yield from _to_imitate(row, "", text(row, "text"))


def _only_text(row: Row) -> Made[str]:
    yield text(row, "text")


_LAST = "the last assistant turn is the completion"

DEMONSTRATIONS: tuple[Format[Demonstration], ...] = (
    Format("prompt, completion", ("prompt", "completion|response"), _demonstration, ("system", "origin", "weight")),
    Format("conversation", (_TURNS,), _dialogue_demonstration, ("system", "origin", "weight"), note=_LAST),
    Format(
        "seed tasks",
        ("instruction", "instances"),
        _seed_task,
        note="each instance is one demonstration; instruction and input became one user turn",
    ),
    Format(
        "instruction, input, output",
        ("instruction", "output|response|completion"),
        _demonstration,
        (*PROMPT_USES, "origin", "weight"),
        note="instruction and input became one user turn",
    ),
    Format(
        "question, answer",
        ("question", "answer|response|completion"),
        _demonstration,
        (*PROMPT_USES, "origin", "weight"),
        note="the question became a user turn",
    ),
    Format("text", ("text",), _text, ("weight", "origin"), note="plain text to model: the prompt is empty"),
)
TEXTS: tuple[Format[str], ...] = (Format("text", ("text",), _only_text),)

# Prompts --------------------------------------------------------------------------------------------------------------


def _prompt(row: Row) -> Made[Prompt]:
    yield prompt_of(row)


def _first_turn(row: Row) -> Made[Prompt]:
    yield (Message("user", texts(row, "turns")[0]),)


def _dialogue_prompt(row: Row) -> Made[Prompt]:
    name = "messages" if "messages" in row else "conversations"
    turns = messages(present(row, name), name)
    yield with_system(row, asking(turns[:-1] if turns[-1].role == "assistant" else turns, name))


def _root(row: Row) -> Made[Prompt]:
    yield root_of(row)


def _side_prompt(row: Row) -> Made[Prompt]:
    value = present(row, "chosen")
    turns = with_system(row, transcript(value, "chosen") if isinstance(value, str) else messages(value, "chosen"))
    yield asking(turns[:-1] if turns[-1].role == "assistant" else turns, "chosen")


PROMPTS: tuple[Format[Prompt], ...] = (
    Format("OpenAssistant trees", ("prompt",), _root, when=is_tree, note="the first message of each tree"),
    Format("prompt", ("prompt",), _prompt, ("system",)),
    Format("turns", ("turns",), _first_turn, note="only the first turn of each question"),
    Format("conversation", (_TURNS,), _dialogue_prompt, ("system",), note="a last assistant turn was removed"),
    Format("instruction", ("instruction",), _prompt, PROMPT_USES, note="instruction became a user turn"),
    Format("question", ("question|input|history",), _prompt, PROMPT_USES, note="the question became a user turn"),
    Format(
        "two conversations or transcripts",
        ("chosen", "rejected"),
        _side_prompt,
        ("system",),
        lambda row: is_conversation(row["chosen"]) or is_transcript(row["chosen"]),
        note="the turns of chosen before the last assistant turn",
    ),
)
