"""Columns that say how sure, how much or by how much: what a method does not use of them is said, once."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from trueup.ledger import Run

COLUMNS = ("strength", "weight", "margin")


def say_unused(run: Run, method: str, columns: Iterable[str]) -> None:
    """One line on the terminal, and an event of the run, for those of ``COLUMNS`` that the data has for nothing.

    Args:
        run: The run.
        method: Who does not use them.
        columns: Names of columns that nothing reads.
    """
    unused = [name for name in COLUMNS if name in set(columns)]
    if unused and run.writes:
        print(f"note: {method} does not use the data's column {' or '.join(unused)}", file=sys.stderr)
        run.event("unused", method=method, columns=unused)
