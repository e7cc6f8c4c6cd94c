"""Checkpoints: whole or absent, hashed, safetensors only, and enough for an exact resume.

checkpoints/step-00000042/   tensors.safetensors, state.json, manifest.json (SHA-256 of both)
checkpoints/latest           name of the newest whole checkpoint; moves last

A checkpoint counts on the run's streams, so these are made durable first: streams, checkpoint, folder, ``latest``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trueup.errors import CheckpointError, UsageError
from trueup.ledger import storage_problem, sync_folder, write_atomic

FORMAT = 2
"""Of ``state.json``; a checkpoint of another format cannot be gone on from to the same results."""

_FILES = ("tensors.safetensors", "state.json")
_NAME = re.compile(r"step-[0-9]{8,18}")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What was saved after ``step`` finished steps."""

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


def save(run: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Write a checkpoint under a temporary name, sync it, rename it, then move ``latest``; prune the others.

    Checkpoints of later steps are those that a resume from an older one left behind; they go too, since their steps
    have been or will be taken again.

    Raises:
        CheckpointError: the disk refused; earlier checkpoints are untouched.
    """
    folder = run / "checkpoints"
    final = folder / f"step-{step:08d}"
    temporary = folder / f".step-{step:08d}.{os.getpid()}.tmp"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            sync_folder(run)
        for stale in folder.glob(".step-*.tmp"):
            shutil.rmtree(stale)
        temporary.mkdir()
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary / "tensors.safetensors")
        (temporary / "state.json").write_text(json.dumps({"format": FORMAT, "step": step, **state}), encoding="utf-8")
        manifest = {name: _sha256(temporary / name) for name in _FILES}
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
        raise write_error(run, step, error) from error
    present = names(run)
    earlier = [name for name in present if name < final.name]
    for name in {*present} - {final.name, *earlier[len(earlier) - keep + 1 :]}:
        shutil.rmtree(folder / name)
    return final


def write_error(run: Path, step: int, error: Exception) -> CheckpointError:
    """The checkpoint of ``step`` could not be written because of ``error``."""
    problem, fix = storage_problem(system_error(error))
    before = latest(run)
    last = f"the previous checkpoint, {before}, is whole" if before else "there is no earlier one"
    return CheckpointError(
        f"the checkpoint after {step} steps could not be written: {problem}; {last}",
        where=str(run / "checkpoints"),
        fix=fix or "free some space and run the same command again",
    )


def system_error(error: Exception) -> OSError:
    """The system's error behind one that was raised in writing; safetensors tells of it in words only."""
    if isinstance(error, OSError):
        return error
    number = re.search(r"\(os error ([0-9]+)\)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))


def names(run: Path) -> list[str]:
    """The checkpoints of a run, whole or not, oldest first."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        return []
    return sorted((p.name for p in folder.iterdir() if _NAME.fullmatch(p.name)), key=lambda name: int(name[5:]))


def latest(run: Path) -> str | None:
    """Name of the newest whole checkpoint of a run, or None.

    Where ``latest`` was lost, or a kill came just before it was written, it is the newest there is: a checkpoint gets
    its name only when it is whole.

    Raises:
        CheckpointError: ``latest`` does not name a checkpoint of this run.
    """
    pointer = run / "checkpoints" / "latest"
    present = names(run)
    try:
        text = pointer.read_bytes().decode("utf-8", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return present[-1] if present else None
    except OSError as error:
        problem, _ = storage_problem(error)
        raise CheckpointError(f"cannot be read: {problem}", where=str(pointer), fix=advice(run)) from error
    if text not in present:
        named = "is empty" if not text else f"names {text[:60]!r}, which is no checkpoint of this run"
        raise CheckpointError(named, where=str(pointer), expected="a name such as step-00000100", fix=advice(run))
    return text


def select(run: Path, name: str) -> None:
    """Make ``name`` the checkpoint to go on from. Only for the holder of the run's lock.

    Raises:
        UsageError: There is no such checkpoint.
        CheckpointError: It is damaged.
    """
    present = names(run)
    if name not in present:
        known = f"one of: {', '.join(present)}" if present else "a checkpoint; this run has none"
        raise UsageError(f"no checkpoint {name!r}", where=str(run), expected=known)
    verify_files(run / "checkpoints" / name)
    try:
        write_atomic(run / "checkpoints" / "latest", name.encode())
    except OSError as error:
        problem, fix = storage_problem(error)
        raise CheckpointError(f"latest cannot be written: {problem}", where=str(run), fix=fix) from error


def load(run: Path, name: str | None = None) -> Checkpoint | None:
    """Read and verify a checkpoint (the latest one by default). None if the run has none yet.

    Raises:
        CheckpointError: a file is missing or its hash differs; an older checkpoint is never taken silently.
    """
    chosen = name or latest(run)
    if chosen is None:
        return None
    folder = run / "checkpoints" / chosen
    verify_files(folder)
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state.get("format") != FORMAT:
            raise CheckpointError(
                f"the checkpoint has format {state.get('format', 1)!r}, this trueup reads {FORMAT}",
                where=str(folder),
                fix="go on with the trueup that wrote it (see versions in run.json), or start anew with --fresh",
            )
        return Checkpoint(int(state["step"]), load_file(folder / "tensors.safetensors"), state)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"cannot be read, though its hashes are right: {error}", where=str(folder), fix=advice(run, chosen)
        ) from error


def verify_files(folder: Path) -> None:
    """Compare a checkpoint's files with its manifest."""
    run = folder.parent.parent
    problem = damage(folder)
    if problem is not None:
        raise CheckpointError(problem, where=str(folder), fix=advice(run, folder.name))


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"no readable manifest.json: {error}"
    if not isinstance(manifest, dict) or set(manifest) != set(_FILES):
        return f"manifest.json does not list {' and '.join(_FILES)}"
    for name in _FILES:
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        try:
            digest = _sha256(file)
        except OSError as error:
            return f"{name} cannot be read: {storage_problem(error)[0]}"
        if digest != manifest[name]:
            return f"{name} is damaged: its SHA-256 is not the one in the manifest"
    return None


def advice(run: Path, bad: str | None = None) -> str:
    """What to do when a checkpoint cannot be used: the exact command for the newest whole one that is older."""
    older = [name for name in names(run) if bad is None or int(name[5:]) < int(bad[5:])]
    whole = (name for name in reversed(older) if damage(run / "checkpoints" / name) is None)
    return command(run, next(whole, None))


def command(run: Path, name: str | None) -> str:
    """How to go on from the checkpoint ``name``, or without any."""
    if name is None:
        return "no older checkpoint can be used: start anew with --fresh, which moves this directory aside"
    return f"go on from {name}: trueup resume {shlex.quote(str(run))} --from {name}"


def _sha256(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync(file: Path) -> None:
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())
