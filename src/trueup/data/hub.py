"""Hugging Face datasets: saved in a folder, or from the hub. The library is imported only when one is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trueup.errors import DataError, UsageError, nearest

_MARKS = ("dataset_info.json", "dataset_dict.json", "state.json")


def from_folder(path: Path, split: str | None) -> Any:
    """A dataset that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.

    Raises:
        DataError: The folder holds no saved dataset, or it is damaged, or has no such split.
        UsageError: ``split`` for a dataset without splits.
    """
    if not any((path / mark).exists() for mark in _MARKS):
        files = sorted(p.name for p in path.iterdir() if p.is_file())
        raise DataError(
            "a folder, but no saved dataset",
            where=str(path),
            expected="a file, or a folder written by Dataset.save_to_disk",
            fix=f"name one of its files: {', '.join(files[:8])}" if files else None,
        )
    from datasets import load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"the saved dataset cannot be opened: {_said(error)}", where=str(path)) from error
    return _split_of(loaded, split, str(path))


def from_hub(name: str, split: str | None) -> Any:
    """``hf:owner/name`` from the Hugging Face hub, or from its cache on this machine.

    Raises:
        DataError: The hub cannot be reached, has no such dataset, or wants a login; or there is no such split.
        UsageError: ``split`` for a dataset without splits.
    """
    from datasets import load_dataset

    try:
        loaded = load_dataset(name.removeprefix("hf:"))
    except Exception as error:  # the hub client raises dozens of kinds: offline, gated, unknown, malformed
        raise DataError(
            f"the dataset cannot be loaded from the Hugging Face hub: {_said(error)}",
            where=name,
            expected="hf:owner/name of a dataset that exists and that you may read",
            fix="check the name and the connection (is HF_HUB_OFFLINE set?), log in with `hf auth login` if it is"
            " gated, or download it elsewhere, save it with save_to_disk and give that folder",
        ) from error
    return _split_of(loaded, split, name)


def _said(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _split_of(loaded: Any, split: str | None, name: str) -> Any:
    if not isinstance(loaded, dict):  # a DatasetDict is a dict of splits
        if split is None:
            return loaded
        raise UsageError(f"split is {split!r}", where=name, expected="no split: the dataset has only one")
    chosen = split if split is not None else (next(iter(loaded)) if len(loaded) == 1 else None)
    if chosen is None or chosen not in loaded:
        raise DataError(
            f"there is no split {split!r}" if split else f"the dataset has {len(loaded)} splits",
            where=name,
            expected="the name of one split",
            fix=f"split=...: {nearest(split or '', loaded)}",
        )
    return loaded[chosen]
