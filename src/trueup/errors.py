"""One family of errors. Every message says what, where, what was expected and how to fix it.

Children also inherit the built-in a caller would expect (``ValueError`` for bad input,
``RuntimeError`` for a failed run), so both ``except TrueupError`` and ``except ValueError`` work.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class TrueupError(Exception):
    """Base of every error that trueup raises on purpose.

    Args:
        what: What went wrong, one sentence, with the value that was found.
        where: ``file:line``, a field name or a run directory.
        expected: What would have been right.
        fix: What the reader can do about it.
    """

    exit_code = 1
    setting: str | None = None
    """The setting that names what could not be used, where whoever knows the file adds its line."""

    def __init__(
        self, what: str, *, where: str | None = None, expected: str | None = None, fix: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.what, self.where, self.expected, self.fix)


def _rebuild(
    kind: type[TrueupError], what: str, where: str | None, expected: str | None, fix: str | None
) -> TrueupError:
    return kind(what, where=where, expected=expected, fix=fix)


class UsageError(TrueupError, ValueError):
    """A command or a call was used wrongly."""

    exit_code = 2


class NotAllowed(UsageError):
    """The call is right in itself, and not for this person."""


class NotHere(UsageError):
    """The call is right in itself, and there is nothing of the name that it asks for."""


class ConfigError(TrueupError, ValueError):
    """A setting is unknown, of the wrong type, out of range or in conflict with another."""

    exit_code = 2


class DataError(TrueupError, ValueError):
    """A file or a row cannot be used as it is."""

    exit_code = 2


class ModelError(TrueupError, ValueError):
    """A model or tokenizer cannot be opened or does not fit its job."""

    exit_code = 2


class ShapeError(TrueupError, ValueError):
    """Arrays do not have the shapes that a function states."""

    exit_code = 2


class RunError(TrueupError, RuntimeError):
    """A run directory or a running job is in a state that forbids going on."""


class CheckpointError(RunError):
    """A checkpoint is missing, torn or of another run."""


class NonFiniteError(RunError, ArithmeticError):
    """A loss, reward or gradient is NaN or infinite; it never reached the optimizer."""


class Interrupted(TrueupError):
    """The user asked to stop; the state was saved."""

    exit_code = 130


class Paused(Interrupted):
    """An alert or a person paused the run, or what it needs from elsewhere is gone; the state was saved."""

    exit_code = 3


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ``did you mean 'beta'? known: beta, tau`` for a misspelt name."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(options) or 'none'}"


def near_file(path: str | Path) -> str:
    """What stands where a file that does not exist was looked for, the likeliest first; for ``fix``."""
    path = Path(path)
    folder = path.parent
    if not folder.is_dir():
        return f"check the path: there is no folder {folder}"
    names = sorted(one.name for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
    alike = [name for name in names if Path(name).suffix == path.suffix] or names
    stems = {Path(name).stem: name for name in reversed(alike)}
    close = difflib.get_close_matches(path.stem, stems, n=1, cutoff=0.5)
    if close:
        return f"did you mean {folder / stems[close[0]]}?"
    shown = ", ".join(alike[:8]) or "no file"
    return f"check the path: in {folder} there is {shown}{', ...' if len(alike) > 8 else ''}"
