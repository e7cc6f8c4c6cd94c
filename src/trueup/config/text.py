"""Settings as people write them: YAML files and ``--set name=value``, as plain mappings that know where they are from.

Plain words mean what YAML 1.2 says: only ``true`` and ``false`` are truth values, ``no``, ``on``, dates and ``1:30``
are text, and ``1e-5`` is a number. What two readers of YAML would read differently (``010``) is refused, and so is a
file that is small to write and huge to read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from trueup.errors import ConfigError, near_file

MOST_BYTES = 256 * 1024
"""Of a settings file."""
MOST_DEPTH = 40
"""Levels of nesting."""
MOST_VALUES = 10_000
"""Keys and values of one text, each alias counted for all that it stands for."""


class Located(dict[str, Any]):
    """A mapping of settings that remembers where each key was written."""

    def __init__(self, values: Mapping[str, Any], places: Mapping[str, str]) -> None:
        super().__init__(values)
        self.places = dict(places)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; see ``parse_yaml`` for what is refused.

    Raises:
        ConfigError: There is no such file, or it cannot be read as text, or its content is refused.
    """
    file = Path(path)
    try:
        with open(file, "rb") as handle:
            data = handle.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError("no such file", where=str(file), expected="a YAML file", fix=near_file(file)) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot be read: {reason}", where=str(file), expected="a UTF-8 YAML file") from error
    if len(data) > MOST_BYTES:
        raise ConfigError(
            f"more than {MOST_BYTES // 1024} KiB",
            where=str(file),
            expected="a file of settings",
            fix="give data with --data; a file without a flag before it is read as settings",
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError("is UTF-16", where=str(file), expected="UTF-8", fix="save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"byte {data[error.start]:#04x} is not UTF-8", where=f"{file}:{line}", expected="a UTF-8 YAML file"
        ) from error
    return parse_yaml(text, name=str(file))


def parse_yaml(text: str, name: str = "<text>") -> dict[str, Any]:
    """Parse YAML text into a mapping whose blocks are ``Located``.

    ``${VARIABLE}`` in a value stands for an environment variable, whatever is in it.

    Raises:
        ConfigError: Not YAML, empty, no mapping, a key that is no text or written twice, an unset variable, an
            ambiguous number, nesting or aliases beyond measure.
    """
    loaded = _parse(text, name)
    if loaded is None:
        raise ConfigError("the file is empty", where=name, expected="a mapping of settings")
    if not isinstance(loaded, dict):
        raise ConfigError(f"found {type(loaded).__name__}", where=name, expected="a mapping of settings, as epochs: 1")
    return loaded


def parse_value(text: str, name: str) -> Any:
    """One value, as after ``--set name=``: a number, true or false, null, a list, a mapping or JSON; else text."""
    stripped = text.strip()
    if stripped[:1] in ("[", "{", '"', "'"):
        return _parse(stripped, name)
    loader = _Loader(name)
    return loader.value_of(yaml.ScalarNode(loader.plain_tag(stripped), stripped, *_no_marks(name)))


def parse_assignments(assignments: Iterable[str]) -> Located:
    """Turn ``["optim.learning_rate=1e-4"]`` into a nested mapping.

    Raises:
        ConfigError: Not ``name=value``, or two of them set the same thing.
    """
    nested = Located({}, {})
    for assignment in assignments:
        key, equals, raw = assignment.partition("=")
        path = key.strip().split(".")
        place = f"--set {assignment:.80}"
        if not equals or not all(re.fullmatch(r"[^\s.=]+", part) for part in path):
            raise ConfigError(
                f"{assignment!r:.100}", where="--set", expected="name=value", fix="--set optim.warmup=0.1"
            )
        if not raw.strip():
            raise ConfigError(
                f"{assignment!r:.100} has no value", where="--set", fix="write null for none, '\"\"' for no text"
            )
        _place(nested, path, parse_value(raw, place), place)
    return nested


def _place(block: Located, path: list[str], value: Any, place: str) -> None:
    """Put ``value`` at ``path`` of ``block``; a mapping is put member by member."""
    head, *rest = path
    taken = head in block
    if rest or (isinstance(value, dict) and value):
        inner = block.setdefault(head, Located({}, {}))
        block.places.setdefault(head, place)
        if not isinstance(inner, Located):
            raise _twice(block, head, place, "sets a block that another --set gave a value")
        for name, item in [(rest, value)] if rest else [([key], item) for key, item in value.items()]:
            _place(inner, name, item, place)
        return
    if taken:
        raise _twice(block, head, place, "is set twice")
    block[head], block.places[head] = value, place


def _twice(block: Located, head: str, place: str, problem: str) -> ConfigError:
    return ConfigError(f"{head!r} {problem}: by {block.places[head]} and by {place}", where="--set", fix="keep one")


class _Resolver(yaml.resolver.BaseResolver):
    """What plain words mean: YAML 1.2's core schema, and numbers such as ``1e-5``."""


_PLAIN = (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
)
for _tag, _pattern, _first in _PLAIN:
    _Resolver.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first]
    )

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class _Loader(_Resolver):
    """Turns nodes into values; what is refused is refused with its line."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def plain_tag(self, text: str) -> str:
        """The tag of an unquoted word."""
        return str(self.resolve(yaml.ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]

    def refuse(self, node: yaml.Node, what: str, **more: str) -> ConfigError:
        """An error at ``node``."""
        line = f":{node.start_mark.line + 1}" if node.start_mark.index >= 0 else ""
        return ConfigError(what, where=f"{self.name}{line}", **more)

    def value_of(self, node: yaml.Node) -> Any:
        """The value of a node."""
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            if node.tag != "tag:yaml.org,2002:seq":
                raise self.refuse(node, f"tag {node.tag} is not for settings", expected="a list")
            return [self.value_of(item) for item in node.value]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode) -> Located:
        if node.tag != "tag:yaml.org,2002:map":
            raise self.refuse(node, f"tag {node.tag} is not for settings", expected="a mapping")
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: list[Located] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.refuse(key_node, "a key is a list or a mapping", expected="a word, as epochs: 1")
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged += self._merged(value_node)
                continue
            if key_node.tag == "tag:yaml.org,2002:null":
                raise self.refuse(key_node, "a key is empty", expected="a word, as epochs: 1")
            key = key_node.value
            if key in values:
                raise self.refuse(
                    key_node, f"key {key!r} is written twice (lines {lines[key]} and {line})", fix="keep one of them"
                )
            values[key], lines[key] = self.value_of(value_node), line
        places = {key: f"{self.name}:{line}" for key, line in lines.items()}
        for block in merged:
            for key, value in block.items():
                if key not in values:
                    values[key], places[key] = value, block.places[key]
        return Located(values, places)

    def _merged(self, node: yaml.Node) -> list[Located]:
        blocks = node.value if isinstance(node, yaml.SequenceNode) else [node]
        mappings = [block for block in blocks if isinstance(block, yaml.MappingNode)]
        if len(mappings) < len(blocks):
            raise self.refuse(node, "<< merges something that is no mapping", expected="<<: *name of a mapping")
        return [self._mapping(block) for block in mappings]

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text, tag = node.value, node.tag.removeprefix("tag:yaml.org,2002:")
        if _VARIABLE.search(text):
            text = _VARIABLE.sub(lambda match: self._variable(node, match), text)
            if node.style is None:
                tag = self.plain_tag(text).removeprefix("tag:yaml.org,2002:")
        if tag == "str":
            return text
        if tag == "null":
            return None
        if tag == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            if tag == "int":
                return self._integer(node, text)
            if tag == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            digits = f"it has {len(text)} digits" if len(text) > 1000 else str(error)
            raise self.refuse(node, f"{text[:40]!r} is no number that can be used: {digits}") from error
        raise self.refuse(node, f"tag {node.tag} is not for settings", fix="write the value without it")

    def _integer(self, node: yaml.Node, text: str) -> int:
        if re.fullmatch(r"[-+]?0[0-9]+", text):
            plain = text.lstrip("-+").lstrip("0") or "0"
            raise self.refuse(
                node,
                f"{text} can be read as octal or as decimal",
                fix=f"write {plain}, or 0o{plain} for octal, or quote it where text is meant",
            )
        return int(text, 0) if text.startswith(("0x", "0o")) else int(text)

    def _variable(self, node: yaml.Node, match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            raise self.refuse(
                node,
                f"environment variable {match[1]} is not set",
                fix=f"export {match[1]}=... or write the value in the file",
            )
        return value


class _Composer(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, _Resolver):
    """Text to nodes, which share what aliases share."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        _Resolver.__init__(self)


def _parse(text: str, name: str) -> Any:
    try:
        _measure(text, name)
        node = _Composer(text).get_single_node()
    except yaml.YAMLError as error:
        raise _not_yaml(error, text, name) from error
    if node is None:
        return None
    _count(node, name, {}, set())
    return _Loader(name).value_of(node)


def _measure(text: str, name: str) -> None:
    """Refuse nesting and length before anything is built: the parser itself keeps no more than the open levels."""
    depth = count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        count += isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH or count > MOST_VALUES:
            what = f"more than {MOST_DEPTH} levels deep" if depth > MOST_DEPTH else f"more than {MOST_VALUES} values"
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            raise ConfigError(what, where=f"{name}:{line}", expected="a file of settings")


def _count(node: yaml.Node, name: str, known: dict[int, int], open_nodes: set[int]) -> int:
    """Values under ``node`` with every alias written out; each node is visited once."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in open_nodes:
        raise ConfigError("an alias stands for a block that holds it", where=f"{name}:{node.start_mark.line + 1}")
    open_nodes.add(id(node))
    total = 1
    if isinstance(node, yaml.CollectionNode):
        items = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        for item in items:
            total += _count(item, name, known, open_nodes)
            if total > MOST_VALUES:
                raise ConfigError(
                    f"aliases (*name) make more than {MOST_VALUES} values of this",
                    where=f"{name}:{node.start_mark.line + 1}",
                    fix="write the values out, or use fewer aliases",
                )
    open_nodes.discard(id(node))
    known[id(node)] = total
    return total


def _not_yaml(error: yaml.YAMLError, text: str, name: str) -> ConfigError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text[: error.position].count("\n") + 1
        return ConfigError(
            f"character {error.character:#06x} cannot be in YAML" if isinstance(error.character, int)
            else f"not text: {error.reason}",
            where=f"{name}:{line}",
            expected="a YAML file of settings",
        )  # fmt: skip
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    problem = getattr(error, "problem", None) or str(error)
    row = text.splitlines()[line - 1 : line] or [""]
    fix = "use spaces, not tabs" if "\\t" in problem or row[0].lstrip(" ").startswith("\t") else None
    return ConfigError(f"not valid YAML: {problem}", where=f"{name}:{line}", fix=fix)


def _no_marks(name: str) -> tuple[yaml.Mark, yaml.Mark]:
    mark = yaml.Mark(name, -1, 0, 0, None, 0)
    return mark, mark
