"""What ``trueup why`` says: the training examples that count most, the people behind them, and how far to trust it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trueup.commands.influences import Influences
from trueup.commands.life import Voice, voices_of
from trueup.feedback.store.database import Store
from trueup.types import PreferencePair, prompt_text


@dataclass(frozen=True, slots=True)
class Cause:
    """One training example, and what it did to the answers that were asked about."""

    name: str
    """The pair's id; empty for a demonstration."""
    prompt: str
    chosen: str
    """The better side; of a demonstration, what was shown."""
    rejected: str
    strength: float | None
    value: float
    """Change of the answers' log-prob or reward that it made, by estimate."""
    share: float
    """Of all that pushed one way or the other."""
    voices: tuple[Voice, ...]
    origin: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Person:
    """One annotator's part: that of each pair is divided among those whose verdict its label follows."""

    name: str
    pairs: int
    value: float


@dataclass(frozen=True)
class Explanation:
    """The answer to "why does it say this?"."""

    run: str
    taught_by: str
    """The run that learned from the data: the same, or the reward model that an online run followed."""
    questions: tuple[tuple[str, str, float], ...]
    """Prompt, answer, and 1, or -1 for what it was measured against."""
    unit: str
    change: float
    """How far the answers' log-prob or reward moved in training, measured."""
    estimate: float
    """The sum of what all examples did, by estimate."""
    examples: int
    points: tuple[str, ...]
    blocks: int
    towards: tuple[Cause, ...]
    against: tuple[Cause, ...]
    people: tuple[Person, ...]
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def explanation(run: str, influences: Influences, *, top: int = 5, db: str | None = None) -> Explanation:
    """The ``top`` examples each way, with who judged them.

    Args:
        run: What was asked.
        influences: What each example did.
        top: How many each way.
        db: The feedback store that the data came from.
    """
    values = influences.values_E.tolist()
    order = sorted(range(len(values)), key=lambda i: -values[i])
    missing = [] if db is not None else ["who judged: give the feedback store with --db"]
    voices = {} if db is None else _voices(db, influences)
    if db is not None and not any(voices.values()):
        missing.append(f"who judged: none of the data's judgments (origin) are in {db}")
    if any(item is None for item in influences.lessons.items):
        missing.append("which rows of the data they are: long texts were cut into several examples")
    causes = [_cause(influences, i, voices.get(i, ())) for i in order[:top] if values[i] > 0]
    others = [_cause(influences, i, voices.get(i, ())) for i in order[::-1][:top] if values[i] < 0]
    return Explanation(
        run,
        str(influences.lessons.run.path),
        tuple((str(q.prompt), q.answer, q.sign) for q in influences.queries),
        influences.unit,
        influences.change,
        float(influences.values_E.sum()),
        len(values),
        tuple(influences.points),
        influences.blocks,
        tuple(causes),
        tuple(others),
        _people(values, voices),
        tuple(missing),
    )


def _voices(db: str, influences: Influences) -> dict[int, tuple[Voice, ...]]:
    with Store(db, read_only=True) as store:
        return {
            i: voices_of(store, item.origin, item.chosen, item.rejected)
            for i, item in enumerate(influences.lessons.items)
            if isinstance(item, PreferencePair) and item.origin
        }


def _cause(influences: Influences, index: int, voices: Sequence[Voice]) -> Cause:
    item, value = influences.item(index), float(influences.values_E[index])
    share = float(influences.shares_E[index])
    if isinstance(item, PreferencePair):
        prompt, sides = prompt_text(item.prompt), (item.chosen, item.rejected)
        return Cause(item.pair_id, prompt, *sides, item.strength, value, share, tuple(voices), item.origin)
    if item is not None:
        return Cause("", prompt_text(item.prompt), item.completion, "", None, value, share, (), item.origin)
    decode = influences.lessons.model.tokenizer.decode
    (prompt_ids, completion_ids), *_ = influences.lessons.sequences([influences.lessons.data.examples[index]])
    return Cause("", decode(list(prompt_ids)), decode(list(completion_ids)), "", None, value, share, (), ())


def _people(values: Sequence[float], voices: Mapping[int, Sequence[Voice]]) -> tuple[Person, ...]:
    total: dict[str, float] = defaultdict(float)
    pairs: dict[str, int] = defaultdict(int)
    for index, spoken in voices.items():
        behind = {voice.annotator for voice in spoken if voice.verdict == "chosen"}
        for name in behind:
            total[name] += values[index] / len(behind)
            pairs[name] += 1
    return tuple(Person(name, pairs[name], total[name]) for name in sorted(total, key=lambda name: -total[name]))


def format_text(why: Explanation) -> str:
    """For people."""
    lines = []
    for prompt, answer, sign in why.questions:
        lines.append(f"{'why' if sign > 0 else 'rather than'} {_short(answer)!r} to {_short(prompt)!r}")
    if why.taught_by != why.run:
        lines.append(f"{why.run} learned from the reward model {why.taught_by}; what follows is about its reward")
    blocks = "block" if why.blocks == 1 else f"{why.blocks} blocks"
    lines += [
        f"{why.unit}: moved by {why.change:+.3f} in training; the {why.examples} examples add up to {why.estimate:+.3f}"
        f" by estimate (TracIn at {', '.join(why.points)}; linear layers of the head and the last {blocks})",
    ]
    for title, causes in (("towards it:", why.towards), ("against it:", why.against)):
        lines.append(title)
        for cause in causes:
            lines += _cause_lines(cause)
    if why.people:
        lines.append("by annotator (each pair divided among those whose verdict its label follows):")
        lines += [f"  {person.value:+.4f}  {person.name}, {person.pairs} pairs" for person in why.people]
    return "\n".join(lines + [f"not shown: {what}" for what in why.missing])


def _cause_lines(cause: Cause) -> list[str]:
    strength = "" if cause.strength is None else f"  strength {cause.strength:.3f}"
    said = ", ".join(f"{voice.annotator} said {voice.verdict}" for voice in cause.voices)
    lines = [f"  {cause.value:+.4f}  {abs(cause.share):.2%} of all  {cause.name}{strength}".rstrip()]
    lines += [f"      prompt:   {_short(cause.prompt)}"]
    lines += [f"      {'chosen:  ' if cause.rejected else 'shown:   '} {_short(cause.chosen)}"]
    lines += [f"      rejected: {_short(cause.rejected)}"] if cause.rejected else []
    return lines + ([f"      judged:   {said}"] if said else [])


def _short(text: str, room: int = 100) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= room else flat[: room - 3] + "..."
