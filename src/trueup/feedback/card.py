"""The quality card of a snapshot: who judged, how far they agree, what biases them, what was left out, what it is not.

``card_data`` gives plain JSON values, ``card_html`` one self-contained page without scripts or outside resources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueup.feedback.quality import report
from trueup.feedback.records import Judged
from trueup.feedback.selection import Selection, Settings
from trueup.types import prompt_text

SHOWN = 5
"""Open pairs shown on the card."""

BINS = 10


def card_data(judged: Judged, settings: Settings, selection: Selection, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Everything on the card, numbers rounded to six digits so that the same judgments give the same bytes."""
    people = report.annotators(judged)["annotators"]
    for row in people:
        row["dropped"] = row["annotator"] in settings.drop_annotators
    used = replace(judged, judgments=tuple(r for r in judged.judgments if r.annotator not in settings.drop_annotators))
    open_pairs = report.disagreement(used, method=settings.method, most=SHOWN)
    found = {
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
        "items_dropped": manifest["items_dropped"],
        "pairs_dropped": manifest["pairs_dropped"],
        "strength": _histogram(
            [row["strength"] for rows in selection.rows.values() for row in rows if "strength" in row]
        ),
        "agreement": report.agreement(used)["rows"],
        "annotators": people,
        "bias": report.bias(used),
        "gold": _gold(report.gold(judged)["rows"]),
        "open_pairs": {
            "shared": open_pairs["pairs"],
            "unanimous": open_pairs["unanimous"],
            "rows": [_open(row) for row in open_pairs["rows"]],
        },
        "overlap": report.overlap(used, rounds=10)["rows"],
    }
    found["limits"] = limits(found)
    rounded: dict[str, Any] = _rounded(found)
    return rounded


def limits(card: Mapping[str, Any]) -> list[str]:
    """What this data cannot carry, in sentences; there is always at least one."""
    said = []
    if card["simulated"]:
        said.append("These judgments are simulated. They say nothing about what people prefer.")
    raters = sum(row["judgments"] > 0 and not row["dropped"] for row in card["annotators"])
    if raters < 3:
        said.append(f"Only {raters} annotator{'s' if raters != 1 else ''} judged: this is their taste, not a crowd's.")
    if not any(row["pairable"] for row in card["agreement"]):
        said.append("No item was judged by two people, so agreement is unknown.")
    for row in card["agreement"]:
        alpha = row["alpha"]
        if alpha["value"] is not None and alpha["value"] < 0.4 and row["axis"] != "strength":
            said.append(
                f"People agree little on {row['kind']} items ({row['axis']}, alpha {alpha['value']:.2f}): "
                "train on the soft labels, not on the winner alone."
            )
    if card["gold"]["items"] == 0:
        said.append("No hidden gold items were used, so nobody's accuracy is known.")
    if card["gold"]["doubtful"]:
        said.append(f"{card['gold']['doubtful']} gold keys are contradicted by most annotators: check the keys.")
    suspects = [row["annotator"] for row in card["annotators"] if row["signs"] and not row["dropped"]]
    if suspects:
        said.append(f"Judgments of annotators with open signs are included: {', '.join(suspects)}.")
    said += card["bias"]["verdicts"]
    splits = {entry["split"] for entry in card["files"]}
    if "test" not in splits:
        said.append("There is no test split: the prompts were too few.")
    if len(card["guidelines"]) > 1:
        said.append(f"Judgments were made under {len(card['guidelines'])} guideline versions.")
    said.append("Preferences of these annotators on these prompts; other people and other tasks may differ.")
    return said


def _gold(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Gold without prompts or keys: a card travels with the data, and gold must stay hidden."""
    hidden = [row for row in rows if row["stream"] == "gold"]
    answered = sum(row["answered"] for row in hidden)
    return {
        "items": len(hidden),
        "answered": answered,
        "accuracy": sum(row["right"] for row in hidden) / answered if answered else None,
        "burned": sum(row["burned"] for row in hidden),
        "doubtful": sum(row["doubtful"] for row in hidden),
        "longest_exposure": max((row["exposure"] for row in hidden), default=0),
    }


def _open(row: Mapping[str, Any]) -> dict[str, Any]:
    prompt = row["prompt"] if isinstance(row["prompt"], str) else " / ".join(turn["content"] for turn in row["prompt"])
    said = [
        {"side": side, "annotator": one["annotator"], "rationale": one["rationale"]}
        for side, given in row["rationales"].items()
        for one in given
        if one["rationale"]
    ]
    return {
        "item": row["item"],
        "prompt": _cut(prompt_text(prompt), 300),
        "first": _cut(row["first"]["text"], 400),
        "second": _cut(row["second"]["text"], 400),
        "p_first": row["p_first"],
        "entropy": row["entropy"],
        "votes": row["votes"],
        "rationales": said[:6],
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
