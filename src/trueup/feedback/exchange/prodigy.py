"""What Prodigy saves: choices among options, and the key that was pressed for a row."""

from __future__ import annotations

import re
from dataclasses import replace

from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.choices import best_of_several, preferred, tie
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import Answered, Gathering, moment, of_seconds
from trueup.feedback.store.items import NewItem


def options_row(gathering: Gathering, line: int, row: Row) -> None:
    """A choice among two options, as Prodigy's recipe ``choice`` saves it."""
    options = [fields.mapping(option, f"options.{n}") for n, option in enumerate(row["options"])]
    names = [fields.name_of(option.get("id"), f"options.{n}.id") for n, option in enumerate(options)]
    texts = tuple(_displayed(option, f"options.{n}") for n, option in enumerate(options))
    if len(options) > 2:
        raise best_of_several([f"options.{n}" for n in range(len(options))])
    if len(options) < 2 or all(name.casefold() == text.casefold() for name, text in zip(names, texts, strict=True)):
        raise DataError(
            f"are {', '.join(names)}"[:120],
            where="options",
            expected="two responses to choose from",
            fix="labels of one text are read by the format 'kto': rows with prompt, completion and label",
        )
    column = next((name for name in ("text", *fields.PROMPTS) if row.get(name)), None)
    asked = fields.prompt(_displayed(row, "row") if column is None else row[column], column or "text")
    item = NewItem(asked, texts, split=fields.optional(row, "split"))
    base = prodigy_answer(row)
    accepted = row.get("accept") or []
    if not isinstance(accepted, list):
        accepted = [accepted]
    chosen = {fields.name_of(option, "accept") for option in accepted}
    if row.get("answer", "accept") in ("ignore", "reject"):
        gathering.add(line, "pairwise", item, replace(base, skip_reason="other"))
        return
    foreign = sorted(chosen - set(names))
    if not chosen or foreign:
        what = f"names {foreign[0]!r}" if foreign else "names no option"
        raise DataError(what, where="accept", expected=f"one of {', '.join(names)}")
    answer = tie() if len(chosen) == 2 else preferred(names.index(chosen.pop()))
    gathering.add(line, "pairwise", item, replace(base, answer=answer))


PRESSED = ("accept", "reject", "ignore")
"""What Prodigy's column ``answer`` says."""


def prodigy_answer(row: Row, answer: Row | None = None) -> Answered:
    """An answer to a row that Prodigy saved, with who gave it and when."""
    who = next((name for name in ("_annotator_id", "_session_id") if row.get(name)), "annotator")
    made_at = moment(of_seconds(row.get("_timestamp")), "_timestamp")
    return Answered(0, fields.optional_name(row, who) or fields.annotator(row), answer, made_at=made_at)


_MARKUP = re.compile(r"</?[a-z!][^>]*>|&#?\w+;", re.IGNORECASE)


def _displayed(shown: Row, where: str) -> str:
    """The text that Prodigy displayed, as ``text`` or as ``html`` without markup.

    Raises:
        DataError: There is none, or it is marked up: nobody can say which part of that is the text.
    """
    name = "html" if shown.get("html") and not shown.get("text") else "text"
    place = name if where == "row" else f"{where}.{name}"
    text = fields.text(shown.get(name), place)
    if name == "html" and _MARKUP.search(text):
        raise DataError(
            f"is marked up: {text!r}"[:120],
            where=place,
            expected="a text",
            fix="write it without tags and entities, as 'text' beside 'id'",
        )
    return text
