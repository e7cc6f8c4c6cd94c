"""``trueup trace``: the whole life of one pair or labelled response, from its judgments to what each run made of it.

The three ledgers meet by id: a snapshot's row names its judgments (``origin``), a run's ``pairs.jsonl`` names its
pairs, or its responses where it was trained on labels (KTO). A pair is followed through both kinds of runs. Where one
of them is not at hand, the rest is shown and what is missing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trueup.data.pair_formats import PAIRS
from trueup.data.read import read_labelled, read_pairs
from trueup.errors import UsageError
from trueup.feedback.store.database import Store
from trueup.feedback.store.reading import read_judgments
from trueup.ledger import Damage, iterate_lines, parse_line, read_run
from trueup.types import Labelled, PreferencePair, prompt_text, response_key

SHOWN = 8
"""Steps that are printed of each run: the first, the last, and some between."""


@dataclass(frozen=True, slots=True)
class Voice:
    """One judgment of the pair, said in terms of its sides."""

    judgment: str
    annotator: str
    verdict: str
    """``chosen``, ``rejected``, ``tie``, ``skipped``, a rating's points, whether a side is acceptable, or ``revised``
    if a later one replaced it."""
    strength: int
    shown_first: str
    """``chosen`` or ``rejected``: which side stood left or on top; empty where one response was shown alone."""
    created_at: str
    simulated: bool
    active_seconds: float | None = None
    rationale: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """One training step of a run that saw the pair; of a run on labels, only one side of it, and then no margin."""

    step: int
    epoch: float | None
    chosen_reward: float | None
    rejected_reward: float | None
    margin: float | None


@dataclass(frozen=True)
class Life:
    """What is known of one pair, or of one labelled response, which is one side of a pair without the other."""

    pair_id: str
    """What the data calls the pair; other pairs may be called the same."""
    key: str
    """Hash of its content, which is what training goes by."""
    prompt: str
    chosen: str | None
    """The better response, or the one that is labelled good; None for a response that is labelled bad."""
    rejected: str | None
    """The worse response, or the one that is labelled bad; None for a response that is labelled good."""
    strength: float
    origin: tuple[str, ...]
    source: str
    voices: tuple[Voice, ...] = ()
    runs: dict[str, tuple[Passage, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def trace(pair: str, runs: Sequence[Path], *, db: str | None = None) -> Life:
    """Follow a pair, or a labelled response.

    Args:
        pair: Its id or the hash of its content (``key``), or the beginning of either.
        runs: Runs on pairs, rankings or labels (``trueup reward``, ``dpo``, ``kto``); the first one's data file holds
            the pair or response.
        db: The feedback store that the data came from.

    Raises:
        UsageError: No run, nothing of that name in the data, or several that begin so.
    """
    if not runs:
        raise UsageError(
            "no run was given", where="trace", fix="name at least one run directory: trueup trace ID runs/dpo"
        )
    record = read_run(runs[0])
    source = str(record["config"].get("data", ""))
    subject = _the_subject(pair, source, record["kind"], record["config"]["read"])
    missing: list[str] = []
    voices: tuple[Voice, ...] = ()
    if db is None:
        missing.append("judgments: give the feedback store with --db")
    elif not subject.origin:
        missing.append("judgments: the data file does not say which it came from (origin)")
    else:
        with Store(db, read_only=True) as store:
            voices = _voices(store, subject.origin, subject.chosen, subject.rejected)
        lost = set(subject.origin) - {voice.judgment for voice in voices}
        if lost:
            missing.append(f"{len(lost)} of {len(subject.origin)} judgments are not in {db}")
    damaged: list[Damage] = []
    passages = {str(run): _passages(run, subject, damaged) for run in runs}
    missing += [f"{damage}: the line is left out" for damage in damaged]
    missing += [f"{run}: no step of it saw this {subject.noun}" for run, steps in passages.items() if not steps]
    return Life(
        subject.pair_id,
        subject.key,
        subject.prompt,
        subject.chosen,
        subject.rejected,
        subject.strength,
        subject.origin,
        source,
        voices,
        passages,
        tuple(missing),
    )


@dataclass(frozen=True, slots=True)
class _Subject:
    """A pair or a labelled response, as a run's logs know it."""

    noun: str
    pair_id: str
    key: str
    prompt: str
    chosen: str | None
    rejected: str | None
    strength: float
    origin: tuple[str, ...]
    responses: Mapping[str, bool]
    """Key of each response -> whether it is the better one, or labelled good."""

    @classmethod
    def of_pair(cls, pair: PreferencePair) -> _Subject:
        keys = {response_key(pair.prompt, pair.rejected): False, response_key(pair.prompt, pair.chosen): True}
        prompt, chosen, rejected = prompt_text(pair.prompt), pair.chosen, pair.rejected
        return cls("pair", pair.pair_id, pair.key, prompt, chosen, rejected, pair.strength, pair.origin, keys)

    @classmethod
    def of_response(cls, item: Labelled) -> _Subject:
        chosen, rejected = (item.completion, None) if item.desirable else (None, item.completion)
        key, prompt, keys = item.key, prompt_text(item.prompt), {item.key: item.desirable}
        return cls("response", key, key, prompt, chosen, rejected, item.strength, item.origin, keys)


def _the_subject(wanted: str, source: str, kind: str, read: Mapping[str, Any]) -> _Subject:
    """The one whose id or key is, or begins with, ``wanted``; a whole id goes before beginnings of others.

    The data of a run on labels (``kto``) may be pairs, and then the name may be a pair's or a response's.
    """
    options = {name: read[name] for name in ("columns", "split", "verdicts") if name in read}
    subjects: list[_Subject] = []
    noun = "pairs"
    pairs = True
    if kind == "kto":
        labelled = read_labelled(source, on_bad="skip", **options)
        pairs = labelled.report.format in {layout.name for layout in PAIRS}
        noun = "pairs or responses" if pairs else "responses"
        subjects = [_Subject.of_response(item) for item in labelled.items]
    if pairs:
        subjects += [_Subject.of_pair(pair) for pair in read_pairs(source, on_bad="skip", **options).items]
    distinct = list({(s.key, s.pair_id, s.chosen is None): s for s in subjects}.values())
    exact = [s for s in distinct if wanted in (s.pair_id, s.key)]
    matches = exact or [s for s in distinct if s.pair_id.startswith(wanted) or s.key.startswith(wanted)]
    keys = {s.key for s in matches}
    if len(keys) == 1:
        return matches[0]
    some = ", ".join(s.key if s.pair_id == s.key else f"{s.pair_id} (key {s.key})" for s in matches[:5])
    raise UsageError(
        f"{len(keys)} {noun} have an id or key that begins with {wanted!r}" + (f": {some}" if some else ""),
        where=source,
        expected="one",
        fix=f"give a key, which no two {noun} share"
        if exact
        else "ids and keys are in metrics.jsonl and pairs.jsonl of a run; an id is also in the data file (pair_id)",
    )


def _voices(store: Store, ids: Sequence[str], chosen: str | None, rejected: str | None) -> tuple[Voice, ...]:
    voices = []
    for row in read_judgments(store, ids):
        sides = {
            name: "chosen" if text == chosen else "rejected" if text == rejected else "?" for name, text in row.texts
        }
        answer = row.answer or {}
        if row.superseded:
            verdict = "revised"
        elif row.answer is None:
            verdict = "skipped"
        elif answer.get("tiers"):
            verdict = _of_ranking(answer["tiers"], sides)
        elif answer.get("scores"):
            points = ", ".join(f"{axis} {point}" for axis, point in sorted(answer["scores"].items()))
            verdict = f"{sides.get(str(answer.get('response')), '?')} rated {points}"
        elif "acceptable" in answer:
            verdict = (
                f"{sides.get(str(answer.get('response')), '?')} {'' if answer['acceptable'] else 'not '}acceptable"
            )
        else:
            verdict = sides.get(str(answer.get("preferred")), "tie")
        seconds = row.active_ms / 1000 if row.active_ms is not None else None
        first = "" if len(sides) == 1 else sides.get(row.shown[0], "?") if row.shown else "?"
        voices.append(
            Voice(
                row.id,
                row.annotator,
                verdict,
                int(answer.get("strength", 0)),
                first,
                row.created_at,
                row.simulated,
                seconds,
                row.rationale,
            )
        )
    return tuple(voices)


def _of_ranking(tiers: Sequence[Sequence[str]], sides: dict[str, str]) -> str:
    place = {sides.get(name): number for number, tier in enumerate(tiers) for name in tier}
    if "chosen" not in place or "rejected" not in place:
        return "not ranked"
    gap = place["rejected"] - place["chosen"]
    return "chosen" if gap > 0 else "rejected" if gap < 0 else "tie"


def _passages(run: Path, subject: _Subject, damaged: list[Damage]) -> tuple[Passage, ...]:
    file = run / "pairs.jsonl"
    if not file.exists():
        return ()
    epochs = {row.get("step"): row.get("epoch") for _, row in _rows(run / "metrics.jsonl", (), damaged)}
    passages = []
    for number, row in _rows(file, (subject.key, subject.pair_id, *subject.responses), damaged):
        try:
            rewards = _rewards(row, subject)
            if rewards is not None:
                passages.append(Passage(row["step"], epochs.get(row["step"]), *rewards))
        except (KeyError, TypeError, ValueError) as error:
            damaged.append(Damage(file, number, f"no row of a pair: {error!r}"))
    return tuple(passages)


def _rewards(row: Mapping[str, Any], subject: _Subject) -> tuple[float | None, float | None, float | None] | None:
    """Rewards of both sides and their margin, as far as a row of pairs.jsonl has them; None if it is of others."""
    if "desirable" in row:
        if row["key"] not in subject.responses:
            return None
        reward = float(row["reward"])
        return (reward, None, None) if subject.responses[row["key"]] else (None, reward, None)
    # Without a key the row's id is the key, or the row is of a run from before there were keys.
    names = (subject.key, subject.pair_id)
    if row.get("key") == subject.key or ("key" not in row and row.get("pair_id") in names):
        return float(row["chosen_reward"]), float(row["rejected_reward"]), float(row["margin"])
    return None


def _rows(file: Path, words: Sequence[str], damaged: list[Damage]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and content of each line that holds one of ``words`` (any line without words), one line at a time."""
    needles = [word.encode("utf-8", "surrogatepass") for word in words]
    for number, line in iterate_lines(file):
        if needles and not any(needle in line for needle in needles):
            continue
        try:
            yield number, parse_line(line)
        except ValueError as error:
            damaged.append(Damage(file, number, str(error)))


def format_text(life: Life) -> str:
    """For people."""
    noun = "response" if life.chosen is None or life.rejected is None else "pair"
    lines = [
        f"{noun} {life.pair_id}, from {life.source}" + (f", key {life.key}" if life.key != life.pair_id else ""),
        f"  prompt:   {_short(life.prompt)}",
    ]
    if noun == "pair":
        lines += [f"  chosen:   {_short(life.chosen or '')}", f"  rejected: {_short(life.rejected or '')}"]
        lines.append(f"  strength: {life.strength:.3f} (probability that chosen is better)")
    else:
        label = "good" if life.rejected is None else "bad"
        lines.append(f"  {label + ':':<9} {_short(life.chosen or life.rejected or '')}")
        lines.append(f"  strength: {life.strength:.3f} (probability that the label is right)")
    if life.voices:
        lines.append(f"judged {len(life.voices)} times:")
        lines += map(_voice_line, life.voices)
    for run, steps in life.runs.items():
        if steps:
            lines.append(f"{run}: seen {len(steps)} times")
            lines += [_passage_line(passage, noun) for passage in _some(steps)]
            lines.append(f"  in the end the model {_verdict(steps)}")
    lines += [f"not shown: {what}" for what in life.missing]
    return "\n".join(lines)


def _voice_line(voice: Voice) -> str:
    extras = [f"{voice.active_seconds:.0f} s"] if voice.active_seconds is not None else []
    extras += ["simulated"] if voice.simulated else []
    rationale = f" {_short(voice.rationale, 60)!r}" if voice.rationale else ""
    return (
        f"  {voice.created_at[:16]}  {voice.annotator}: {voice.verdict}"
        + (f" (strength {voice.strength})" if voice.strength else "")
        + (f"; {voice.shown_first} was shown first" if voice.shown_first else "")
        + (f"; {', '.join(extras)}" if extras else "")
        + rationale
    )


def _passage_line(passage: Passage, noun: str) -> str:
    line = f"  step {passage.step:>6}  " + (f"epoch {passage.epoch:.2f}  " if passage.epoch is not None else "")
    if passage.margin is not None:
        line += f"margin {passage.margin:+.3f}  "
    sides = [("chosen", passage.chosen_reward), ("rejected", passage.rejected_reward)]
    if noun == "response":
        return line + "".join(f"reward {reward:+.3f}" for _, reward in sides if reward is not None)
    return line + f"({', '.join(f'{name} {reward:+.3f}' for name, reward in sides if reward is not None)})"


def _verdict(steps: Sequence[Passage]) -> str:
    """What the last rewards of the sides say of the label; of a single response its reward is measured from 0."""
    chosen = next((p.chosen_reward for p in reversed(steps) if p.chosen_reward is not None), 0.0)
    rejected = next((p.rejected_reward for p in reversed(steps) if p.rejected_reward is not None), 0.0)
    last = steps[-1].margin if steps[-1].margin is not None else chosen - rejected
    return f"{'agrees with' if last > 0 else 'goes against' if last < 0 else 'does not decide'} the label"


def _some(steps: Sequence[Passage]) -> list[Passage]:
    if len(steps) <= SHOWN:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (SHOWN - 1))] for i in range(SHOWN)]


def _short(text: str, room: int = 100) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= room else flat[: room - 3] + "..."
