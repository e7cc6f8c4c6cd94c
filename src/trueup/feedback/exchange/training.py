"""Formats of training files: TRL preferences and labels, HH transcripts, rankings. One verdict a row.

Reading makes an item to judge and one answer of each row. Responses get an order that does not tell which was chosen.
Writing goes through ``selection``: only main and hold-out items, nothing that a hidden item would give away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trueup.data.conversations import is_conversation, is_transcript, transcript
from trueup.data.formats import RESPONSE_COLUMNS, TURN_COLUMNS, Doubt, Format
from trueup.data.pair_formats import PAIRS
from trueup.data.single_formats import LABELLED
from trueup.data.splits import SPLITS
from trueup.data.verdict_words import CLEAR
from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.comparisons import comparison_row, is_comparison, numbers_in
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import Answered, Gathering, Incoming, json_rows
from trueup.feedback.exchange.prodigy import PRESSED, prodigy_answer
from trueup.feedback.exchange.watching import plain
from trueup.feedback.exchange.writing import Lines, json_line
from trueup.feedback.snapshot.candidates import SnapshotSettings
from trueup.feedback.snapshot.selection import select_rows
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.records import Judged
from trueup.types import AnswerText, Labelled, Message, PreferencePair, Prompt, prompt_json

LABELS = ("label", "kto_tag", "is_safe")
"""Columns that say whether a response is acceptable, in this order."""

EXCHANGES = ("question", "response_j", "response_k")
"""Columns of stackexchange-paired: answer j has more votes than answer k."""


def read_preference(data: bytes) -> Incoming:
    """TRL preferences: ``chosen`` and ``rejected`` with or without ``prompt``, text or chat turns."""
    gathering, rows = Gathering(), list(json_rows(data))
    numbers = numbers_in(rows)
    gathering.each(rows, lambda line, row: preference_row(gathering, line, fields.mapping(row), numbers))
    return gathering.done()


def preference_row(gathering: Gathering, line: int, row: Row, numbers: frozenset[float] = frozenset()) -> None:
    """Collect one preference, or two responses with a verdict; ``numbers`` are the file's numeric verdicts.

    Raises:
        DataError: It cannot be one.
    """
    if "chosen" not in row and "rejected" not in row:
        if all(name in row for name in EXCHANGES):
            sides = {name: row[exchanged] for name, exchanged in zip(SIDES, EXCHANGES[1:], strict=True)}
            _collect(gathering, line, row, *_pair(gathering, fields.as_trained(row, hidden=_NOT_CARRIED), sides))
            return
        if is_comparison(row):
            comparison_row(gathering, line, row, numbers)
            return
    fields.need(row, *SIDES)
    seen = fields.as_trained(row, hidden=_NOT_CARRIED, columns=_BESIDE_PAIRS)
    _collect(gathering, line, row, *_pair(gathering, seen, {name: row[name] for name in SIDES}))


SIDES = ("chosen", "rejected")
_NOT_CARRIED = ("strength", "weight", "margin", "origin", "pair_id")
"""What training reads beside a pair, and what one person's verdict has no place for."""
_BESIDE_PAIRS = ("prompt", "instruction", "question", "messages", "conversations")
"""Columns of prompts that the formats of pairs know."""
_PAIRS = tuple(form for form in PAIRS if set(SIDES) <= set(form.needs))


def _pair(gathering: Gathering, row: fields.Seen, sides: Row) -> tuple[Prompt, str, str]:
    """Prompt, chosen and rejected as the formats of training read them, so that a pair has one id everywhere."""
    for name in SIDES:
        fields.need_words(sides[name], name)
    seen = row.with_values(_alike(sides))
    texts = [side for side in sides.values() if isinstance(side, str)]
    if fields.prompt_column(row) is None and len(texts) == 2 and not all(map(is_transcript, texts)):
        return _common_beginning(*texts)
    form = next((form for form in _PAIRS if form.fits(seen)), None)
    if form is None:
        raise DataError("is missing", where="prompt", expected="a prompt, in both sides or beside them")
    return _converted(gathering, form, seen)


def _converted(gathering: Gathering, form: Format[PreferencePair], seen: fields.Seen) -> tuple[Prompt, str, str]:
    with fields.refusing():
        items = list(form.convert(seen))
    for item in items:
        if isinstance(item, Doubt):
            gathering.note(item.reason)
    pair = next(item for item in items if isinstance(item, PreferencePair))
    for name in (*SIDES, fields.prompt_column(seen) or "prompt"):
        plain(seen.get(name))  # all of it is used, or was noted
    return pair.prompt, _text_of(gathering, pair.chosen), _text_of(gathering, pair.rejected)


def _text_of(gathering: Gathering, answer: str) -> str:
    if isinstance(answer, AnswerText):
        gathering.note("a turn of an answer holds more than its text (reasoning, a name): people judge the text alone")
    return str(answer)


def _alike(sides: Row) -> dict[str, Any]:
    """Both sides as text or both as turns: a list of one text is the text, and a text beside turns is a turn."""
    alike: dict[str, Any] = {}
    for name, value in sides.items():
        if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
            if len(value) > 1:
                raise DataError(
                    f"has {len(value)} texts", where=name, expected="one", fix="write a row for each of them"
                )
            value = value[0]
        alike[name] = value
    if any(is_conversation(value) for value in alike.values()):
        for name, value in alike.items():
            alike[name] = [{"role": "assistant", "content": value}] if isinstance(value, str) else value
    return alike


def _collect(gathering: Gathering, line: int, row: Row, prompt: Prompt, chosen: str, rejected: str) -> None:
    first, second = sorted((chosen, rejected))
    place = int(first != chosen)
    names = [fields.optional(row, f"{name}_model") or "" for name in SIDES]
    generators = () if not any(names) else (names[place], names[1 - place])
    item = NewItem(prompt, (first, second), generators, split=fields.optional(row, "split"))
    gathering.add(line, "pairwise", item, Answered(0, fields.annotator(row), {"preferred": place, "strength": CLEAR}))


def _common_beginning(better: str, worse: str) -> tuple[Prompt, str, str]:
    """Prompt and responses of two texts without a prompt: what they begin with is the prompt, as TRL has it."""
    better, worse = fields.text(better, "chosen"), fields.text(worse, "rejected")
    parts = (place for place, (left, right) in enumerate(zip(better, worse, strict=False)) if left != right)
    end = next(parts, min(len(better), len(worse)))
    if better[end - 1 : end] == " ":
        end -= 1  # the space belongs to the responses
    if not better[:end].strip():
        raise DataError(
            "have no common beginning", where="chosen, rejected", expected="a prompt, in both or beside them"
        )
    return better[:end], better[end:], worse[end:]


def read_kto(data: bytes) -> Incoming:
    """TRL unpaired labels: ``prompt``, ``completion``, ``label``; or ``messages`` that end with the completion."""
    gathering = Gathering()
    gathering.each(json_rows(data), lambda line, row: label_row(gathering, line, fields.mapping(row)))
    return gathering.done()


def label_row(gathering: Gathering, line: int, row: Row) -> None:
    """Collect one labelled completion.

    Raises:
        DataError: It cannot be one.
    """
    pressed = is_pressed(row)
    label = next((name for name in LABELS if name in row), "answer" if pressed else LABELS[0])
    if row.get(label) is None:
        raise DataError("is missing", where=label, expected="true or false", fix="fill it in, or leave the row out")
    named = [name for name in RESPONSE_COLUMNS if not (pressed and name == "answer")]
    column = next((name for name in named if row.get(name) is not None), named[0])
    if row.get("prompt") is not None or row.get("messages") is None or row.get(column) is not None:
        fields.need(row, column)
    prompt, completion = _labelled(gathering, row, column)
    item = NewItem(prompt, (completion,), split=fields.optional(row, "split"))
    if pressed and row["answer"] == "ignore":
        gathering.add(line, "binary", item, replace(prodigy_answer(row), skip_reason="other"))
        return
    if label == "is_safe":
        gathering.note("is_safe is read as whether the response is acceptable")
    acceptable = fields.yes_or_no(row[label], label)
    if pressed and label != "answer" and row["answer"] == "reject":
        acceptable = not acceptable  # what was rejected is the label
    answer = {"response": 0, "acceptable": acceptable}
    vote = prodigy_answer(row, answer) if pressed else Answered(0, fields.annotator(row), answer)
    gathering.add(line, "binary", item, vote)


def _labelled(gathering: Gathering, row: Row, column: str) -> tuple[Prompt, str]:
    """Prompt and response as the formats of training read them; the label, which has more spellings here, is apart."""
    fields.need_words(row.get(column), column)
    values: dict[str, Any] = {"label": True}
    if row.get(column) is not None:
        values["completion"] = _last_turn(row, column)
    others = (*_NOT_CARRIED, *LABELS, *RESPONSE_COLUMNS)
    seen = fields.as_trained(row, hidden=others, columns=(*_BESIDE_LABELS, *([] if column in row else TURN_COLUMNS)))
    seen = seen.with_values(values)
    form = next((form for form in LABELLED if "label" in " ".join(form.needs) and form.fits(seen)), None)
    if form is None:
        raise DataError("is missing", where="prompt", expected="the text that the response answers")
    with fields.refusing():
        read = next(item for item in form.convert(seen) if isinstance(item, Labelled))
    plain(row.get(column))
    plain(row.get("messages"))
    return read.prompt, _text_of(gathering, read.completion)


_BESIDE_LABELS = ("prompt", "instruction", "question")
"""Columns of prompts that the formats of labels know."""


def _last_turn(row: Row, column: str) -> Any:
    """The response in a column, which may repeat the prompt before it."""
    value = _alike({column: row[column]})[column]
    if not is_conversation(value) or isinstance(value, Mapping) or len(value) == 1:
        return value
    turns, before = fields.turns(value, column), fields.asked(fields.prompt_of(row))
    if turns[:-1] != before:
        raise DataError(
            f"has {len(turns)} turns, which do not begin with the prompt",
            where=column,
            expected="one turn of the assistant, or the prompt and one",
            fix="where the turns hold the prompt, take the column with the prompt out; else leave the row out",
        )
    return value[-1:]


def is_labelled(row: Row) -> bool:
    """Whether a row is a response with a label, or with the key that was pressed for it in Prodigy."""
    if is_pressed(row):
        return any(name in row for name in RESPONSE_COLUMNS if name != "answer")
    return any(name in row for name in LABELS) and ("messages" in row or any(name in row for name in RESPONSE_COLUMNS))


def is_pressed(row: Row) -> bool:
    """Whether the column ``answer`` of a row is no response, but what somebody pressed in Prodigy."""
    answer = row.get("answer")
    others = [name for name in RESPONSE_COLUMNS if name != "answer"]
    by_prodigy = any(name in row for name in ("_input_hash", "_task_hash", *others))
    return by_prodigy and isinstance(answer, str) and answer in PRESSED


def read_hh(data: bytes) -> Incoming:
    """HH transcripts, ``Human:`` and ``Assistant:`` in turn, that part in the assistant's last answer."""
    gathering = Gathering()
    gathering.each(json_rows(data), lambda line, row: transcripts_row(gathering, line, fields.mapping(row)))
    return gathering.done()


def transcripts_row(gathering: Gathering, line: int, row: Row) -> None:
    """Collect one preference whose sides are transcripts.

    Raises:
        DataError: It cannot be one.
    """
    fields.need(row, *SIDES)
    seen = fields.Seen(row, _NOT_CARRIED)
    _collect(gathering, line, row, *_converted(gathering, _TRANSCRIPTS, seen))


_TRANSCRIPTS = next(form for form in PAIRS if form.name == "two transcripts")


def write_preference(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """``prompt``, ``chosen``, ``rejected``; beside them ``split``, ``strength``, ``weight``, ``margin`` of ratings."""

    def line(row: Row) -> dict[str, Any]:
        sides = {name: _spoken(row["prompt"], row[name]) for name in ("chosen", "rejected")}
        return sides | {name: row[name] for name in ("strength", "weight", "margin") if name in row}

    return _selected(judged, "preference", adjudicated, line)


def write_kto(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """``prompt``, ``completion``, ``label``, and beside them ``split`` and ``strength``."""

    def line(row: Row) -> dict[str, Any]:
        completion = _spoken(row["prompt"], row["completion"])
        return {"completion": completion, "label": row["label"], "strength": row["strength"]}

    return _selected(judged, "kto", adjudicated, line)


def write_ranking(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """``prompt``, ``responses``, ``ranks``, and beside them ``split``."""
    return _selected(judged, "ranking", adjudicated, lambda row: {"responses": row["responses"], "ranks": row["ranks"]})


def write_hh(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """``chosen`` and ``rejected`` as transcripts, and ``split``; what a transcript cannot say is left out."""

    def line(row: Row) -> dict[str, Any]:
        before = fields.asked(fields.prompt(row["prompt"]))
        sides = {}
        for name in ("chosen", "rejected"):
            turns = (*before, Message("assistant", row[name]))
            sides[name] = "".join(
                f"\n\n{'Human' if turn.role == 'user' else 'Assistant'}: {turn.content}" for turn in turns
            )
            with fields.refusing():
                again = transcript(sides[name], name)
            # What surrounds the words of a turn is white space to every reader of transcripts.
            if [(t.role, t.content) for t in again] != [(t.role, t.content.strip()) for t in turns]:
                raise DataError("a transcript of it would read back as something else")
        if row["chosen"].strip() == row["rejected"].strip():
            raise DataError("a transcript of it would read back as something else")
        return sides

    return _selected(judged, "preference", adjudicated, line, with_prompt=False)


def _spoken(prompt: Any, words: str) -> Any:
    """TRL wants the response of a chat prompt as a turn too."""
    return words if isinstance(prompt, str) else [{"role": "assistant", "content": words}]


def _selected(
    judged: Judged,
    format: str,
    adjudicated: Mapping[str, Mapping[str, Any]],
    line: Any,
    *,
    with_prompt: bool = True,
) -> Lines:
    chosen = select_rows(judged, SnapshotSettings(format), adjudicated)
    lines, left_out = [], list(chosen.dropped)
    for split in SPLITS:
        for row in chosen.rows[split]:
            try:
                asked = {"prompt": prompt_json(fields.prompt(row["prompt"]))} if with_prompt else {}
                lines.append(json_line(asked | line(row) | {"split": split}))
            except DataError as error:
                left_out.append((row["item"], str(error)))
    return Lines(lines, sorted(left_out), notes=chosen.notes)
