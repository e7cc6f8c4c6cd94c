"""Checkpoints: whole or absent, hashed, safetensors only, and enough for an exact resume.

checkpoints/step-00000042/   tensors.safetensors, state.json, manifest.json (SHA-256 of both)
checkpoints/latest           name of the newest whole checkpoint; moves last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trueup.errors import CheckpointError
from trueup.ledger import sync_folder, write_atomic


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What was saved after ``step`` finished steps."""

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


def save(run: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Write a checkpoint under a temporary name, sync it, rename it, then move ``latest``; prune old ones.

    Raises:
        CheckpointError: the disk refused; earlier checkpoints are untouched.
    """
    folder = run / "checkpoints"
    final = folder / f"step-{step:08d}"
    temporary = folder / f".step-{step:08d}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".step-*.tmp"):
            shutil.rmtree(stale)
        temporary.mkdir()
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary / "tensors.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, **state}), encoding="utf-8")
        manifest = {name: _sha256(temporary / name) for name in ("tensors.safetensors", "state.json")}
        (temporary / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        for file in temporary.iterdir():
            _sync(file)
        sync_folder(temporary)
        if final.exists():
            shutil.rmtree(final)
        os.rename(temporary, final)
        sync_folder(folder)
        write_atomic(folder / "latest", final.name.encode())
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written: {error}",
            where=str(folder),
            fix="free some disk space and run the same command again; the previous checkpoint is whole",
        ) from error
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return final


def latest(run: Path) -> str | None:
    """Name of the newest whole checkpoint of a run, or None."""
    pointer = run / "checkpoints" / "latest"
    return pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None


def load(run: Path, name: str | None = None) -> Checkpoint | None:
    """Read and verify a checkpoint (the latest one by default). None if the run has none yet.

    Raises:
        CheckpointError: a file is missing or its hash differs; an older checkpoint is never taken silently.
    """
    chosen = name or latest(run)
    if chosen is None:
        return None
    folder = run / "checkpoints" / chosen
    verify(folder)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Checkpoint(int(state["step"]), load_file(folder / "tensors.safetensors"), state)


def verify(folder: Path) -> None:
    """Compare a checkpoint's files with its manifest."""
    others = sorted(p.name for p in folder.parent.glob("step-*") if p.name != folder.name)
    fix = (
        f"go on from {others[-1]}: write that name into {folder.parent / 'latest'}"
        if others
        else "start the run again in a new directory"
    )
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"no readable manifest: {error}", where=str(folder), fix=fix) from error
    for name, expected in manifest.items():
        file = folder / name
        if not file.exists():
            raise CheckpointError(f"{name} is missing", where=str(folder), fix=fix)
        if _sha256(file) != expected:
            raise CheckpointError(
                f"{name} is damaged: its SHA-256 is not the one in the manifest", where=str(folder), fix=fix
            )


def _sha256(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync(file: Path) -> None:
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())
