"""Numbers as the pages show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def interval(value: Mapping[str, Any], form: str = ".3f") -> str:
    """An estimate with its interval, which is left out where it is not known."""
    if value["low"] is None or value["high"] is None:
        return f"{value['estimate']:{form}}"
    return f"{value['estimate']:{form}} ({value['low']:{form}} to {value['high']:{form}})"
