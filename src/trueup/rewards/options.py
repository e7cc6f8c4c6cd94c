"""What stands behind the ``#`` of a source: ``path#label=helpfulness``, ``path#label=POSITIVE,text=answer``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from trueup.config import Settings, build
from trueup.errors import ConfigError

Asked = TypeVar("Asked", bound=Settings)


def apart(source: str) -> tuple[str, str]:
    """The path, and what stands behind the last ``#``; a directory of that whole name is a path."""
    path, mark, asked = source.rpartition("#")
    return (path, asked) if mark and not Path(source).exists() else (source, "")


def options(source: str, kind: type[Asked]) -> tuple[str, Asked]:
    """The path, and the settings that stand behind the ``#``, with commas.

    Raises:
        ConfigError: They are no settings of this kind.
    """
    path, text = apart(source)
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not value:
            known = ", ".join(f"{name}=..." for name in kind.model_fields)
            raise ConfigError(
                f"{part!r} stands behind the #",
                where=source,
                expected=f"{known}, with commas" if len(kind.model_fields) > 1 else known,
            )
        values[name.strip()] = value.strip()
    return path, build(kind, values, where=source)
