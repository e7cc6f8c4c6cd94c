"""The quality card of a snapshot: who judged, how far they agree, what biases them, what was left out, what it is not.

``card_data`` gives plain JSON values, ``card_html`` one self-contained page without scripts or outside resources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueup.feedback.quality.agreement_report import agreement_report
from trueup.feedback.quality.bias_report import bias_report
from trueup.feedback.quality.comparisons import COMPARED, votes
from trueup.feedback.quality.disagreement import DisputedPair, disagreement_report
from trueup.feedback.quality.gold_report import GoldReport, gold_report
from trueup.feedback.quality.overlap import overlap_report
from trueup.feedback.quality.people import annotator_report
from trueup.feedback.snapshot.candidates import SnapshotSettings
from trueup.feedback.snapshot.selection import Selection
from trueup.feedback.store.records import TRAINABLE, Judged
from trueup.types import prompt_text

SHOWN = 5
"""Open pairs shown on the card."""

BINS = 10


def card_data(
    judged: Judged, settings: SnapshotSettings, selection: Selection, manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything on the card, numbers rounded to six digits so that the same judgments give the same bytes."""
    people = [
        row.to_dict() | {"dropped": row.annotator in settings.drop_annotators}
        for row in annotator_report(judged, surplus=settings.surplus).annotators
    ]
    used = replace(judged, judgments=tuple(filter(settings.counts, judged.judgments)))
    open_pairs = disagreement_report(used, method=selection.method, most=SHOWN)
    card = {
        "title": f"{judged.project}: quality card",
        "snapshot": manifest["snapshot"],
        "project": judged.project,
        "simulated": manifest["simulated"],
        "format": settings.format,
        "counts": manifest["counts"],
        "files": manifest["files"],
        "filters": manifest["filters"],
        "aggregation": manifest["aggregation"],
        "guidelines": manifest["guidelines"],
        "split_policy": manifest["split_policy"],
        "first_judgment": manifest["first_judgment"],
        "last_judgment": manifest["last_judgment"],
        "notes": manifest["notes"],
        "verdicts": _verdicts(used),
        "items_dropped": manifest["items_dropped"],
        "pairs_dropped": manifest["pairs_dropped"],
        "strength": _histogram(
            [row["strength"] for rows in selection.rows.values() for row in rows if "strength" in row]
        ),
        "agreement": [row.to_dict() for row in agreement_report(used).rows],
        "annotators": people,
        "bias": bias_report(used).to_dict(),
        "gold": _gold(gold_report(judged if settings.surplus else judged.without_surplus())),
        "open_pairs": {
            "shared": open_pairs.pairs,
            "unanimous": open_pairs.unanimous,
            "rows": [_open(row) for row in open_pairs.rows],
        },
        "overlap": overlap_report(used, rounds=10).to_dict()["rows"],
    }
    card["limits"] = limits(card)
    rounded: dict[str, Any] = _rounded(card)
    return rounded


def limits(card: Mapping[str, Any]) -> list[str]:
    """What this data cannot carry, in sentences; there is always at least one."""
    sentences = []
    if card["simulated"]:
        sentences.append("These judgments are simulated. They say nothing about what people prefer.")
    sentences += card["notes"]
    raters = sum(row["judgments"] > 0 and not row["dropped"] for row in card["annotators"])
    if raters < 3:
        sentences.append(
            f"Only {raters} annotator{'s' if raters != 1 else ''} judged: this is their taste, not a crowd's."
        )
    if not any(row["pairable"] for row in card["agreement"]):
        sentences.append("No item was judged by two people, so agreement is unknown.")
    for row in card["agreement"]:
        alpha = row["alpha"]
        if alpha["value"] is not None and alpha["value"] < 0.4 and row["axis"] != "strength":
            sentences.append(
                f"People agree little on {row['kind']} items ({row['axis']}, alpha {alpha['value']:.2f}): "
                "train on the soft labels, not on the winner alone."
            )
    if card["gold"]["items"] == 0:
        sentences.append("No hidden gold items were used, so nobody's accuracy is known.")
    if card["gold"]["doubtful"]:
        sentences.append(f"{card['gold']['doubtful']} gold keys are contradicted by most annotators: check the keys.")
    suspects = [row["annotator"] for row in card["annotators"] if row["signs"] and not row["dropped"]]
    if suspects:
        sentences.append(f"Judgments of annotators with open signs are included: {', '.join(suspects)}.")
    sentences += card["bias"]["verdicts"]
    splits = {entry["split"] for entry in card["files"]}
    if "test" not in splits:
        sentences.append("There is no test split: the prompts were too few.")
    if len(card["guidelines"]) > 1:
        sentences.append(f"Judgments were made under {len(card['guidelines'])} guideline versions.")
    sentences.append("Preferences of these annotators on these prompts; other people and other tasks may differ.")
    return sentences


def _verdicts(judged: Judged) -> dict[str, int]:
    """What people answered to items that may train: choices, and all that chooses no side."""
    cast = votes(judged, kinds=(*COMPARED, "binary"))
    trainable = {item.id for item in judged.items.values() if item.stream in TRAINABLE}
    rows = [row for row in judged.judgments if row.item in trainable]
    return {
        "a side chosen": sum(vote.sign != 0 for vote in cast),
        "a tie": sum(vote.sign == 0 and not vote.both_bad for vote in cast),
        "both bad": sum(vote.both_bad for vote in cast),
        "skipped": sum(row.answer is None for row in rows),
        "corrected, the last one counts": sum(row.revision > 1 for row in rows),
    }


def _gold(known: GoldReport) -> dict[str, Any]:
    """Gold without prompts or keys: a card travels with the data, and gold must stay hidden."""
    hidden = [row for row in known.rows if row.stream == "gold"]
    answered = sum(row.answered for row in hidden)
    return {
        "items": len(hidden),
        "answered": answered,
        "accuracy": sum(row.right for row in hidden) / answered if answered else None,
        "burned": sum(row.burned for row in hidden),
        "doubtful": sum(row.doubtful for row in hidden),
        "longest_exposure": max((row.exposure for row in hidden), default=0),
    }


def _open(row: DisputedPair) -> dict[str, Any]:
    prompt = row.prompt if isinstance(row.prompt, str) else " / ".join(turn.content for turn in row.prompt)
    rationales = [
        {"side": side, "annotator": verdict.annotator, "rationale": verdict.rationale}
        for side, verdicts in row.rationales.items()
        for verdict in verdicts
        if verdict.rationale
    ]
    return {
        "item": row.item,
        "prompt": _cut(prompt_text(prompt), 300),
        "first": _cut(row.first.text, 400),
        "second": _cut(row.second.text, 400),
        "p_first": row.p_first,
        "entropy": row.entropy,
        "votes": row.votes,
        "rationales": rationales[:6],
    }


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _histogram(values: Sequence[float]) -> list[dict[str, Any]]:
    """Counts of strengths in ten even bins of [0.5, 1]."""
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - 0.5) * 2 * BINS))] += 1
    return [{"from": 0.5 + k / (2 * BINS), "to": 0.5 + (k + 1) / (2 * BINS), "rows": n} for k, n in enumerate(counts)]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) + 0.0  # no minus zero
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def card_html(card: Mapping[str, Any]) -> str:
    """The page; everything that came from people is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "percent": _percent}
    return environment.get_template("card.html.j2").render(card=card)


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _percent(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"
