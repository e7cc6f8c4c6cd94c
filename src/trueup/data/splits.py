"""The splits of data, and what files call them."""

from __future__ import annotations

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    **{name: name for name in SPLITS},
    "training": "train",
    **dict.fromkeys(("val", "valid", "valid1", "valid2", "dev", "eval"), "validation"),
}
"""What files call a split, in small letters, and which one that is; any other name is refused."""


def split_named(name: str) -> str:
    """The split that a file calls so; a name that is none is given back as it is, for whoever refuses it."""
    return SPLIT_NAMES.get(name.strip().lower(), name)
