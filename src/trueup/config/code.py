"""Python code that a setting names: ``package.module:name``, or ``@name`` of what this process registered.

Code is known by its source: a run goes on with the same code only. Modules are looked for where Python looks, and then
in the current directory. What is registered has no file that another process could import: it serves scripts and
notebooks, where the same process names it and runs it.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel

from trueup.errors import ConfigError, TrueupError, nearest

MARK = "python code"
Code: TypeAlias = Annotated[str, MARK]
"""A setting that names code; what it names is part of a run's identity."""

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_registered: dict[str, Any] = {}


def register(target: Any, name: str | None = None) -> str:
    """Give a function, a class or an object a name that a setting can hold.

    Args:
        target: What is to be called.
        name: Its own name by default. A later one takes the place of an earlier one, as in a notebook.

    Returns:
        ``@name``.

    Raises:
        ConfigError: Its source cannot be read, so a run could not tell whether it is the same code.
    """
    own = re.sub(r"\W", "_", name or str(getattr(target, "__name__", type(target).__name__)))
    _source_of(target, f"@{own}")
    _registered[own] = target
    return f"@{own}"


def names_code(text: str) -> bool:
    """Whether a setting names code: ``@name``, or ``module:name`` where there is no such path."""
    return text.startswith("@") or (":" in text and not Path(text).exists())


def code_in(settings: BaseModel, prefix: str = "") -> dict[str, str]:
    """Every setting that names code, by its dotted name."""
    named: dict[str, str] = {}
    for name, info in type(settings).model_fields.items():
        value = vars(settings)[name]  # looked at, not used: what reads a setting is the recipe
        if isinstance(value, BaseModel):
            named |= code_in(value, f"{prefix}{name}.")
        elif MARK in info.metadata and isinstance(value, str):
            named[prefix + name] = value
    return named


def find(text: str, setting: str) -> Any:
    """What a setting names.

    Raises:
        ConfigError: It cannot be imported, or there is no such name.
    """
    return _resolve(text, setting)[1]


def function_of(text: str, setting: str, arguments: str, method: str = "__call__") -> Callable[..., Any]:
    """What a setting names, ready to be called; of a class an object of it, or the object's ``method``.

    Args:
        text: The setting's value.
        setting: Its name, for errors.
        arguments: What it is called with, for errors.
        method: Called in place of the object where the object has it.

    Raises:
        ConfigError: As ``find``; or it cannot be called.
    """
    return as_function(find(text, setting), f"{setting} {text}", arguments, method)


def as_function(target: Any, place: str, arguments: str, method: str = "__call__") -> Callable[..., Any]:
    """The same of something that is there already; ``place`` names it in errors."""
    if inspect.isclass(target):
        try:
            target = target()
        except Exception as error:
            raise ConfigError(
                f"the class cannot be made: {type(error).__name__}: {error}",
                where=place,
                expected="a class whose objects are made without arguments",
            ) from error
    function = getattr(target, method, target)
    if not callable(function):
        names = " or ".join(dict.fromkeys((method, "__call__")))
        raise ConfigError(
            f"{type(target).__name__} cannot be called",
            where=place,
            expected=f"a function of ({arguments}), or a class with a method {names} like it",
        )
    return function  # type: ignore[no-any-return]


def identify(text: str, setting: str) -> str:
    """Hash of the name and of the source: of the files that the code and its name are written in, or, of registered
    code, of its own text.

    Raises:
        ConfigError: As ``find``; or there is no source to know it by.
    """
    module, target = _resolve(text, setting)
    digest = hashlib.sha256(text.encode())
    if module is None:
        digest.update(_source_of(target, text).encode())
    else:
        for file in sorted({_file(module, text, setting), _file(_written(target), text, setting)}):
            digest.update(file.read_bytes())
    return f"python:{digest.hexdigest()[:16]}"


def _resolve(text: str, setting: str) -> tuple[ModuleType | None, Any]:
    place = f"{setting} {text}"
    if text.startswith("@"):
        if text[1:] not in _registered:
            raise ConfigError(
                "this process has registered nothing of this name",
                where=place,
                expected=nearest(text[1:], _registered) if _registered else "package.module:name",
                fix="write it in a module and name it package.module:name; only the process that registers can use it",
            )
        return None, _registered[text[1:]]
    if not _NAME.fullmatch(text):
        raise ConfigError(
            "is neither a path that exists nor the name of Python code", where=place, expected="package.module:name"
        )
    where, _, name = text.partition(":")
    module = _imported(where, place)
    if not hasattr(module, name):
        known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise ConfigError(f"{where} has no {name!r}", where=place, expected=nearest(name, known))
    return module, getattr(module, name)


def _imported(name: str, place: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:  # as `python -m` has it; what is installed goes first
        sys.path.append(folder)
    importlib.invalidate_caches()  # a module may have been written a moment ago
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{name} imports {error.name}, which is not installed", where=place) from error
        raise ConfigError(
            f"there is no module {error.name}",
            where=place,
            expected=f"a module that Python finds from {folder}",
            fix="start from the directory that holds it, or set PYTHONPATH",
        ) from error
    except TrueupError:
        raise
    except Exception as error:
        raise ConfigError(f"{name} cannot be imported: {type(error).__name__}: {error}", where=place) from error


def _written(target: Any) -> Any:
    """What has a source: a function, without its decorators, or a class."""
    written = inspect.unwrap(target) if callable(target) else target
    return written if inspect.isroutine(written) or inspect.isclass(written) else type(written)


def _source_of(target: Any, text: str) -> str:
    written = _written(target)
    try:
        return inspect.getsource(written)
    except (OSError, TypeError) as error:
        text_of_class = _class_source(written) if inspect.isclass(written) else None
        if text_of_class is not None:
            return text_of_class
        raise ConfigError(
            "its source cannot be read, so a run could not tell whether it is the same code",
            where=text,
            expected="a function or class that is written in a file or a notebook",
        ) from error


def _class_source(kind: type[Any]) -> str | None:
    """A class of a notebook is in no file, but its functions know where they were written; None without any."""
    functions = [value for value in vars(kind).values() if inspect.isfunction(value)]
    try:
        written = list(map(inspect.getsource, functions))
    except (OSError, TypeError):
        return None
    return "\n".join([kind.__qualname__, repr(kind.__annotations__), *written]) if written else None


def _file(written: Any, text: str, setting: str) -> Path:
    try:
        file = inspect.getsourcefile(written)
    except TypeError:
        file = None
    if file is None or not Path(file).is_file():
        raise ConfigError(
            "its source is in no file, so a run could not tell whether it is the same code",
            where=f"{setting} {text}",
            expected="a function or class that is written in a .py file",
        )
    return Path(file)
