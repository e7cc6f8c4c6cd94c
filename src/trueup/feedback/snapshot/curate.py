"""A frozen snapshot of a project's judgments: training files, manifest and quality card.

    out/train/pairs-<sha>.jsonl   out/validation/...   out/test/...   out/manifest.json   out/card.html   out/card.json

The same judgments and settings give the same bytes. A directory that holds another snapshot is never written over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trueup.data.splits import SPLITS
from trueup.errors import DataError, UsageError
from trueup.feedback.quality.consensus import AGGREGATION_VERSION
from trueup.feedback.snapshot.candidates import FORMATS, SnapshotSettings
from trueup.feedback.snapshot.card import card_data, card_html
from trueup.feedback.snapshot.selection import Selection, select_rows
from trueup.feedback.store.database import Store
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.records import DEFAULT_METHOD, Judged
from trueup.ledger import sync_folder
from trueup.ledger.record import versions

SPLIT_POLICY = (
    "A prompt's split follows from its hash: train 80 %, validation 10 %, test 10 %. The random hold-out stream is "
    "always test. A prompt that would stand in two splits stays in the one furthest from training."
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was written, or was there already with the same content."""

    path: Path
    identity: str
    """First 16 hex digits of the SHA-256 of everything that decides the content."""
    files: Mapping[str, Path]
    """Split -> file of rows."""
    rows: Mapping[str, int]
    manifest: Mapping[str, Any]
    fresh: bool
    """False if the directory held this very snapshot."""


def curate(
    source: Store | Judged,
    project_id: str | None,
    out_dir: str | Path,
    *,
    method: str = DEFAULT_METHOD,
    format: str = "preference",
    min_votes: int = 1,
    min_strength: float = 0.5,
    drop_annotators: Sequence[str] = (),
    adjudicated: Mapping[str, Mapping[str, Any]] | None = None,
    axes: Mapping[str, float] | None = None,
    surplus: bool = False,
) -> Snapshot:
    """Write a snapshot of a project.

    Args:
        source: The store, or a project read out already.
        project_id: Project of the store; not needed with ``Judged``.
        out_dir: New directory, or one that holds this very snapshot.
        method: How votes become soft labels: ``ability``, ``dawid_skene``, ``majority`` or ``bradley_terry``.
        format: ``preference``, ``kto``, ``ranking`` or ``sft``.
        min_votes: Fewest votes a pair needs.
        min_strength: Least probability of the better side; below it a pair is a tie.
        drop_annotators: Pseudonyms whose judgments are not used.
        adjudicated: Item -> final answer, which overrides the votes, beside the answers of adjudication items.
        axes: Of ratings, axis -> weight; none means all axes alike. A weight below 0 says that fewer points are better.
        surplus: Count judgments as votes that came after their seat was taken back.

    Raises:
        UsageError: The directory holds something else, or a setting is unknown.
        DataError: Nothing is left to write.
    """
    if isinstance(source, Store):
        if project_id is None:
            raise UsageError("no project was named", where="project_id", expected="the id of a project of the store")
        judged = read_project(source, project_id)
    else:
        judged = source
    dropped = tuple(sorted(set(drop_annotators)))
    settings = SnapshotSettings(
        format, method, min_votes, min_strength, dropped, tuple(sorted((axes or {}).items())), surplus
    )
    selection = select_rows(judged, settings, adjudicated)
    if not any(selection.rows.values()):
        _need_kinds(judged, format)
        reasons = {**selection.items_dropped, **selection.pairs_dropped}
        raise DataError(
            "nothing is left to write",
            where=judged.project,
            expected="at least one usable judgment",
            fix="; ".join(f"{n} x {reason}" for reason, n in reasons.items()) or "collect judgments first",
        )
    content = _files(judged, settings, selection)
    manifest = json.loads(content["manifest.json"])
    out = Path(out_dir)
    fresh = _write(out, content)
    return Snapshot(
        out,
        manifest["snapshot"],
        {entry["split"]: out / entry["path"] for entry in manifest["files"]},
        {entry["split"]: entry["rows"] for entry in manifest["files"]},
        manifest,
        fresh,
    )


def _need_kinds(judged: Judged, format: str) -> None:
    """Refuse a project without any item of the kinds that a format is made of.

    Raises:
        DataError: It has none.
    """
    kinds = {item.kind for item in judged.items.values()}
    if not kinds or kinds & set(FORMATS[format][1]):
        return
    others = [name for name, (_, made_of) in FORMATS.items() if kinds & set(made_of)]
    fix = f"write --format {' or '.join(others)}" if others else "collect answers of such items"
    raise DataError(
        f"the items are {' and '.join(sorted(kinds))}, and the format {format!r} is not made of those",
        where=judged.project,
        expected=f"items of the kind {' or '.join(FORMATS[format][1])}",
        fix=fix,
    )


def _files(judged: Judged, settings: SnapshotSettings, selection: Selection) -> dict[str, bytes]:
    """Relative path -> bytes of the whole snapshot."""
    stem = FORMATS[settings.format][0]
    files: dict[str, bytes] = {}
    entries = []
    for split in SPLITS:
        rows = [{**row, "simulated": judged.simulated} for row in selection.rows[split]]
        if not rows:
            continue
        data = b"".join(_line(row) for row in rows)
        digest = hashlib.sha256(data).hexdigest()
        path = f"{split}/{stem}-{digest[:16]}.jsonl"
        files[path] = data
        entries.append({"path": path, "split": split, "rows": len(rows), "bytes": len(data), "sha256": digest})
    manifest = _manifest(judged, settings, selection, entries)
    identity = hashlib.sha256(_line(manifest)).hexdigest()[:16]
    manifest = {"snapshot": identity, **manifest}
    card = card_data(judged, settings, selection, manifest)
    files["manifest.json"] = _pretty(manifest)
    files["card.json"] = _pretty(card)
    files["card.html"] = card_html(card).encode()
    return files


def _manifest(
    judged: Judged, settings: SnapshotSettings, selection: Selection, entries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    used = [r for r in judged.judgments if settings.counts(r)]
    times = sorted(r.created_at for r in judged.judgments)
    return {
        "project": judged.project,
        "simulated": judged.simulated or any(r.simulated for r in used),
        "format": settings.format,
        "files": list(entries),
        "filters": asdict(settings)
        | {"drop_annotators": list(settings.drop_annotators)}
        | {"axes": [f"{name}={weight:g}" for name, weight in settings.axes]},
        "aggregation": {"method": selection.method, "version": AGGREGATION_VERSION},
        "notes": list(selection.notes),
        "guidelines": sorted({r.guideline for r in judged.judgments if r.guideline}),
        "split_policy": SPLIT_POLICY,
        "counts": {
            "judgments": len(judged.judgments),
            "annotators": len({r.annotator for r in judged.judgments}),
            "items": selection.items,
            "items_used": selection.items_used,
            "pairs": selection.pairs,
            "rows": sum(entry["rows"] for entry in entries),
            "adjudicated": selection.adjudicated,
        },
        "items_dropped": dict(selection.items_dropped),
        "pairs_dropped": dict(selection.pairs_dropped),
        "dropped": [{"item": name, "reason": reason} for name, reason in selection.dropped],
        "first_judgment": times[0] if times else None,
        "last_judgment": times[-1] if times else None,
        "trueup": versions()["trueup"],
    }


def _line(row: Mapping[str, Any]) -> bytes:
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Line separators of Unicode are escaped: some readers take them for the end of a line.
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode() + b"\n"


def _pretty(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()


def _write(out: Path, content: Mapping[str, bytes]) -> bool:
    """Put the whole snapshot in place by one rename; False if it was there already."""
    if out.exists():
        if _same(out, content):
            return False
        raise UsageError(
            "holds something else" if out.is_dir() else "is a file",
            where=str(out),
            expected="a new directory, or one with this very snapshot",
            fix="choose another directory; a snapshot is never written over",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        for name, data in content.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
        for folder in (*(p for p in temporary.iterdir() if p.is_dir()), temporary):
            sync_folder(folder)
        os.rename(temporary, out)
    except OSError:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
        raise
    sync_folder(out.parent)
    return True


def _same(out: Path, content: Mapping[str, bytes]) -> bool:
    if not out.is_dir():
        return False
    there = {str(p.relative_to(out)): p for p in out.rglob("*") if p.is_file()}
    return set(there) == set(content) and all(there[name].read_bytes() == data for name, data in content.items())
