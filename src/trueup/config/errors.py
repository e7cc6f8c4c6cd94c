"""What is wrong with settings, in sentences: which one, where it was written, what was expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from trueup.config.names import explain
from trueup.config.text import Located
from trueup.errors import nearest

Path = tuple[int | str, ...]
LIST = "a list"
"""Tag of the alternative of a setting that is a list of blocks where another is a text; people never write it."""
_CHOICE = re.compile(r"\^\(([a-z0-9_.|-]+)\)\$")


def blocks_in(annotation: Any) -> list[type[Any]]:
    """The settings blocks that an annotation names: one, several of a union, or none."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [block for arg in get_args(annotation) for block in blocks_in(arg)]


def setting_paths(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """The dotted names of all settings below ``kind``, blocks included; the alternatives of a union side by side."""
    paths: list[str] = []
    for name, info in kind.model_fields.items():
        paths.append(prefix + name)
        for block in blocks_in(info.annotation):
            paths += [path for path in setting_paths(block, f"{prefix}{name}.") if path not in paths]
    return paths


def complaints(kind: type[BaseModel], error: ValidationError, layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each setting that cannot be used, after a line that counts them."""
    lines = [f"{error.error_count()} setting(s) cannot be used"]
    for item in error.errors(include_url=False):
        path, owners = _resolve(kind, item["loc"])
        name = _named(path, place_of(path, layers))
        text = _unknown(kind, path, owners) if item["type"] == "extra_forbidden" else _wrong(dict(item), path, owners)
        lines.append(f"  {name}: {text}" if name else f"  {text}")
    return lines


def _named(path: Path, place: str) -> str:
    dotted = ".".join(part if len(part) <= 60 else f"{part[:57]}..." for part in map(str, path))
    return f"{dotted} ({place})" if dotted and place else dotted or place


def truth_values(
    kind: type[BaseModel], values: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], before: Path = ()
) -> list[str]:
    """A line for each true or false where a number belongs: it would be taken for 1 or 0 without a word."""
    lines: list[str] = []
    for name, value in values.items():
        field = kind.model_fields.get(name)
        if field is None:
            continue
        path = (*before, name)
        types = _plain_types(field.annotation)
        if isinstance(value, bool) and bool not in types and types & {int, float}:
            written = place_of(path, layers)
            lines.append(
                f"  {'.'.join(map(str, path))}{f' ({written})' if written else ''}: found {value}; expected a number"
            )
        members = (
            {(*path, n): item for n, item in enumerate(value)} if isinstance(value, list | tuple) else {path: value}
        )
        for place, item in members.items():
            if isinstance(item, Mapping):
                inner = blocks_in(field.annotation)
                chosen = [block for block in inner if _tag(block) == item.get("kind")] or inner[:1]
                lines += [line for block in chosen for line in truth_values(block, item, layers, place)]
    return lines


def _plain_types(annotation: Any) -> set[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        return {annotation}
    return {kind for arg in get_args(annotation) for kind in _plain_types(arg)}


def _resolve(kind: type[BaseModel], loc: Path) -> tuple[Path, list[type[BaseModel]]]:
    """A location as people write it, without the names of a union's alternatives, and the blocks that hold its end."""
    path: list[int | str] = []
    owners: list[type[BaseModel]] = [kind]
    inner = owners
    for part in loc:
        if part == LIST:
            continue
        if isinstance(part, int):  # a place in a list, whose members are the same blocks
            path.append(part)
            owners = inner
            continue
        chosen = [block for block in inner if _tag(block) == part]
        if chosen:
            inner = owners = chosen
            continue
        path.append(part)
        owners = inner
        fields = [block.model_fields[part] for block in inner if isinstance(part, str) and part in block.model_fields]
        inner = [block for field in fields for block in blocks_in(field.annotation)]
    return tuple(path), owners


def _tag(block: type[BaseModel]) -> Any:
    field = block.model_fields.get("kind")
    return field.default if field is not None else None


def place_of(path: Sequence[int | str], layers: Sequence[Mapping[str, Any]]) -> str:
    """Where the deepest written part of ``path`` stands: file and line, or the flag."""
    for layer in reversed(layers):
        node: Any = layer
        place = ""
        for part in path:
            if isinstance(part, int) and isinstance(node, list) and part < len(node):
                node = node[part]
                continue
            if not isinstance(node, Mapping) or part not in node:
                break
            place = node.places.get(str(part), place) if isinstance(node, Located) else place
            node = node[part]
        if place:
            return place
    return ""


def _unknown(kind: type[BaseModel], path: Path, owners: Sequence[type[BaseModel]]) -> str:
    name = str(path[-1])
    paths = setting_paths(kind)
    if "." in name and name in paths:
        block, _, leaf = name.rpartition(".")
        return f"a dot is for --set; in a file write {block}: {{{leaf}: ...}}"
    known = [field for owner in owners for field in owner.model_fields]
    if ".".join(map(str, path)) in paths:
        tags = " or ".join(str(_tag(owner)) for owner in owners)
        return f"{path[-2]}.kind={tags} has no such setting; {nearest(name, known)}"
    if difflib.get_close_matches(name, known, n=1, cutoff=0.8):
        return f"unknown setting; {nearest(name, known)}"
    hint = explain(name.rpartition(".")[2], paths)
    return f"unknown setting; {hint or nearest(name, known)}"


def _wrong(item: dict[str, Any], path: Path, owners: Sequence[type[BaseModel]]) -> str:
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "missing":
        return "is required and was not given"
    if kind == "union_tag_invalid":
        options = re.findall(r"'([^']+)'", str(context.get("expected_tags", "")))
        return f"kind {str(context.get('tag'))[:60]!r} is unknown; {nearest(str(context.get('tag')), options)}"
    if kind in ("model_type", "model_attributes_type", "union_tag_not_found", "dict_type"):
        return f"found {_short(value)}; expected {_block(value, path, owners)}"
    if kind in ("tuple_type", "list_type"):
        return f"found {_short(value)}; expected a list"
    if kind == "too_short":
        return f"found {_short(value)}; expected at least {context.get('min_length')} of them"
    message = item["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return message if isinstance(value, (Mapping, BaseModel)) else f"found {_short(value)}; {message}"
    choice = _CHOICE.fullmatch(str(context.get("pattern", "")))
    if kind == "string_pattern_mismatch" and choice:
        return f"found {_short(value)}; {nearest(str(value)[:60], choice[1].split('|'))}"
    hint = (
        " (in quotes, where a word is meant)" if kind == "string_type" and not isinstance(value, Mapping | list) else ""
    )
    return f"found {_short(value)}; {message}{hint}"


def _block(value: Any, path: Path, owners: Sequence[type[BaseModel]]) -> str:
    """What is to be written where a block of settings belongs."""
    member = bool(path) and isinstance(path[-1], int)
    fields = [owner.model_fields[str(path[-1])] for owner in owners if path and str(path[-1]) in owner.model_fields]
    blocks = list(owners) if member else [block for field in fields for block in blocks_in(field.annotation)]
    kinds = [str(_tag(block)) for block in blocks if _tag(block) is not None]
    if kinds:
        shown = f"{{kind: {kinds[0]}}}" if member else f"{path[-1]}: {{kind: {kinds[0]}}}"
        return f"a block with a kind, as {shown}; {nearest(str(value)[:60], kinds)}"
    return (
        f"a block of settings: {', '.join(f'{name}: ...' for block in blocks for name in block.model_fields) or '...'}"
    )


def _short(value: Any) -> str:
    shown = repr(value) if not isinstance(value, Mapping) else repr(dict(value))
    return shown if len(shown) <= 100 else f"{shown[:97]}..."
