"""Worlds of pairs whose quality is planted: what quality control should find is known to the digit.

Texts mean nothing here; each has a utility for two clusters of values, in log-odds. The annotators are the sandbox's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trueup.config.seeds import derive
from trueup.errors import UsageError
from trueup.feedback.store.items import NewItem
from trueup.sandbox.annotators import Annotator, Habit


@dataclass(frozen=True)
class PlantedWorld:
    """Items with the utility of every response text, by cluster of values."""

    rows: tuple[NewItem, ...]
    utility: Mapping[str, tuple[float, float]]

    def better(self, first: str, second: str, cluster: int = 0) -> bool:
        """Whether the first text is truly the better one."""
        return self.utility[first][cluster] > self.utility[second][cluster]

    def worth(self, annotator: Annotator, _prompt: str, text: str) -> float:
        """How good a text is to an annotator."""
        return self.utility[text][annotator.cluster]


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
) -> PlantedWorld:
    """A world of pairwise items; utilities are normal, lengths do not depend on them.

    Args:
        items: How many pairs.
        seed: Same seed, same world.
        gold: Share of items that are hidden gold, with a clear right answer.
        repeats: Share of main items that come back at the end, as the stream ``repeat`` (not through the workflow).
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
    return PlantedWorld(tuple(rows), utility)


def _text(draw: random.Random, number: int, place: int) -> str:
    words = [draw.choice(_WORDS) for _ in range(draw.randint(20, 90))]
    return f"Answer {number}.{place}: " + " ".join(words) + "."


def planted_annotator(
    name: str,
    *,
    ability: float = 1.0,
    side: float = 0.0,
    length: float = 0.0,
    habit: Habit | None = None,
    ties: float = 0.0,
) -> Annotator:
    """An annotator for a planted world, where abilities around 1 are ordinary.

    Args:
        name: Of the annotator.
        ability: Log-odds for each unit of utility.
        side: Log-odds for the response shown first.
        length: Log-odds for each factor e of more words.
        habit: What somebody does who never reads; None for one who does.
        ties: Log-odds below which two responses seem equal.
    """
    spam = 0.0 if habit is None else 1.0
    return Annotator(
        name,
        ability,
        side_bias=side,
        log_length_bias=length,
        spam=spam,
        habit=habit or "fast",
        tie_threshold=ties,
    )


def planted_panel(
    count: int,
    *,
    seed: int = 0,
    spread: float = 0.25,
    odd: Sequence[Annotator] = (),
) -> tuple[Annotator, ...]:
    """``count`` ordinary annotators (ability around 1, next to no bias), then the ``odd`` ones given.

    Raises:
        UsageError: Two annotators have one name.
    """
    ordinary = []
    for number in range(count):
        draw = random.Random(derive(seed, "crowd", number))
        ability = max(0.4, draw.gauss(1.0, spread))
        ordinary.append(planted_annotator(f"sim-{number:02d}", ability=ability, side=draw.gauss(0, 0.1)))
    everybody = (*ordinary, *odd)
    if len({annotator.name for annotator in everybody}) != len(everybody):
        raise UsageError("two annotators have one name", where="planted_panel", fix="name the odd ones differently")
    return everybody
