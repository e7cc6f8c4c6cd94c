"""Judgments that were made elsewhere enter the store whole: items, responses and who answered what, in one transaction.

For files of judged data, and for simulated crowds of tens of thousands of judgments, where a transaction for each
would be mostly waiting for the disk. What is checked of one submitted answer is checked of these, and the audit log
holds one event with the hash of all bodies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, insert, select

from trueup.errors import DataError, nearest
from trueup.feedback import audit
from trueup.feedback.answers import SKIP_REASONS, parse_answer
from trueup.feedback.projects import NewItem, by_id, check_item, find, split_for
from trueup.feedback.schema import item, item_response, judgment, new_id, person, prompt, response, template
from trueup.feedback.store import Store
from trueup.types import prompt_json

CHUNK = 2_000
"""Rows of one INSERT."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer. Responses are named by place, because their ids are only made here (see ``projects.by_id``)."""

    item: int
    """Row of ``rows``."""
    person: str
    """Id of a person of the store."""
    answer: Mapping[str, Any] | None
    """None where the item was skipped."""
    shown: tuple[int, ...]
    """Places in the order shown, first is left or top; empty where it is not known."""
    made_at: str
    """UTC, ISO 8601."""
    active_ms: int | None = None
    rationale: str = ""
    skip_reason: str | None = None
    surplus: bool = False


def import_judged(
    store: Store,
    template_id: str,
    rows: Sequence[NewItem],
    votes: Sequence[Vote],
    *,
    repeats: Mapping[int, str] | None = None,
    actor: str = "system",
) -> tuple[str, ...]:
    """Store items with the answers they were given; all of them or, on any error, nothing. Returns the items' ids.

    An item's overlap is the number of its answers, so it is settled unless it has none. ``repeats`` gives the id of
    the item that a row repeats.

    Raises:
        DataError: A row or a vote is wrong; names it.
        UsageError: No such template.
    """
    with store.write() as connection:
        asked = find(connection, template, template_id)
        _known_people(connection, votes)
        given: dict[int, list[Vote]] = {}
        for number, vote in enumerate(votes):
            if not 0 <= vote.item < len(rows):
                raise DataError(f"item {vote.item}", where=f"vote {number}", expected=f"0 to {len(rows) - 1}")
            given.setdefault(vote.item, []).append(vote)
        writer = _Writer(connection, store, asked.project)
        made = []
        for number, row in enumerate(rows):
            try:
                made.append(writer.item(asked, row, given.get(number, []), (repeats or {}).get(number)))
            except DataError as error:
                raise DataError(str(error), where=f"row {number}") from error
        writer.flush()
        detail = {"items": len(rows), "judgments": len(votes), "bodies": writer.digest.hexdigest()}
        audit.record(connection, store.now(), actor, "import_judged", template_id, **detail)
    return tuple(made)


def _known_people(connection: Connection, votes: Sequence[Vote]) -> None:
    known = set(connection.execute(select(person.c.id)).scalars())
    for number, vote in enumerate(votes):
        if vote.person not in known:
            raise DataError(f"nobody has the id {vote.person!r}", where=f"vote {number}", fix="add the person first")


class _Writer:
    """Collects rows table by table and inserts them in bulk."""

    def __init__(self, connection: Connection, store: Store, project_id: str) -> None:
        self.connection = connection
        self.store = store
        self.now = store.now()
        self.project = project_id
        self.digest = hashlib.sha256()
        held = connection.execute(select(prompt).where(prompt.c.project == project_id))
        self.prompts: dict[str, tuple[str, str]] = {row.sha256: (row.id, row.split) for row in held}
        self.responses: dict[tuple[str, str, str], str] = {
            (row.prompt, row.sha256, row.generator): row.id
            for row in connection.execute(
                select(response.c.id, response.c.prompt, response.c.sha256, response.c.generator)
                .join(prompt, prompt.c.id == response.c.prompt)
                .where(prompt.c.project == project_id)
            )
        }
        # In an order in which each row's parents stand before it.
        self.waiting: dict[Table, list[dict[str, Any]]] = {
            table: [] for table in (prompt, response, item, item_response, judgment)
        }

    def item(self, asked: Any, row: NewItem, votes: Sequence[Vote], repeat_of: str | None = None) -> str:
        """One item with its answers."""
        check_item(asked.kind, row)
        made, prompt_id = new_id(), self._prompt(row)
        generators = (*row.generators, *("" for _ in row.responses))
        ids = [self._response(prompt_id, text, name) for text, name in zip(row.responses, generators, strict=False)]
        gold = by_id(row.gold, ids) if row.gold is not None else None
        if gold is not None:
            parse_answer(gold, kind=asked.kind, responses=ids)
        self._add(
            item,
            id=made,
            template=asked.id,
            prompt=prompt_id,
            stream=row.stream,
            overlap=max(1, len(votes)),
            priority=0,
            state="satisfied" if votes else "open",
            repeat_of=repeat_of,
            gold=gold,
            explanation=row.explanation,
            context=dict(row.context),
            created_at=self.store.now(),  # items are read out in the order of their time
        )
        for place, response_id in enumerate(ids):
            self._add(item_response, id=new_id(), item=made, place=place, response=response_id)
        for vote in votes:
            self._judgment(asked, made, ids, row.responses, vote)
        return made

    def _judgment(self, asked: Any, item_id: str, ids: list[str], texts: Sequence[str], vote: Vote) -> None:
        axes = {a["name"]: (a["low"], a["high"]) for a in (asked.config or {}).get("axes", [])} or None
        answer = None
        if vote.answer is not None:
            answer = parse_answer(
                by_id(vote.answer, ids),
                kind=asked.kind,
                responses=ids,
                texts=dict(zip(ids, texts, strict=True)),
                axes=axes,
            ).model_dump(mode="json")
        elif vote.skip_reason not in SKIP_REASONS:
            raise DataError(
                f"no answer, and the reason is {vote.skip_reason!r}",
                where="skip_reason",
                expected=nearest(str(vote.skip_reason), SKIP_REASONS),
            )
        made = new_id()
        body = json.dumps([item_id, vote.person, answer, vote.made_at], sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
        self.digest.update(digest.encode())
        self._add(
            judgment,
            id=made,
            item=item_id,
            person=vote.person,
            idempotency_key=f"import-{made}",
            body_sha256=digest,
            answer=answer,
            skip_reason=vote.skip_reason,
            rationale=vote.rationale,
            shown=[ids[place] for place in vote.shown],
            active_ms=vote.active_ms,
            focus_lost=None,
            guideline=None,
            revision=1,
            supersedes=None,
            surplus=vote.surplus,
            created_at=vote.made_at,
        )

    def _prompt(self, row: NewItem) -> str:
        turns = prompt_json(row.prompt)
        text = json.dumps(turns, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        held = self.prompts.get(digest)
        split = split_for(row, digest, held[1] if held else None)
        if held is not None:
            return held[0]
        made = new_id()
        self.prompts[digest] = (made, split)
        self._add(prompt, id=made, project=self.project, sha256=digest, turns=turns, split=split, created_at=self.now)
        return made

    def _response(self, prompt_id: str, text: str, generator: str) -> str:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        held = self.responses.get((prompt_id, digest, generator))
        if held is not None:
            return held
        made = self.responses[prompt_id, digest, generator] = new_id()
        self._add(
            response,
            id=made,
            prompt=prompt_id,
            text=text,
            sha256=digest,
            generator=generator,
            generator_kind="model",
            created_at=self.now,
        )
        return made

    def _add(self, table: Table, **values: Any) -> None:
        self.waiting[table].append(values)

    def flush(self) -> None:
        """Insert everything, parents first."""
        for table, rows in self.waiting.items():
            for part in _chunks(rows):
                self.connection.execute(insert(table), part)
            rows.clear()


def _chunks(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for begin in range(0, len(rows), CHUNK):
        yield rows[begin : begin + CHUNK]
