"""Hugging Face datasets: saved in a folder, or from the hub. The library is imported only when one is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import DataError, UsageError, nearest

_MARKS = ("dataset_info.json", "dataset_dict.json", "state.json")
_NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(/(?P<config>[\w.+ -]+))?(@(?P<revision>[^@\s]+))?")
GRAMMAR = "hf:owner/name, with /config, @revision and :split where they are needed"


@dataclass(frozen=True, slots=True)
class HubName:
    """``hf:owner/name/config@revision:split``, all but the name optional.

    ``revision`` is a branch, a tag or a commit; ``split`` may be a slice, as ``train[:1000]``.
    """

    name: str
    config: str | None = None
    revision: str | None = None
    split: str | None = None

    @classmethod
    def of(cls, text: str) -> HubName:
        """The parts of what a user wrote.

        Raises:
            DataError: It is not of that form.
        """
        head, colon, split = text.removeprefix("hf:").partition(":")
        match = _NAME.fullmatch(head)
        if match is None or (colon and not split):
            raise DataError(
                "this is not the name of a dataset",
                where=text,
                expected=GRAMMAR,
                fix="for example hf:openai/gsm8k/main@main:train",
            )
        return cls(match["name"], match["config"], match["revision"], split or None)


def is_saved(path: Path) -> bool:
    """Whether a folder was written by ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``."""
    # A folder of files may describe itself in dataset_info.json too; what was saved has a state or splits beside it.
    return any((path / mark).exists() for mark in _MARKS[1:])


def from_folder(path: Path, split: str | None) -> Any:
    """A dataset that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.

    Raises:
        DataError: It is damaged, or has no such split.
        UsageError: ``split`` for a dataset without splits.
    """
    from datasets import load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"the saved dataset cannot be opened: {_said(error)}", where=str(path)) from error
    return split_of(loaded, split, str(path))


def from_hub(text: str, split: str | None) -> Any:
    """A dataset of the Hugging Face hub, or from its cache on this machine.

    Args:
        text: ``hf:owner/name/config@revision:split``.
        split: Which split, where ``text`` names none.

    Raises:
        DataError: The hub cannot be reached, has no such dataset, or wants a login; or there is no such split.
        UsageError: ``split`` for a dataset without splits, or two different ones.
    """
    from datasets import load_dataset

    named = HubName.of(text)
    if split is not None and named.split not in (None, split):
        raise UsageError(
            f"split is {split!r}", where=text, expected=f"{named.split!r}, which the name says", fix="say it once"
        )
    wanted = named.split or split
    sliced = wanted is not None and ("[" in wanted or "+" in wanted)  # which the library does itself
    options = {"name": named.config, "revision": named.revision, "split": wanted if sliced else None}
    try:
        loaded = load_dataset(named.name, **{key: value for key, value in options.items() if value is not None})
    except Exception as error:  # the hub client raises dozens of kinds: offline, gated, unknown, malformed
        raise DataError(
            f"the dataset cannot be loaded from the Hugging Face hub: {_said(error)}",
            where=text,
            expected="a dataset that exists and that you may read",
            fix=_advice(error),
        ) from error
    return loaded if sliced else split_of(loaded, wanted, text)


def split_of(loaded: Any, split: str | None, name: str) -> Any:
    """One split of a ``DatasetDict``, which is a dict of them; a ``Dataset`` as it is.

    Raises:
        DataError: There is no such split, or there are several and none is named.
        UsageError: ``split`` for a dataset without splits.
    """
    if not isinstance(loaded, dict):
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


def _said(error: Exception) -> str:
    """The first line of an error, with the second where that says which choices there are."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    shown = lines[:2] if lines and lines[0].startswith("Config name is missing") else lines[:1]
    return " ".join(shown) or type(error).__name__


def _advice(error: Exception) -> str:
    if "config" in str(error).lower() and "available" in str(error).lower():
        return "write the configuration behind the name: hf:owner/name/CONFIG"
    return (
        "check the name and the connection (is HF_HUB_OFFLINE set?), log in with `hf auth login` if it is"
        " gated, or download it elsewhere, save it with save_to_disk and give that folder"
    )
