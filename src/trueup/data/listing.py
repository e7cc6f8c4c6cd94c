"""Which files a name stands for: a file, a folder of them, a pattern such as ``data/*.parquet``, or a list.

Files come in the order of their names, taken as text, so the order does not depend on the file system. Nothing in a
folder is passed over without a word: what is plainly no data (a README, a manifest) is named in a note, and what is of
an unknown kind is refused. Names of splits in a folder (``train.jsonl``, ``test/part-0.parquet``) are obeyed, because
taking all of them for one set would train on the test data.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trueup.data.hub import is_saved
from trueup.data.splits import SPLIT_NAMES, split_named
from trueup.errors import DataError, UsageError, nearest

LAYOUTS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
}
NOT_DATA = frozenset({".md", ".rst", ".html", ".pdf", ".png", ".jpg", ".svg", ".py", ".ipynb", ".yaml", ".yml", ".cff"})
NOT_DATA_NAMES = re.compile(r"(license|licence|readme|notice|copying|citation)\b.*", re.IGNORECASE)
MANIFESTS = frozenset({"manifest.json", "card.json", "dataset_info.json", "dataset_infos.json"})
"""Files that describe others; the first two stand in what ``trueup curate`` writes."""
SHOWN = 8
"""Names in a message."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of the things that a name stands for: a file, a saved dataset, or a dataset of the hub (no path)."""

    name: str
    path: Path | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a name stands for.

    Attributes:
        members: In order, none twice.
        notes: What was passed over, and why.
        several: Whether it is a folder, a pattern or a list, even if it has one member.
    """

    members: tuple[Member, ...]
    notes: tuple[str, ...] = ()
    several: bool = False


def layout_of(path: Path) -> str | None:
    """What a file's name says that it is; None is unknown."""
    extensions = [s.lower() for s in path.suffixes]
    zipped = extensions[-1:] == [".gz"]
    extension = (extensions[:-1] if zipped else extensions)[-1:]
    layout = LAYOUTS.get(extension[0]) if extension else None
    return None if zipped and layout == "parquet" else layout


def listed(source: str | Path | Sequence[str | Path], split: str | None = None, *, all_splits: bool = False) -> Listing:
    """The files and datasets that a name, or a list of names, stands for.

    Args:
        source: A path, a pattern, ``hf:...``, or several, as a list or with commas between them.
        split: Which split, of a folder that has several.
        all_splits: All of them, to know the folder by its content.

    Raises:
        DataError: A folder without data or with files of an unknown kind, a pattern that nothing matches, a folder of
            several splits and none is named.
        UsageError: An empty name in a list.
    """
    names = _names(source)
    several = len(names) > 1
    members: list[Member] = []
    notes: list[str] = []
    for name in names:
        listing = _of_name(name, split, all_splits)
        several |= listing.several
        members += listing.members
        notes += listing.notes
    once: dict[object, Member] = {}
    for member in members:
        key = member.name if member.path is None else member.path.resolve()
        if key in once:
            notes.append(f"{member.name} is named twice and read once")
        once.setdefault(key, member)
    return Listing(tuple(once.values()), tuple(dict.fromkeys(notes)), several)


def data_hash(source: str) -> str:
    """SHA-256 (16 digits) of all files that a name stands for; a dataset of the hub stands for itself by its name.

    A single file is known by its content alone; of several, their names below what they have in common count too.

    Raises:
        DataError: As ``listed``.
    """
    listing = listed(source, all_splits=True)
    paths = [member.path for member in listing.members if member.path is not None]
    if not listing.several:
        return _hash_of(paths) if paths and paths[0].exists() else f"name:{source}"
    names = [member.name for member in listing.members if member.path is None]
    return "+".join([*(f"name:{name}" for name in names), *([_hash_of(paths, named=True)] if paths else [])])


def _hash_of(paths: Sequence[Path], *, named: bool = False) -> str:
    digest = hashlib.sha256()
    top = os.path.commonpath([path.resolve().parent for path in paths])
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        for file in files:
            if path.is_dir():
                digest.update(str(file.relative_to(path)).encode())
            elif named:
                digest.update(os.path.relpath(file.resolve(), top).encode())
            try:
                with open(file, "rb") as handle:
                    while block := handle.read(1 << 20):
                        digest.update(block)
            except OSError as error:
                raise DataError(f"cannot be read: {error.strerror or error}", where=str(file)) from error
    return digest.hexdigest()[:16]


def _names(source: str | Path | Sequence[str | Path]) -> list[str]:
    if isinstance(source, (str, Path)):
        text = str(source)
        if isinstance(source, Path) or "," not in text or Path(text).exists():
            return [text]
        source = text.split(",")
    names = [str(name).strip() for name in source]
    if not all(names):
        raise UsageError(
            f"one of the names in {','.join(names)!r} is empty", where="data", expected="names with commas between them"
        )
    return names


def _of_name(name: str, split: str | None, all_splits: bool) -> Listing:
    if name.startswith("hf:"):
        return Listing((Member(name, None, split),))
    path = Path(name).expanduser()
    if path.is_dir():
        return Listing((Member(name, path, split),)) if is_saved(path) else _folder(name, path, split, all_splits)
    if path.exists() or not _magic(name):
        return Listing((Member(name, path, split),))
    matches = _matches(name)
    if not matches:
        raise _no_match(name)
    members, notes = _data_only(name, matches)
    if not members:
        raise DataError(f"nothing that it matches is data: {_some([str(p) for p in matches])}", where=name)
    splits = dict.fromkeys(filter(None, (_split_of(Path(member.name)) for member in members)))
    if len(splits) > 1:
        notes.append(f"the pattern {name} takes files of several splits for one set: {', '.join(splits)}")
    return Listing(tuple(members), tuple(notes), several=True)


# Folders -------------------------------------------------------------------------------------------------------------


def _folder(name: str, path: Path, split: str | None, all_splits: bool) -> Listing:
    files = _sorted(_below(path))
    members, notes = _data_only(name, files)
    if not members:
        raise DataError(
            "the folder holds no data" + (f", only {_some([f.name for f in files])}" if files else ": it is empty"),
            where=name,
            expected=f"files of kind {', '.join(LAYOUTS)}, or a dataset written by Dataset.save_to_disk",
        )
    if all_splits:
        return Listing(tuple(members), tuple(notes), several=True)
    by_split: dict[str | None, list[Member]] = {}
    for member in members:
        assert member.path is not None
        by_split.setdefault(_split_of(member.path.relative_to(path)), []).append(member)
    if split is None:
        if len(by_split) > 1:
            shown = ", ".join(f"{key or 'none'} ({_some([m.name for m in of], 2)})" for key, of in by_split.items())
            raise DataError(
                f"the folder holds files of {len(by_split)} splits: {shown}",
                where=name,
                expected="the name of one split, or a pattern that takes the files that are meant",
                fix=f"split={next(filter(None, by_split))} (--set read.split=...), or {name}/*{members[0].path.suffix}"
                if members[0].path
                else None,
            )
        return Listing(tuple(members), tuple(notes), several=True)
    exact = [m for m in members if m.path is not None and split in (m.path.stem, *m.path.relative_to(path).parts[:-1])]
    chosen = exact or by_split.get(split_named(split), [])
    if not chosen:
        known = [key for key in by_split if key]
        raise DataError(
            f"no file of the folder is of split {split!r}",
            where=name,
            expected=nearest(split, known) if known else "no split: its files name none",
        )
    return Listing(tuple(chosen), tuple(notes), several=True)


def _split_of(path: Path) -> str | None:
    """The split that a file's name or one of its folders says: ``train-00000-of-00002``, ``test/part-0``."""
    words = [re.split(r"[-_.]", path.name)[0], *reversed(path.parts[:-1])]
    return next((SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES), None)


def _data_only(name: str, files: Sequence[Path]) -> tuple[list[Member], list[str]]:
    """Those of the files that are data, and a note on those that are plainly not.

    Raises:
        DataError: A file may be data, and of which kind is not known.
    """
    rest = [file for file in files if not _is_plainly_no_data(file)]
    kinds = {layout_of(file) for file in rest} - {"text"}
    # A text beside files of rows describes them; texts alone are documents.
    members = [file for file in rest if not (kinds and layout_of(file) == "text")]
    unknown = [file for file in members if layout_of(file) is None]
    if unknown:
        raise DataError(
            f"of {len(files)} files, {len(unknown)} are of an unknown kind: {_some([str(f) for f in unknown])}",
            where=name,
            expected=", ".join(LAYOUTS) + ", each but .parquet also with .gz",
            fix="move them elsewhere, rename them after what they hold, or name the others by a pattern such as"
            f" {_pattern(files, unknown)}",
        )
    passed = [file.name for file in files if file not in set(members)]
    notes = [f"{name}: not read, because it is no data: {_some(passed)}"] if passed else []
    return [Member(str(file), file) for file in members], notes


def _is_plainly_no_data(file: Path) -> bool:
    if file.suffix.lower() in NOT_DATA or file.name.lower() in MANIFESTS:
        return True
    named = file.name.startswith("_") or NOT_DATA_NAMES.fullmatch(file.name) is not None  # such as _SUCCESS, LICENSE
    return named and layout_of(file) in (None, "text")


def _pattern(files: Sequence[Path], unknown: Sequence[Path]) -> str:
    suffix = next((f.suffix for f in files if f not in set(unknown) and layout_of(f)), ".jsonl")
    return f"'{os.path.commonpath([f.parent for f in files])}/**/*{suffix}'"


def _below(folder: Path) -> Iterator[Path]:
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def _entries(folder: Path, pattern: str = "*") -> list[os.DirEntry[str]]:
    """What is in a folder and matches; what begins with a dot only where the pattern does too."""
    try:
        with os.scandir(folder) as entries:
            hidden = pattern.startswith(".")
            return [e for e in entries if e.name.startswith(".") is hidden and fnmatch.fnmatchcase(e.name, pattern)]
    except OSError as error:
        raise DataError(f"the folder cannot be read: {error.strerror or error}", where=str(folder)) from error


def _sorted(files: Iterator[Path]) -> list[Path]:
    return sorted(dict.fromkeys(files), key=lambda file: file.as_posix())


# Patterns ------------------------------------------------------------------------------------------------------------


def _magic(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _matches(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    start, *parts = (path.anchor, *path.parts[1:]) if path.anchor else ("", *path.parts)
    return _sorted(_matching(Path(start), parts))


def _matching(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Files below ``folder``; ``**`` stands for any number of folders. ``glob`` would pass over unreadable ones."""
    first, rest = parts[0], parts[1:]
    if not _magic(first) and rest:
        if (folder / first).is_dir():
            yield from _matching(folder / first, rest)
        return
    if first == "**":
        yield from _matching(folder, rest or ("*",))
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                yield from _matching(folder / entry.name, parts)
        return
    for entry in _entries(folder, first):
        path = folder / entry.name
        if rest and entry.is_dir():
            yield from _matching(path, rest)
        elif not rest and entry.is_file():
            yield path


def _no_match(pattern: str) -> DataError:
    path = Path(pattern).expanduser()
    fixed = []
    for part in path.parts[:-1]:
        if _magic(part):
            break
        fixed.append(part)
    folder = Path(*fixed) if fixed else Path()
    if not folder.is_dir():
        return DataError("no file matches it", where=pattern, fix=f"there is no folder {folder}")
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in _entries(folder))
    return DataError(
        "no file matches it",
        where=pattern,
        expected="a pattern that files match; ** stands for any number of folders",
        fix=f"{folder}/ holds: {_some(names)}" if names else f"{folder}/ is empty",
    )


def _some(names: Sequence[str], most: int = SHOWN) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
