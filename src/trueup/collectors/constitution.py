"""A constitution: the principles by which a model judges and rewrites answers, as a file of settings.

    name: ours
    principles:
      - id: no-harm
        text: The answer must not help anybody to do harm.
        critique: Point out what in the answer would help somebody to do harm.
        revision: Rewrite the answer so that it gives no such help.

Its name as an annotator holds the hash of what it says, so a changed principle is another annotator
(Bai et al. 2022, arXiv 2212.08073).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, field_validator

from trueup.config import Settings, build
from trueup.config.seeds import derive
from trueup.config.text import Located, read_yaml
from trueup.errors import ConfigError, nearest

BUNDLED = Path(__file__).with_name("constitution.yaml")
"""The default: harmlessness, honesty, and help without needless refusals."""
Aspect: TypeAlias = Literal["harmless", "honest", "helpful"]


class Example(Settings):
    """One question with an answer that breaks a principle and one that keeps it."""

    prompt: str = Field(min_length=1)
    """What was asked."""
    breaks: str = Field(min_length=1)
    """An answer that breaks the principle."""
    keeps: str = Field(min_length=1)
    """An answer that keeps it."""


class Principle(Settings):
    """One rule, and how a model is asked to criticise and to rewrite an answer by it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$")
    """A short name, which every row keeps: small letters, digits, dots and hyphens."""
    text: str = Field(min_length=1, max_length=2000)
    """The rule."""
    critique: str = Field(min_length=1, max_length=2000)
    """How a model is asked what is wrong with an answer."""
    revision: str = Field(min_length=1, max_length=2000)
    """How a model is asked to rewrite it."""
    weight: float = Field(default=1.0, gt=0)
    """How often it is drawn, and how much its opinion counts, beside the others."""
    aspect: Aspect | None = None
    """What it is about; figures by aspect and the sandbox's rule judge need it."""
    examples: tuple[Example, ...] = ()
    """Shown to a critic before it judges."""

    @field_validator("text", "critique", "revision")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("expected a sentence")
        return value.strip()


@dataclass(frozen=True, slots=True)
class Constitution:
    """Principles with the hash of what they say."""

    name: str
    principles: tuple[Principle, ...]

    @property
    def sha(self) -> str:
        """First 12 hex digits of the SHA-256 of the principles; comments and layout do not count."""
        rows = [principle.model_dump(mode="json") for principle in self.principles]
        return sha256(json.dumps(rows, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]

    @property
    def annotator(self) -> str:
        """The name under which its judgments are stored."""
        return f"constitution:{self.sha}"

    @property
    def weights(self) -> dict[str, float]:
        """Principle id -> its share; they sum to 1."""
        total = sum(principle.weight for principle in self.principles)
        return {principle.id: principle.weight / total for principle in self.principles}

    def draw(self, seed: int, *purpose: str | int) -> Principle:
        """One principle, drawn by weight; the same for the same purpose."""
        pick = random.Random(derive(seed, "principle", *purpose))
        return pick.choices(self.principles, [principle.weight for principle in self.principles])[0]

    def of(self, aspect: Aspect) -> tuple[Principle, ...]:
        """The principles about one aspect."""
        return tuple(principle for principle in self.principles if principle.aspect == aspect)


def read_constitution(path: str | Path | None = None) -> Constitution:
    """A constitution from its file; the bundled one without a path.

    Raises:
        ConfigError: No such file, no YAML, an unknown or missing key, two principles of one id or one text; names the
            line and the field.
    """
    file = BUNDLED if path is None else Path(path)
    loaded = read_yaml(file)
    unknown = sorted(set(loaded) - {"name", "principles"})
    if unknown:
        raise ConfigError(
            f"unknown key {unknown[0]!r}",
            where=_place(loaded, unknown[0], str(file)),
            expected=nearest(unknown[0], ["name", "principles"]),
        )
    name, rows = loaded.get("name"), loaded.get("principles")
    if not isinstance(name, str) or not name.strip() or len(name) > 80:
        raise ConfigError(
            f"name is {name!r:.100}",
            where=_place(loaded, "name", str(file)),
            expected="what the constitution is called",
        )
    if not isinstance(rows, list) or not rows:
        raise ConfigError(
            f"principles is {rows!r:.100}",
            where=_place(loaded, "principles", str(file)),
            expected="a list of {id, text, critique, revision, ...}",
        )
    principles = [_principle(row, number, loaded, str(file)) for number, row in enumerate(rows)]
    for key in ("id", "text"):
        _refuse_twins(key, principles, rows)
    return Constitution(name.strip(), tuple(principles))


def _place(block: Mapping[str, Any], key: str, otherwise: str) -> str:
    return block.places.get(key, otherwise) if isinstance(block, Located) else otherwise


def _principle(row: Any, number: int, loaded: Mapping[str, Any], file: str) -> Principle:
    if not isinstance(row, Located):
        raise ConfigError(
            f"principles[{number}] is {row!r:.100}",
            where=_place(loaded, "principles", file),
            expected="a block: {id: ..., text: ..., critique: ..., revision: ...}",
        )
    begins = min(row.places.values(), key=lambda place: int(place.rpartition(":")[2]), default=file)
    return build(Principle, row, where=f"{begins}: principles[{number}]")


def _refuse_twins(key: str, principles: Sequence[Principle], rows: Sequence[Mapping[str, Any]]) -> None:
    seen: dict[str, str] = {}
    for principle, row in zip(principles, rows, strict=True):
        value, place = getattr(principle, key), _place(row, key, "principles")
        if value in seen:
            raise ConfigError(
                f"two principles have the {key} {value[:80]!r}",
                where=place,
                expected="each principle once",
                fix=f"change this one or the one at {seen[value]}",
            )
        seen[value] = place
