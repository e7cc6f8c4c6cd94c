"""A constitution beside people: labels of a file of pairs against what it says, revisions for people to review."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trueup.collectors.constitution import read_constitution
from trueup.collectors.constitution_labels import judge_report, label_json, label_pairs, training_pair
from trueup.collectors.constitution_store import queue_reviews, reviewed, reviews, store_labels
from trueup.commands.constitution_parts import clamp_of, open_constitutional_judge, piece, read_mapping, read_whole
from trueup.commands.constitution_people import disagreement_page
from trueup.config import Model
from trueup.data.read import read_pairs
from trueup.engine.device import tuned_process
from trueup.errors import DataError, UsageError, near_file
from trueup.evaluation.intervals import wilson
from trueup.feedback.store.database import Store
from trueup.feedback.store.reading import read_project
from trueup.ledger import write_json
from trueup.types import PreferencePair, content_id

REVISION = ("state", "original", "answer", "prompt", "rounds", "number")
"""Of a row of ``revisions.jsonl``, what a review needs."""
CHUNK = 32
"""Pairs that are written at a time."""


def label_file(
    source: str,
    judge: str,
    out: Path,
    *,
    constitution: Path | None = None,
    clamp: str | None = None,
    limit: int | None = None,
    db: Path | None = None,
) -> Iterator[str]:
    """Label pairs into ``out``; yields lines for people. A call that was killed goes on where it was.

    Which answer stands first is drawn from the pair's content, not from what the file prefers.

    Raises:
        DataError: The file has no pairs.
        UsageError: ``out`` holds labels of other work.
    """
    principles = read_constitution(constitution)
    bounds = None if clamp is None else _bounds(clamp)
    pairs = list(read_pairs(source).items)[:limit]
    if not pairs:
        raise DataError("no pairs", where=source, expected="rows with prompt, chosen and rejected")
    with tuned_process():
        opened = open_constitutional_judge(judge, principles, Model(name=judge.partition("#")[0]))
        asked_for, bounds = bounds, clamp_of(bounds, opened)
        made_of = {
            "pairs": content_id([pair.key for pair in pairs]),
            "constitution": principles.sha,
            "judge": getattr(opened, "fingerprint", judge),
            "clamp": bounds,
        }
        _same_work(out, made_of)
        rows: list[dict[str, Any]] = []
        for at in range(0, len(pairs), CHUNK):
            some = pairs[at : at + CHUNK]
            rows += piece(
                out / "parts" / f"labels-{at // CHUNK:04d}.jsonl",
                lambda some=some: [  # type: ignore[misc]
                    label_json(label, principles, opened.name)
                    for label in label_pairs([_sides(p) for p in some], principles, opened, clamp=bounds)
                ],
            )
    truth = [p.strength if _as_listed(p) else 1 - p.strength for p in pairs]
    report = judge_report(rows, truth)
    piece(out / "labels.jsonl", lambda: rows)
    trained = [pair for row in rows if (pair := training_pair(row)) is not None]
    piece(out / "pairs.jsonl", lambda: trained)
    write_json(out / "report.json", made_of | {"source": source, "annotator": principles.annotator, "report": report})
    if db is not None:
        store_labels(db, f"constitution {principles.name}", content_id(made_of), rows, principles, simulated=False)
    if bounds is not None and bounds != asked_for:
        yield f"the judge reasons first: labels are held between {bounds[0]} and {bounds[1]}"
    yield from _lines(report, out)


def _bounds(clamp: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in clamp.split(","))
    except ValueError:
        raise UsageError(f"{clamp!r}", where="--clamp", expected="LOW,HIGH, as 0.4,0.6") from None
    return low, high


def _same_work(out: Path, made_of: dict[str, Any]) -> None:
    """Refuse a folder with labels of something else; mark a new one."""
    import json

    wanted = json.loads(json.dumps(made_of))
    marker = out / "made-of.json"
    if marker.exists() and any((out / "parts").glob("*.jsonl")):  # a call that labelled nothing binds nobody
        known = read_mapping(marker, "another --out")
        other = sorted(key for key in wanted if known.get(key) != wanted[key])
        if other:
            raise UsageError(f"the labels here differ in {', '.join(other)}", where=str(out), fix="another --out")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json(marker, wanted)


def _as_listed(pair: PreferencePair) -> bool:
    """Whether the chosen answer stands first: a coin of the pair's content that does not know which is chosen."""
    return (int(content_id(sorted((pair.chosen, pair.rejected))), 16) & 1 == 0) == (pair.chosen < pair.rejected)


def _sides(pair: PreferencePair) -> tuple[Any, str, str]:
    first, second = (pair.chosen, pair.rejected) if _as_listed(pair) else (pair.rejected, pair.chosen)
    return pair.prompt, first, second


def _lines(report: dict[str, Any], out: Path) -> Iterator[str]:
    position, agreed = report["position"], report["agreement"]
    yield f"{report['pairs']} pairs, {report['without_verdict']} without a verdict, {report['ties']} ties"
    if position["bias"] is not None:
        yield (
            f"place: whatever is shown first has {position['first_shown']:.2f}; the order moves a verdict by "
            f"{position['bias']:.2f} on average and turns {100 * position['flips']:.0f} % of them round"
        )
    if agreed["pairs"]:
        share = wilson(agreed["right"], agreed["pairs"])
        yield (
            f"agreement with the file: {100 * share.estimate:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}] of "
            f"{agreed['pairs']} pairs; Brier {report['calibration']['brier']:.3f} (0.25 says one half to everything)"
        )
    for name, line in report["principles"].items():
        yield f"  {name}: {line['uses']} uses, {line['flips']} flips by order, {line['against']} against the label"
    yield f"{out / 'pairs.jsonl'}: for trueup dpo"


def review_lines(
    revisions: Path,
    db: Path,
    project: str,
    *,
    constitution: Path | None,
    overlap: int,
    limit: int | None,
    out: Path | None = None,
) -> Iterator[str]:
    """Queue the revisions of a round, once, and say what people answered so far; ``out`` gets the page of it.

    Raises:
        DataError: The file holds no revision, or one by a principle that the constitution does not have.
    """
    principles = read_constitution(constitution)
    if not revisions.is_file():
        raise DataError(
            "no revisions: there is no such file",
            where=str(revisions),
            expected="revisions.jsonl of a round",
            fix=near_file(revisions),
        )
    lines = read_whole(revisions)
    for number, line in enumerate(lines, 1):
        if missing := [name for name in REVISION if name not in line]:
            raise DataError(
                f"has no {', '.join(missing)}", where=f"{revisions}:{number}", expected="revisions.jsonl of a round"
            )
    rows = [line for line in lines if line["state"] == "revised" and str(line["original"]).strip()][:limit]
    if not rows:
        raise DataError(
            "no revisions", where=str(revisions), expected="revisions.jsonl of a round that rewrote answers"
        )
    project_id = queue_reviews(db, project, f"review {content_id(rows)}", rows, principles, overlap=overlap)
    yield f"{len(rows)} revisions in {project!r}: trueup serve --db {db}"
    with Store(db, read_only=True) as store:
        judged = read_project(store, project_id)
    for name, line in sorted(reviewed(judged).items()):
        n = round(line["reviews"])
        better, follows = wilson(line["better"], n), wilson(line["follows"], n)
        yield (
            f"  {name}: {n} reviews; better than the original {100 * better.estimate:.0f} % "
            f"[{100 * better.low:.0f}, {100 * better.high:.0f}], follows the principle {100 * follows.estimate:.0f} % "
            f"[{100 * follows.low:.0f}, {100 * follows.high:.0f}]"
        )
    if out is not None:
        yield from disagreement_page(reviews(judged), rows, revisions.with_name("labels.jsonl"), out)
