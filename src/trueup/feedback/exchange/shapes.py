"""Which format a file's rows have, by their keys; and what to do with rows that no format can take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice

from trueup.data.content import as_utf8
from trueup.data.formats import RESPONSE_COLUMNS
from trueup.errors import DataError, UsageError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.argilla import is_flat_record
from trueup.feedback.exchange.comparisons import VERDICTS, is_comparison, sides_of
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import json_rows
from trueup.feedback.exchange.label_studio import is_flat_task
from trueup.feedback.exchange.rankings import are_ranked_answers
from trueup.feedback.exchange.training import EXCHANGES, is_labelled
from trueup.feedback.exchange.trees import is_tree
from trueup.feedback.exchange.ultrafeedback import are_generations, is_rated

LOOKED_AT = 50
"""Rows that decide."""


def _has(*names: str) -> Callable[[Row], bool]:
    return lambda row: all(name in row for name in names)


def _is_hh(row: Row) -> bool:
    sides = [row.get(name) for name in ("chosen", "rejected")]
    return fields.prompt_column(row) is None and all(isinstance(s, str) and s.startswith("\n\nHuman:") for s in sides)


_FORMATS: tuple[tuple[Callable[[Row], bool], str], ...] = (
    (lambda row: row.get("record") == "project", "judgments"),
    (lambda row: isinstance(row.get("fields"), dict) or is_flat_record(row), "argilla"),
    (lambda row: is_flat_task(row) or (isinstance(row.get("data"), dict) and "annotations" in row), "label-studio"),
    (_is_hh, "hh"),
    (_has("chosen", "rejected"), "preference"),
    (_has(*EXCHANGES), "preference"),
    (lambda row: is_tree(row) or are_ranked_answers(row) or ("responses" in row and "ranks" in row), "ranking"),
    (lambda row: isinstance(row.get("completions"), list) or are_generations(row) or is_rated(row), "ultrafeedback"),
    (is_comparison, "preference"),
    (is_labelled, "kto"),
)

_POINTS: tuple[str, ...] = ("ranking_scores", "scores", "ratings", "rewards", "score", "ranking")
_SEVERAL = ("responses", "completions", "answers", "candidates", "outputs", "texts")


def _several(row: Row) -> object:
    return next((row[name] for name in _SEVERAL if name in row), None)


_TOOLS: tuple[tuple[Callable[[Row], bool], str], ...] = (
    (
        _has("message_id", "parent_id", "text"),
        "these are single messages of OpenAssistant: take the file of whole trees, whose rows have a prompt with "
        "replies",
    ),
    (
        lambda row: "label_annotations" in row or "displayed_text" in row or any(":::" in str(name) for name in row),
        "Potato's rows hold the prompt and the answers in one displayed text: write rows with prompt, response_a, "
        "response_b and winner (A, B or tie), and the annotator",
    ),
    (
        lambda row: "_input_hash" in row or "_task_hash" in row,
        "of Prodigy, choices among two options are read, and accept or reject of rows with prompt and response; write "
        "other rows with prompt, completion and label",
    ),
    (
        lambda row: "label" in row and ("text" in row or "data" in row) and "prompt" not in row,
        "these are labels of a text, as doccano writes them, and nothing says what the text answers: write rows with "
        "prompt, completion (the text) and label (true or false)",
    ),
    (
        _has("user_prompt", "model_response"),
        "these are single turns of PRISM: write a row for each two responses to one user_prompt, with prompt, chosen "
        "(if_chosen is true) and rejected; or rate them, with prompt, response and score",
    ),
    (
        lambda row: "conversation_history" in row and "conversation_id" in row,
        "these are conversations of PRISM: take the file of utterances, and write a row for each two responses to one "
        "user_prompt, with prompt, chosen and rejected",
    ),
    (
        lambda row: "original_response" in row and ("edited_response" in row or "good_edited_response" in row),
        "these are edits, as HelpSteer3 has them, and they are no verdicts: where an edit is better than its original, "
        "write rows with prompt, chosen (the edit) and rejected (the original)",
    ),
    (
        lambda row: "generations" in row and not are_generations(row),
        "these are generations of distilabel that nobody has rated: add a list ratings, one for each generation",
    ),
    (
        lambda row: any(isinstance(row.get(name), list) for name in _POINTS) and isinstance(_several(row), list),
        "a list of scores does not say whether more is better: write rows with prompt, responses and ranks (1 for the "
        "best)",
    ),
)
"""Rows of tools that hold too little, and what to write instead."""

_OTHERS: tuple[tuple[Callable[[Row], bool], str], ...] = (
    (
        _has("prompt", "responses"),
        "these are items that nobody has judged: import them in the browser, under 'Import and export', as jsonl",
    ),
    (
        lambda row: fields.prompt_column(row) is not None and any(name in row for name in RESPONSE_COLUMNS),
        "these are demonstrations that nobody has judged: they train with `trueup sft --data FILE`",
    ),
    (
        lambda row: sides_of(row) is not None,
        "these are two responses, and no column is called like a verdict on them: call it winner, and write A, B or "
        "tie in it",
    ),
    (
        lambda row: "prompt" in row and any(name in row for name in VERDICTS),
        "there is a verdict, and the columns of the two responses are not known: call them response_a and response_b",
    ),
)


def format_of_rows(data: bytes, name: str, encoding: str | None = None) -> str:
    """The format that most of a file's first rows have.

    Raises:
        DataError: None that is known; says what the rows look like.
    """
    if data.startswith(b"PAR1"):
        return "parquet"
    try:
        content = as_utf8(data, encoding)
    except DataError as error:
        where = f"{name}, {error.where}"
        raise DataError(error.what, where=where, expected=error.expected, fix=error.fix) from None
    if content.lstrip()[:1] not in (b"{", b"["):
        return "csv"
    rows, broken = _first(content)
    if not rows and broken is not None:
        where = f"{name}, {broken.where or 'line 1'}"
        raise DataError(broken.what, where=where, expected=broken.expected, fix=broken.fix or "export the file again")
    seen = Counter(form for row in rows for form in [_format(row)] if form is not None)
    if seen:
        return seen.most_common(1)[0][0]
    columns = ", ".join(map(str, rows[0])) if rows else "nothing"
    raise DataError(
        f"no format has rows with {columns}"[:300],
        where=name,
        expected="the rows of one of the formats of the guide",
        fix=_advice(rows) or "say the format with --format, or rename the columns",
    )


def advice(data: bytes, format: str, encoding: str | None = None) -> str | None:
    """What to do with a file none of whose rows is of the format that was named; None where nothing is known."""
    try:
        rows, _ = _first(as_utf8(data, encoding))
    except (DataError, UsageError):
        return None
    seen = Counter(form for row in rows for form in [_format(row)] if form is not None)
    best = seen.most_common(1)[0][0] if seen else format
    if best != format:
        return f"these look like rows of the format {best!r}: --format {best}"
    return _advice(rows, of_tools=bool(seen))


def advice_on(columns: Iterable[str]) -> str | None:
    """What to do with a table of these columns, which none of the formats has; None where nothing is known."""
    return _advice([dict.fromkeys(columns, "text")])


def _first(content: bytes) -> tuple[list[Row], DataError | None]:
    """The first rows, and the first line that is none."""
    rows: list[Row] = []
    broken: DataError | None = None
    try:
        for line, row in islice(json_rows(content), LOOKED_AT):
            if isinstance(row, dict):
                rows.append(row)
            elif isinstance(row, DataError) and broken is None:
                broken = DataError(row.what, where=f"line {line}", expected=row.expected, fix=row.fix)
    except DataError as error:  # an array that breaks off
        broken = broken or error
    return rows, broken


def _format(row: Row) -> str | None:
    return next((form for fits, form in _FORMATS if fits(row)), None)


def _advice(rows: list[Row], *, of_tools: bool = False) -> str | None:
    """What most rows ask for; ``of_tools`` alone where their keys are those of a format."""
    known = _TOOLS if of_tools else (*_TOOLS, *_OTHERS)
    counts: Counter[str | None] = Counter(next((hint for fits, hint in known if fits(row)), None) for row in rows)
    hint = counts.most_common(1)[0][0] if counts else None
    if hint is None and rows:
        small = {str(name).lower(): value for name, value in rows[0].items()}
        if _format(rows[0]) is None and _format(small) is not None:
            return f"write the names in small letters: {', '.join(small)}"
    return hint
