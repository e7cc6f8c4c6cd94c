"""Prompts, responses and items in the store: the only writer of their tables.

A prompt is one prompt within its project, and a response one response of its prompt and generator, however often they
are brought: what makes them the same is the hash of their text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Insert, insert, select, update

from trueup.config.seeds import split_by_hash
from trueup.data.splits import SPLITS
from trueup.errors import DataError, NotHere, nearest
from trueup.feedback.store.database import Store
from trueup.feedback.store.items import NewItem, by_id
from trueup.feedback.store.schema import item, item_response, new_id, project, prompt, response, template
from trueup.feedback.store.texts import sha256_of
from trueup.types import Prompt, prompt_json

T = TypeVar("T")

SPLIT_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""A prompt's split follows from its hash, so that it is the same in every project and every export."""

CHUNK = 500
"""Rows of one INSERT, and hashes of one SELECT: SQLite takes 32,766 values a statement."""


def one_import_at_a_time(connection: Connection, project_id: str) -> None:
    """Have others who import into this project wait: two at once would each make the prompt that both bring."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(project.c.id).where(project.c.id == project_id).with_for_update(key_share=True))


class ItemWriter:
    """Collects rows table by table and inserts them in bulk, so that nobody waits long for one transaction.

    Args:
        store: The store.
        connection: A transaction; one for reading is enough as long as nothing is flushed.
        asked: Row of the template that the items belong to.
        rows: All items that will be added; what is known of their prompts is read at once.
    """

    def __init__(self, store: Store, connection: Connection, asked: Any, rows: Sequence[NewItem]) -> None:
        self.store, self.connection, self.asked = store, connection, asked
        self._known_prompts: dict[str, tuple[str, str]] = {}
        self._known_responses: dict[tuple[str, str, str], str] = {}
        self._prompts: list[dict[str, Any]] = []
        self._responses: list[dict[str, Any]] = []
        self._items: list[dict[str, Any]] = []
        self._item_responses: list[dict[str, Any]] = []
        for digests in _chunks(sorted({prompt_digest(row.prompt) for row in rows})):
            brought = (prompt.c.project == asked.project, prompt.c.sha256.in_(digests))
            for row in connection.execute(select(prompt.c.id, prompt.c.sha256, prompt.c.split).where(*brought)):
                self._known_prompts[row.sha256] = (row.id, row.split)
            query = select(response).join(prompt, prompt.c.id == response.c.prompt).where(*brought)
            names = (response.c.prompt, response.c.sha256, response.c.generator, response.c.id)
            for prompt_id, digest, generator, identity in connection.execute(query.with_only_columns(*names)):
                self._known_responses[prompt_id, digest, generator] = identity

    def add(
        self, row: NewItem, *, overlap: int, priority: int = 0, state: str = "open", repeat_of: str | None = None
    ) -> tuple[str, list[str]]:
        """One item that was checked; returns its id and those of its responses.

        Raises:
            DataError: Its prompt is in another split already.
        """
        prompt_id, now = self._prompt(row), self.store.now()  # items are read out in the order of their time
        generators = (*row.generators, *("" for _ in row.responses))
        ids = [self._response(prompt_id, text, name) for text, name in zip(row.responses, generators, strict=False)]
        identity = new_id()
        self._items.append(
            {
                "id": identity,
                "template": self.asked.id,
                "prompt": prompt_id,
                "stream": row.stream,
                "overlap": overlap,
                "priority": priority,
                "state": state,
                "repeat_of": repeat_of,
                "gold": None if row.gold is None else by_id(row.gold, ids),
                "explanation": row.explanation,
                "context": dict(row.context),
                "created_at": now,
            }
        )
        self._item_responses += [
            {"id": new_id(), "item": identity, "place": place, "response": name} for place, name in enumerate(ids)
        ]
        return identity, ids

    def _prompt(self, row: NewItem) -> str:
        digest = prompt_digest(row.prompt)
        known = self._known_prompts.get(digest)
        split = split_for(row, digest, None if known is None else known[1])
        if known is not None:
            return known[0]
        identity = new_id()
        values = {"id": identity, "project": self.asked.project, "sha256": digest, "turns": prompt_json(row.prompt)}
        self._prompts.append(values | {"split": split, "created_at": self.store.now()})
        self._known_prompts[digest] = (identity, split)
        return identity

    def _response(self, prompt_id: str, text: str, generator: str) -> str:
        digest = sha256_of(text)
        known = self._known_responses.get((prompt_id, digest, generator))
        if known is not None:
            return known
        identity = new_id()
        values = {"id": identity, "prompt": prompt_id, "text": text, "sha256": digest, "generator": generator}
        self._responses.append(values | {"generator_kind": "model", "created_at": self.store.now()})
        self._known_responses[prompt_id, digest, generator] = identity
        return identity

    def flush(self) -> None:
        """Insert everything, parents first."""
        self._insert(insert(prompt), self._prompts)
        self._insert(insert(response), self._responses)
        self._insert(insert(item), self._items)
        self._insert(insert(item_response), self._item_responses)

    def _insert(self, statement: Insert, rows: list[dict[str, Any]]) -> None:
        for part in _chunks(rows):
            self.connection.execute(statement, part)
        rows.clear()


def _chunks(rows: list[T]) -> Iterator[list[T]]:
    for begin in range(0, len(rows), CHUNK):
        yield rows[begin : begin + CHUNK]


def add_repeat(connection: Connection, original: Any, created_at: str) -> str:
    """An item that asks what ``original`` asked, once more, in the stream ``repeat``; returns its id."""
    identity = new_id()
    copied = {name: getattr(original, name) for name in ("template", "prompt", "explanation", "context")}
    connection.execute(
        insert(item).values(
            **copied,
            id=identity,
            stream="repeat",
            overlap=1,
            priority=0,
            state="open",
            repeat_of=original.id,
            gold=None,
            created_at=created_at,
        )
    )
    for row in connection.execute(select(item_response).where(item_response.c.item == original.id)).all():
        values = {"id": new_id(), "item": identity, "place": row.place, "response": row.response}
        connection.execute(insert(item_response).values(**values))
    return identity


def change_item(connection: Connection, item_id: str, *, state: str | None = None, overlap: int | None = None) -> None:
    """Another state of an item, or another number of judgments that it needs; nothing else of it ever changes."""
    values = {name: value for name, value in (("state", state), ("overlap", overlap)) if value is not None}
    connection.execute(update(item).where(item.c.id == item_id).values(**values))


def locked_item(connection: Connection, item_id: str) -> Any:
    """An item with its template's ``kind``, ``config``, ``project`` and ``template_name``.

    It is locked: whoever asks for it next waits for this transaction. Two last judgments at once would each see one
    too few, and the item would stay open for ever; two adjudicators would each take it.

    Raises:
        NotHere: There is no such item.
    """
    query = (
        select(item, template.c.kind, template.c.config, template.c.project, template.c.name.label("template_name"))
        .join(template, template.c.id == item.c.template)
        .where(item.c.id == item_id)
    )
    if connection.dialect.name == "postgresql":
        query = query.with_for_update(of=item)
    row = connection.execute(query).first()
    if row is None:
        raise NotHere(f"there is no item {item_id!r}", where="item")
    return row


def response_ids(connection: Connection, item_id: str) -> list[str]:
    """Response ids of an item in canonical order."""
    query = select(item_response.c.response).where(item_response.c.item == item_id).order_by(item_response.c.place)
    return list(connection.execute(query).scalars())


def prompt_digest(asked: Prompt) -> str:
    """SHA-256 of a prompt, by which it is one prompt within a project."""
    return sha256_of(json.dumps(prompt_json(asked), ensure_ascii=False, sort_keys=True, separators=(",", ":")))


def split_for(row: NewItem, digest: str, known: str | None) -> str:
    """The split of an item's prompt, which is ``known`` where the prompt is there already.

    Raises:
        DataError: An unknown split, or another one than the prompt is in.
    """
    if row.split is not None and row.split not in SPLITS:
        raise DataError(f"split is {row.split!r}", where="split", expected=nearest(row.split, SPLITS))
    if known is None:
        return row.split or split_by_hash(digest, SPLIT_SHARES)
    if row.split is not None and row.split != known:
        raise DataError(
            f"the prompt is in {known!r} already and would also be in {row.split!r}",
            where="split",
            expected="one split for each prompt",
        )
    return known
