"""Annotators whose truth is known: ability, side bias, length bias, fatigue, spam, and two clusters of values.

They judge through a *client*, one callable that asks for the next item and hands in an answer, so the same crowd drives
the store directly, a memory, or a server over HTTP. What they do is always marked as simulated.

An annotator of ability a, side bias s and length bias l prefers the response shown first with probability

    sigmoid(a * fatigue(n) * (utility_first - utility_second) + s + l * (log words_first - log words_second))

where n is the place in the session and the utility is that of the annotator's cluster of values.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from trueup.errors import UsageError
from trueup.feedback.projects import NewItem, by_id, split_of
from trueup.feedback.records import ItemRow, Judged, JudgmentRow, ResponseRow
from trueup.feedback.schema import stamp
from trueup.seeds import derive
from trueup.types import content_id, prompt_json

Spam: TypeAlias = Literal["random", "left", "right", "fast"]

Client: TypeAlias = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any] | None]
"""``client(annotator, "next", {})`` gives ``{"item", "kind", "responses": [{"id", "text"}, ...]}`` in the order shown,
or None when there is nothing left. ``client(annotator, "judge", {"item", "answer", "rationale", "active_ms", "shown",
"key"})`` takes the answer. The fields are those of the HTTP interface."""


@dataclass(frozen=True, slots=True)
class Planted:
    """The truth about one simulated annotator."""

    name: str
    ability: float = 1.0
    side: float = 0.0
    """Log-odds for the response shown first."""
    length: float = 0.0
    """Log-odds for each factor e of more words."""
    fatigue: float = 0.0
    """Share of the ability that is lost for each hundred judgments of a session."""
    spam: Spam | None = None
    """``random`` guesses, ``left`` and ``right`` take a side, ``fast`` guesses without reading."""
    cluster: int = 0
    """Whose values: 0 or 1."""
    ties: float = 0.0
    """Half-width of the band of log-odds that is called a tie."""
    words_per_second: float = 3.0


@dataclass(frozen=True)
class World:
    """Items with the utility of every response text, by cluster of values."""

    rows: tuple[NewItem, ...]
    utility: Mapping[str, tuple[float, float]]

    def better(self, first: str, second: str, cluster: int = 0) -> bool:
        """Whether the first text is truly the better one."""
        return self.utility[first][cluster] > self.utility[second][cluster]


_WORDS = (
    "river stone lamp garden window letter winter morning station harbour market bridge forest silver copper "
    "quiet gentle careful honest simple useful clear patient early steady"
).split()


def plant(
    items: int,
    *,
    seed: int = 0,
    gold: float = 0.1,
    repeats: float = 0.0,
    value_gap: float = 0.0,
    spread: float = 1.5,
) -> World:
    """A world of pairwise items; utilities are normal, lengths do not depend on them.

    Args:
        items: How many pairs.
        seed: Same seed, same world.
        gold: Share of items that are hidden gold, with a clear right answer.
        repeats: Share of main items that come back at the end, as the stream ``repeat`` (memory client only).
        value_gap: How far the second cluster's utilities are apart from the first's: 0 the same, 1 unrelated.
        spread: Standard deviation of utilities, in log-odds.
    """
    rows: list[NewItem] = []
    utility: dict[str, tuple[float, float]] = {}
    for number in range(items):
        draw = random.Random(derive(seed, "world", number))
        hidden = draw.random() < gold
        prompt = f"Question {number}: what about the {draw.choice(_WORDS)} and the {draw.choice(_WORDS)}?"
        texts = tuple(_text(draw, number, place) for place in (0, 1))
        for text in texts:
            shared, own = draw.gauss(0, spread), draw.gauss(0, spread)
            utility[text] = (shared, (1 - value_gap) * shared + value_gap * own)
        if hidden:  # gold is only useful where everybody of good will sees the answer
            right = draw.randrange(2)
            for place, text in enumerate(texts):
                value = 2.0 if place == right else -2.0
                utility[text] = (value, value)
            answer = {"preferred": right, "strength": 2}
            rows.append(NewItem(prompt, texts, ("sim-a", "sim-b"), "gold", gold=answer, explanation="planted"))
        else:
            again = draw.random() < repeats
            context = {"repeat": True} if again else {}
            rows.append(NewItem(prompt, texts, ("sim-a", "sim-b"), context=context))
    return World(tuple(rows), utility)


def _text(draw: random.Random, number: int, place: int) -> str:
    words = [draw.choice(_WORDS) for _ in range(draw.randint(20, 90))]
    return f"Answer {number}.{place}: " + " ".join(words) + "."


def crowd(
    count: int,
    *,
    seed: int = 0,
    spread: float = 0.25,
    odd: Sequence[Planted] = (),
) -> tuple[Planted, ...]:
    """``count`` ordinary annotators (ability around 1, next to no bias), then the ``odd`` ones given.

    Raises:
        UsageError: Two annotators have one name.
    """
    ordinary = []
    for number in range(count):
        draw = random.Random(derive(seed, "crowd", number))
        ability = max(0.4, draw.gauss(1.0, spread))
        ordinary.append(
            Planted(f"sim-{number:02d}", ability, side=draw.gauss(0, 0.1), words_per_second=draw.uniform(2, 5))
        )
    everybody = (*ordinary, *odd)
    if len({one.name for one in everybody}) != len(everybody):
        raise UsageError("two annotators have one name", where="crowd", fix="name the odd ones differently")
    return everybody


def judge(
    world: World, who: Planted, shown: Sequence[Mapping[str, str]], position: int, seed: int
) -> tuple[dict[str, Any], int]:
    """One annotator's answer to a pairwise item, and the active milliseconds it took.

    Args:
        world: Holds the utilities.
        who: The annotator.
        shown: The two responses with ``id`` and ``text``, in the order shown.
        position: Place in the annotator's session, from 0.
        seed: Same seed, annotator and texts: same answer.
    """
    left, right = shown
    draw = random.Random(derive(seed, "judge", who.name, *sorted((left["text"], right["text"])), left["text"]))
    words = [len(one["text"].split()) for one in (left, right)]
    seconds = sum(words) / who.words_per_second * draw.uniform(0.7, 1.3)
    tired = max(0.0, 1 - who.fatigue * position / 100)
    gap = world.utility[left["text"]][who.cluster] - world.utility[right["text"]][who.cluster]
    odds = who.ability * tired * gap + who.side + who.length * math.log(words[0] / words[1])
    if who.spam is not None:
        odds = {"random": 0.0, "fast": 0.0, "left": 3.5, "right": -3.5}[who.spam]
        seconds = sum(words) / 60 if who.spam == "fast" else seconds
    noise = draw.random()
    felt = odds + math.log(max(noise, 1e-12) / max(1 - noise, 1e-12))  # logistic noise: P(felt > 0) = sigmoid(odds)
    if abs(felt) < who.ties:
        return {"preferred": None, "strength": 0}, int(1000 * seconds)
    strength = 1 if abs(felt) < 1 else 2 if abs(felt) < 3 else 3
    preferred = (left if felt > 0 else right)["id"]
    return {"preferred": preferred, "strength": strength}, max(1, int(1000 * seconds))


def work(world: World, people: Sequence[Planted], client: Client, *, seed: int = 0, most: int = 100_000) -> int:
    """Let everybody judge in turn until nobody is offered anything; returns the number of judgments.

    Args:
        world: Holds the utilities.
        people: The annotators; the client knows them by ``name``.
        client: Where items come from and answers go.
        seed: Same seed, same answers to the same items shown in the same order.
        most: Stop after so many judgments.

    Raises:
        UsageError: The client offers an item of another kind than pairwise.
    """
    done = 0
    position = dict.fromkeys((who.name for who in people), 0)
    waiting = list(people)
    while waiting and done < most:
        for who in list(waiting):
            asked = client(who.name, "next", {})
            if asked is None:
                waiting.remove(who)
                continue
            if asked["kind"] != "pairwise":
                raise UsageError(
                    f"an item of kind {asked['kind']!r}", where="simulate", expected="simulated annotators judge pairs"
                )
            answer, milliseconds = judge(world, who, asked["responses"], position[who.name], seed)
            body = {
                "item": asked["item"],
                "answer": answer,
                "rationale": "simulated",
                "active_ms": milliseconds,
                "shown": [one["id"] for one in asked["responses"]],
                "key": f"sim-{content_id(seed, who.name, asked['item'])}",
            }
            client(who.name, "judge", body)
            position[who.name] += 1
            done += 1
            if done >= most:
                break
    return done


@dataclass
class Memory:
    """A client without a database: items and judgments in memory, read out with ``judged()``.

    Args:
        world: The items.
        overlap: Judgments wanted for each main item; gold and repeats are open to everybody who meets them.
        seed: Order of items and sides.
    """

    world: World
    overlap: int = 3
    seed: int = 0
    items: dict[str, ItemRow] = field(default_factory=dict)
    rows: list[JudgmentRow] = field(default_factory=list)
    _taken: dict[str, set[str]] = field(default_factory=dict)
    _shown: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    _clock: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, new in enumerate(self.world.rows):
            self._add(f"item-{number:05d}", new, new.stream, None)
        for number, new in enumerate(self.world.rows):
            if new.context.get("repeat"):
                self._add(f"repeat-{number:05d}", new, "repeat", f"item-{number:05d}")

    def _add(self, name: str, new: NewItem, stream: str, repeat_of: str | None) -> None:
        digest = content_id(prompt_json(new.prompt))
        responses = tuple(
            ResponseRow(f"r-{content_id(digest, text)}", text, generator)
            for text, generator in zip(new.responses, new.generators, strict=True)
        )
        gold = by_id(new.gold, [r.id for r in responses]) if new.gold else None
        split = new.split or split_of(digest)
        self.items[name] = ItemRow(name, "pairwise", stream, split, digest, new.prompt, responses, repeat_of, gold)
        self._taken[name] = set()

    def __call__(self, annotator: str, verb: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The client."""
        if verb == "next":
            return self._next(annotator)
        self._judge(annotator, body)
        return None

    def _next(self, annotator: str) -> Mapping[str, Any] | None:
        open_items = [one for one in self.items.values() if self._wants(one, annotator)]
        if not open_items:
            return None
        # The emptiest first, so that overlaps stay even, in an order of each annotator's own.
        item = min(
            open_items,
            key=lambda one: (
                one.stream == "repeat",
                len(self._taken[one.id]) if one.stream == "main" else 0,
                derive(self.seed, "order", annotator, one.id),
            ),
        )
        responses = list(item.responses)
        before = self._shown.get((annotator, item.repeat_of or ""))
        if before is not None:
            responses.sort(key=lambda r: -before.index(r.id))
        else:
            random.Random(derive(self.seed, "sides", annotator, item.id)).shuffle(responses)
        self._shown[annotator, item.id] = tuple(r.id for r in responses)
        return {
            "item": item.id,
            "kind": item.kind,
            "responses": [{"id": r.id, "text": r.text} for r in responses],
        }

    def _wants(self, item: ItemRow, annotator: str) -> bool:
        taken = self._taken[item.id]
        if annotator in taken:
            return False
        if item.repeat_of is not None:
            return annotator in self._taken[item.repeat_of]
        return item.stream != "main" or len(taken) < self.overlap

    def _judge(self, annotator: str, body: Mapping[str, Any]) -> None:
        self._taken[body["item"]].add(annotator)
        now = self._clock.get(annotator, datetime(2026, 1, 5, 9, tzinfo=UTC)) + timedelta(
            milliseconds=body["active_ms"]
        )
        self._clock[annotator] = now
        self.rows.append(
            JudgmentRow(
                body["key"],
                body["item"],
                annotator,
                {"kind": "pairwise", **body["answer"]},
                tuple(body["shown"]),
                stamp(now),
                body["active_ms"],
                simulated=True,
                rationale=body["rationale"],
            )
        )

    def judged(self, name: str = "simulated") -> Judged:
        """The project as the quality pages read it."""
        rows = tuple(sorted(self.rows, key=lambda row: (row.created_at, row.id)))
        return Judged(name, self.items, rows, simulated=True)
