"""``trueup trace``: the whole life of one pair or labelled response, from its judgments to what each run made of it.

The three ledgers meet by id: a snapshot's row names its judgments (``origin``), a run's ``pairs.jsonl`` names its
pairs, or its responses where it was trained on labels (KTO). A pair is followed through both kinds of runs. Where one
of them is not at hand, the rest is shown and what is missing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueup.commands.life_labels import Labels, labels_of
from trueup.commands.life_steps import MarginLoss, Standing, logit, margin_loss, pull, pulls, sigmoid
from trueup.commands.located import places
from trueup.data.pair_formats import PAIRS
from trueup.data.read import read_labelled, read_pairs
from trueup.errors import TrueupError, UsageError
from trueup.feedback.store.database import Store
from trueup.feedback.store.reading import read_judgments
from trueup.ledger import Damage, iterate_lines, parse_line, read_run
from trueup.types import Labelled, PreferencePair, prompt_text, response_key

if TYPE_CHECKING:
    from trueup.commands.life_models import Measured


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
    """Of a reward model and of DPO: the logit of the probability that the model gives to chosen being better."""
    probability: float | None = None
    loss: float | None = None
    """Of this pair alone, its weight apart; None where the objective's loss is of more than the margin."""
    share: float | None = None
    """Of the pull of all pairs of the step at their margins (``life_steps``)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the policy of a run that did not train on the pair said to its prompt at a step."""

    step: int
    text: str
    score: float | None
    """The reward that it got; None where a part of the reward could not score it."""


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
    weight: float = 1.0
    target_logit: float | None = None
    """The margin at which the pair stops pulling, logit(strength); None for strength 1, which has none."""
    labels: dict[str, float] = field(default_factory=dict)
    """Probability that chosen is better, by the method that makes the label."""
    why_labels_differ: str = ""
    replies: dict[str, tuple[Reply, ...]] = field(default_factory=dict)
    models: dict[str, Measured] = field(default_factory=dict)
    """What the models of each run say, where they were opened."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def trace(pair: str, runs: Sequence[Path], *, db: str | None = None, models: bool = False) -> Life:
    """Follow a pair, or a labelled response.

    Args:
        pair: Its id or the hash of its content (``key``), or the beginning of either.
        runs: Runs on pairs, rankings or labels (``trueup reward``, ``dpo``, ``kto``), of which the first one's data
            file holds the pair or response; and online runs, whose answers to the same prompt are shown.
        db: The feedback store that the data came from.
        models: Open the models of the runs and measure what only they can say.

    Raises:
        UsageError: No run on judged data, nothing of that name in the data, or several that begin so.
    """
    records = {run: read_run(run) for run in runs}
    judged = [run for run in runs if "reward" not in records[run]["config"]]
    if not judged:
        what = "no run was given" if not runs else "no run on pairs, rankings or labels was given"
        fix = "name at least one run directory: trueup trace ID runs/dpo"
        raise UsageError(what, where="trace", expected="a run of reward, dpo or kto", fix=fix)
    record = records[judged[0]]
    source = places(judged[0], record).get("data") or str(record["config"].get("data", ""))
    subject = _the_subject(pair, source, record["kind"], record["config"]["read"])
    missing: list[str] = []
    voices, labels = _judgments(db, subject, missing)
    damaged: list[Damage] = []
    passages = {str(run): _passages(run, subject, damaged) for run in judged}
    for run in judged:
        passages[str(run)] = _weighed(run, records[run], subject, passages[str(run)], missing)
    replies = {str(run): _replies(run, subject, damaged) for run in runs if run not in judged}
    missing += [f"{damage}: the line is left out" for damage in dict.fromkeys(damaged)]
    missing += [f"{run}: no step of it saw this {subject.noun}" for run, steps in passages.items() if not steps]
    missing += [f"{run}: this prompt is none of its probes" for run, answers in replies.items() if not answers]
    measured = _measured(runs, subject, passages, missing) if models else {}
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
        subject.weight,
        logit(subject.strength),
        labels.strengths if labels else {},
        labels.why if labels else "",
        replies,
        measured,
    )


def _judgments(db: str | None, subject: _Subject, missing: list[str]) -> tuple[tuple[Voice, ...], Labels | None]:
    """Who said what, and what each way to make labels makes of it."""
    if db is None:
        missing.append("judgments: give the feedback store with --db")
        return (), None
    if not subject.origin:
        missing.append("judgments: the data file does not say which it came from (origin)")
        return (), None
    with Store(db, read_only=True) as store:
        voices = voices_of(store, subject.origin, subject.chosen, subject.rejected)
        labels = (
            labels_of(store, subject.origin, subject.chosen or "", subject.rejected or "") if subject.pair else None
        )
    lost = set(subject.origin) - {voice.judgment for voice in voices}
    if lost:
        missing.append(f"{len(lost)} of {len(subject.origin)} judgments are not in {db}")
    return voices, labels


def _measured(
    runs: Sequence[Path], subject: _Subject, passages: Mapping[str, Sequence[Passage]], missing: list[str]
) -> dict[str, Measured]:
    """What the models of each run say of a pair; a model that cannot be opened is said, and the others are asked."""
    if subject.pair is None:
        missing.append("what models say is measured of pairs, and this is a response")
        return {}
    from trueup.commands.life_models import measure

    measured = {}
    for run in runs:
        try:
            measured[str(run)] = measure(run, subject.pair, [p.step for p in passages.get(str(run), ())])
        except TrueupError as error:
            missing.append(f"{run}: what its models say ({error})")
    return measured


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
    weight: float = 1.0
    pair: PreferencePair | None = None

    @classmethod
    def of_pair(cls, pair: PreferencePair) -> _Subject:
        keys = {response_key(pair.prompt, pair.rejected): False, response_key(pair.prompt, pair.chosen): True}
        prompt, chosen, rejected = prompt_text(pair.prompt), pair.chosen, pair.rejected
        named = ("pair", pair.pair_id, pair.key, prompt, chosen, rejected)
        return cls(*named, pair.strength, pair.origin, keys, pair.weight, pair)

    @classmethod
    def of_response(cls, item: Labelled) -> _Subject:
        chosen, rejected = (item.completion, None) if item.desirable else (None, item.completion)
        key, prompt, keys = item.key, prompt_text(item.prompt), {item.key: item.desirable}
        return cls("response", key, key, prompt, chosen, rejected, item.strength, item.origin, keys, item.weight)


def _the_subject(wanted: str, source: str, kind: str, read: Mapping[str, Any]) -> _Subject:
    """The one whose id or key is, or begins with, ``wanted``; a whole id goes before beginnings of others.

    The data of a run on labels (``kto``) may be pairs, and then the name may be a pair's or a response's.
    """
    options = _reading(read)
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


def _reading(read: Mapping[str, Any]) -> dict[str, Any]:
    """How the run read its data, as far as it decides what the pairs are."""
    return {name: read[name] for name in ("columns", "split", "verdicts") if name in read}


def voices_of(store: Store, ids: Sequence[str], chosen: str | None, rejected: str | None) -> tuple[Voice, ...]:
    """Judgments by id, each said in terms of the sides of a pair."""
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


def _weighed(
    run: Path, record: Mapping[str, Any], subject: _Subject, steps: tuple[Passage, ...], missing: list[str]
) -> tuple[Passage, ...]:
    """The same steps with probability and loss, and the pair's share of the pull of each step's pairs."""
    if subject.pair is None or not any(step.margin is not None for step in steps):
        return steps
    loss = margin_loss(record["kind"], record["config"])
    if loss is None:
        missing.append(f"{run}: this pair's loss, which with its objective or heads is of more than the margin")
        return steps
    source = places(run, record).get("data") or str(record["config"].get("data", ""))
    try:
        pairs = read_pairs(source, on_bad="skip", **_reading(record["config"]["read"])).items
    except TrueupError as error:
        missing.append(f"{run}: losses and shares, which go by its data ({error})")
        return steps
    standings = {pair.key: Standing(pair.strength, pair.weight, pair.margin or 0.0) for pair in pairs}
    own = standings.get(subject.key)
    if own is None:
        return steps
    rows = (row for _, row in _rows(run / "pairs.jsonl", (), []))
    total = pulls(rows, {step.step for step in steps}, loss, standings)
    return tuple(_with_loss(step, loss, own, total[step.step]) for step in steps)


def _with_loss(step: Passage, loss: MarginLoss, own: Standing, total: float | None) -> Passage:
    if step.margin is None or not math.isfinite(step.margin):
        return step
    value, _ = loss(step.margin, own.strength, own.margin)
    share = pull(loss, step.margin, own) / total if total else total
    return replace(step, probability=sigmoid(step.margin), loss=value, share=share)


def _replies(run: Path, subject: _Subject, damaged: list[Damage]) -> tuple[Reply, ...]:
    """Answers to the prompt among the run's probes, in order."""
    return tuple(
        Reply(row["step"], str(row.get("completion", "")), row.get("score"))
        for _, row in _rows(run / "samples.jsonl", (), damaged)
        if row.get("prompt") == subject.prompt
    )
