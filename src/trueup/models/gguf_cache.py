"""Each GGUF file is converted once, into a folder of the user's cache that later openings take.

The folder's name says which content it was made from (SHA-256), by which version of transformers and of this code. It
gets that name only when all of it is on the disk, so what an interrupted conversion leaves is never taken for a model;
of two processes the second waits for the first. What was written is known by sums over its blocks, and a folder that
does not match them is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trueup.errors import ModelError, RunError
from trueup.ledger import storage_problem, write_json
from trueup.ledger.files import whole_folder
from trueup.models.gguf import Gguf, read_gguf, require_language_model

log = logging.getLogger("trueup.models")

SETTING = "TRUEUP_CACHE"
"""The environment variable that names the cache folder."""
CARD = "conversion.json"
"""What was converted, by what, and the sums of the files that came out."""
FORMAT = 1
"""Rises when the same file would be converted otherwise."""
WORDS = 8192
"""64-bit words in a block of a sum: 64 KiB."""
SLOW_TO_HASH = 2 << 30
"""Bytes from which on a line says that a file is being hashed."""
_checked: dict[Path, tuple[Any, ...]] = {}
"""Folders that this process has looked through, and what the system said of their files then."""


def cache_folder() -> Path:
    """``$TRUEUP_CACHE``, else ``trueup`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; not created.

    Raises:
        RunError: The user has no home directory, and nothing else is named.
    """
    named, base = os.environ.get(SETTING), os.environ.get("XDG_CACHE_HOME", "")
    if named:
        return Path(named).expanduser().absolute()
    if os.path.isabs(base):  # the specification says that others are to be ignored
        return Path(base) / "trueup"
    try:
        return Path.home() / ".cache" / "trueup"
    except RuntimeError as error:
        raise RunError("there is no home directory for a cache", where=SETTING, fix=f"set {SETTING}") from error


def content_digest(file: Path) -> str:
    """SHA-256 of a file in hex, remembered in the cache as long as the system says that the file is the same."""
    place = cache_folder() / "gguf" / "digests"
    note = place / f"{hashlib.sha256(str(file.resolve()).encode(errors='surrogateescape')).hexdigest()[:32]}.json"
    try:
        before = _stamp(file)
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            remembered = json.loads(note.read_text(encoding="utf-8"))
            if remembered["stamp"] == before and len(remembered["sha256"]) == 64:
                return str(remembered["sha256"])
        if before[0] > SLOW_TO_HASH:
            _say(f"{file.name}: {before[0] / 1e9:.1f} GB are hashed, once as long as the file stays as it is")
        with open(file, "rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", where=str(file)) from error
    if _stamp(file) == before:
        with contextlib.suppress(OSError):  # it is hashed again next time
            place.mkdir(parents=True, exist_ok=True)
            write_json(note, {"file": str(file.resolve()), "stamp": before, "sha256": digest})
    return digest


def converted(file: Path) -> Path:
    """The directory that a GGUF file was converted into, now or earlier: a model like any other.

    Raises:
        ModelError: The file holds no language model that can be read, or not whole.
        RunError: The cache cannot be written, or has too little space.
    """
    digest = content_digest(file)
    version = importlib.metadata.version("transformers")
    folder = cache_folder() / "gguf" / f"{digest[:16]}-{FORMAT}-transformers-{version}"
    if _problem(folder, digest) is None:
        return _said(folder, file)
    gguf = read_gguf(file)
    require_language_model(gguf)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(folder, file):
            problem = _problem(folder, digest)  # it may be there by now
            if problem is not None:
                if folder.exists():
                    log.warning("%s: what it was converted into is damaged (%s): made anew", file.name, problem)
                _convert(gguf, digest, folder)
    except OSError as error:
        what, fix = storage_problem(error)
        raise RunError(
            f"{file.name} cannot be converted: {what}",
            where=str(error.filename or folder.parent),
            fix=f"{fix + ', ' if fix else ''}or set {SETTING} to another folder",
        ) from error
    return _said(folder, file)


def _convert(gguf: Gguf, digest: str, folder: Path) -> None:
    from trueup.models.gguf_convert import require_readable, write_model

    for left in folder.parent.glob(f".{folder.name}.*.tmp"):  # of conversions that were killed
        shutil.rmtree(left, ignore_errors=True)
    require_readable(gguf)
    size, free = 4 * gguf.count, shutil.disk_usage(folder.parent).free
    if free < size * 1.02 + (64 << 20):
        raise RunError(
            f"{gguf.path.name} becomes {size / 1e9:.1f} GB in float32, and {free / 1e9:.1f} GB are free",
            where=str(folder.parent),
            fix=f"make room there, or set {SETTING} to a folder on another disk",
        )
    started, before = time.perf_counter(), _stamp(gguf.path)
    _say(f"{gguf.path.name}: converted once, for all later openings, into {folder}")
    _say(
        f"  {gguf.architecture}, {gguf.count / 1e6:,.1f} million weights ({gguf.kinds}), {size / 1e9:.2f} GB in float32"
    )
    with whole_folder(folder) as temporary:
        notes = write_model(gguf, temporary, lambda step: _say(f"  {time.perf_counter() - started:5.1f} s  {step}"))
        if _stamp(gguf.path) != before:
            raise ModelError("the file changed while it was read", where=str(gguf.path), fix="wait until it is whole")
        card = {
            "source": gguf.path.name,
            "sha256": digest,
            "architecture": gguf.architecture,
            "stored_as": gguf.kinds,
            "weights": gguf.count,
            "by": {name: importlib.metadata.version(name) for name in ("trueup", "transformers", "gguf")},
            "seconds": round(time.perf_counter() - started, 1),
            "notes": notes,
            "files": {path.name: _sum(path) for path in sorted(temporary.iterdir())},
        }
        write_json(temporary / CARD, card)
    _say(f"{gguf.path.name}: converted in {time.perf_counter() - started:.1f} s")


def _problem(folder: Path, digest: str) -> str | None:
    """Why a folder is not what a conversion of this content left; None if it is."""
    if not folder.is_dir():
        return "not there"
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        files = {str(name): str(value) for name, value in card["files"].items()}
        stamps = tuple(tuple(_stamp(folder / name)) for name in (*files, CARD))
        if card["sha256"] != digest:
            return f"{CARD} is of another file"
        if _checked.get(folder) != stamps:
            changed = [name for name, value in files.items() if _sum(folder / name) != value]
            if changed:
                return f"{changed[0]} is not what was written"
            _checked[folder] = stamps
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return str(error) or type(error).__name__
    return None


def _sum(file: Path) -> str:
    """A checksum of a file as fast as memory: the hash of its length and of one sum for each 64 KiB.

    It is there to see faults of a disk, not of a person: whoever writes here may as well write another card.
    """
    data = np.memmap(file, dtype=np.uint8, mode="r") if file.stat().st_size else np.zeros(0, np.uint8)
    whole = len(data) // (8 * WORDS) * (8 * WORDS)
    sums = data[:whole].view(np.uint64).reshape(-1, WORDS).sum(axis=1, dtype=np.uint64)
    digest = hashlib.sha256(f"{len(data)};".encode())
    digest.update(sums.astype("<u8").tobytes())
    digest.update(data[whole:].tobytes())
    return digest.hexdigest()[:32]


def _stamp(file: Path) -> list[int]:
    """What the system says of a file; no program can write into it and leave all of this as it was."""
    state = file.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev]


def _said(folder: Path, file: Path) -> Path:
    """The folder, after saying what the conversion noted of the file."""
    if folder not in _noted:
        _noted.add(folder)
        for note in json.loads((folder / CARD).read_text(encoding="utf-8"))["notes"]:
            log.warning("%s: %s", file.name, note)
    return folder


_noted: set[Path] = set()


@contextlib.contextmanager
def _alone(folder: Path, file: Path) -> Iterator[None]:
    """Only one process at a time converts into ``folder``; the others wait here."""
    handle = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{file.name}: another process is converting it; waiting for that")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: both convert, and each result is whole
            log.info("%s: no locks here", folder.parent)
        yield
    finally:
        os.close(handle)


def _say(line: str) -> None:
    """One line for the terminal; of several processes of a job the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr, flush=True)
