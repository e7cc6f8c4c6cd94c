"""Chat templates are programs that come with a model. Here they run on a budget, and see only what they are given.

The language is that of ``transformers`` (``apply_chat_template``): the same sandbox, tags, filters and globals, so that
a template writes the same text. What is added is a meter: every turn of a loop, call, operator, filter and piece of
output is counted, and whatever would be large is measured before it is made. So a template can neither run for ever
nor fill the memory, in any thread, without timers, signals or a second process. The budget grows with the conversation;
templates of real models use less than a thousandth of it.

Left out on purpose: ``random`` and ``lipsum`` (the same conversation must give the same text) and the filters for HTML.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from types import BuiltinMethodType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from trueup.data.template_meter import (
    CHARACTERS_A_STEP,
    OverBudget,
    check_format,
    check_method,
    check_power,
    check_product,
    current,
    limited,
    metered,
)

__all__ = ["BoundedTemplate", "OverBudget"]

_SOURCE = 1_000_000
"""Longest template in characters."""
_UNWANTED_FILTERS = ("random", "urlize", "xmlattr", "pprint", "wordwrap", "striptags")
_UNWANTED_METHODS = frozenset({"translate", "maketrans", "expandtabs", "to_bytes", "from_bytes"})
_LOOP, _MADE, _JOIN = "bounded loop", "bounded value", "bounded join"  # names that no template can spell


class _Counted:
    """An iterable whose every turn is a step."""

    def __init__(self, inner: Iterable[Any], steps: int) -> None:
        self._inner = inner
        self._steps = steps

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]  # a TypeError where there is no length, as it must be

    def __iter__(self) -> Iterator[Any]:
        spend, steps = current().spend, self._steps
        for item in self._inner:
            spend(steps)
            yield item


class _Counting(NodeTransformer):
    """Puts the meter into a parsed template: around what loops go over, literals and joined text."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        written = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.iter = _filtered(node.iter, _LOOP, nodes.Const(1 + written // CHARACTERS_A_STEP))
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _MADE)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _MADE)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _MADE) if node.ctx == "load" else node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _JOIN)


def _filtered(node: nodes.Node, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    for argument in arguments:
        argument.set_lineno(node.lineno)
    assert isinstance(node, nodes.Expr)
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant writes; the text is the same with and without it."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Any) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(lineno)

    def _written(self, caller: Callable[[], str]) -> str:
        meter, text = current(), caller()
        meter.spend(1)
        meter.marked.append((meter.written, text))
        return text


class _Namespace(Namespace):
    """``namespace()`` of templates: no names that begin with an underscore, as in transformers."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        values = dict(*rest, **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")


class _Dict:
    """``dict`` of templates: calls and ``fromkeys`` only."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=_written_out
        )
        self.filters["tojson"] = _tojson
        for name in _UNWANTED_FILTERS:
            del self.filters[name]
        self.filters = {name: limited(name, call) for name, call in self.filters.items()}
        self.filters |= {_LOOP: _Counted, _MADE: _measured, _JOIN: _joined}
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise, "namespace": _Namespace, "dict": _Dict()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = _Counting().visit(super()._parse(source, name, filename))
        assert isinstance(tree, nodes.Template)
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _UNWANTED_METHODS and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        call = super().wrap_str_format(value)
        if call is None:
            return None

        @functools.wraps(call)
        def run(*args: Any, **kwargs: Any) -> str:
            check_format(value.__self__, (args, kwargs))
            return str(current().passes(call(*args, **kwargs)))

        return run

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        meter = current()
        meter.spend(1)
        if operator == "%" and isinstance(left, (str, bytes)):
            check_format(left, right)
        elif operator == "*":
            check_product(left, right, meter)
        elif operator == "**":
            check_power(left, right)
        return meter.passes(super().call_binop(context, operator, left, right))

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        meter = current()
        meter.spend(1)
        owner = getattr(obj, "__self__", None)
        if isinstance(obj, BuiltinMethodType) and isinstance(owner, (str, bytes)):
            args = check_method(owner, obj.__name__, args, meter)
        elif isinstance(obj, jinja2.runtime.LoopContext):
            args = (_Counted(args[0], 1 + meter.source), *args[1:]) if args else args
        elif not isinstance(obj, BuiltinMethodType):
            meter.spend(meter.source)  # a macro or a block, whose text may be as long as the template
        return meter.passes(super().call(context, obj, *args, **kwargs))


def _measured(value: Any) -> Any:
    return current().passes(value)


def _joined(pieces: list[Any]) -> str:
    meter = current()
    texts = [str(meter.passes(piece)) for piece in pieces]
    meter.room(sum(map(len, texts)))
    return str(meter.passes("".join(texts)))


def _written_out(value: Any) -> Any:
    """Called on every value that a template writes."""
    return current().passes(value)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


_ENVIRONMENT = _Environment()


class BoundedTemplate:
    """A compiled template.

    Args:
        source: Jinja, as in ``tokenizer.chat_template``.
        today: What ``strftime_now`` of the template takes for today, at midnight.

    Raises:
        OverBudget: The source is too long or too deeply nested.
        jinja2.TemplateSyntaxError: It is not valid.
    """

    def __init__(self, source: str, today: date) -> None:
        if len(source) > _SOURCE:
            raise OverBudget(f"it is {len(source):,} characters long")
        self._length = len(source)
        with metered(0, self._length):
            try:
                self._template = _ENVIRONMENT.from_string(source, globals={"strftime_now": today.strftime})
            except jinja2.TemplateSyntaxError:
                raise
            except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
                raise OverBudget("it is nested too deeply") from error

    def render(self, characters: int, variables: Mapping[str, Any], spans: list[tuple[int, int]] | None = None) -> str:
        """The text for ``variables``, which hold about ``characters`` characters.

        Args:
            characters: Of the variables.
            variables: What the template is given.
            spans: Takes begin and end of each part that the template marks as the assistant's.

        Raises:
            OverBudget: More work, memory or output than a chat needs.
            Exception: Whatever else a template raises: ``TemplateError``, ``TypeError``, ``KeyError``, ...
        """
        with metered(characters, self._length) as meter:
            pieces: list[str] = []
            try:
                for piece in self._template.root_render_func(self._template.new_context(dict(variables))):
                    meter.written += len(piece)
                    meter.room(meter.written)
                    pieces.append(piece)
            except RecursionError as error:
                raise OverBudget("it calls itself without end") from error
            except (MemoryError, OverflowError) as error:
                raise OverBudget(f"it asks for too much: {error}") from error
            text = "".join(pieces)
            if spans is not None:
                spans += _places(text, meter.marked)
            return text


def _places(text: str, marked: Iterable[tuple[int, str]]) -> Iterator[tuple[int, int]]:
    for begin, part in marked:
        if not text.startswith(part, begin):  # written by a macro, or kept and written later
            raise jinja2.exceptions.TemplateError("it marks an answer where it does not write it")
        if part:
            yield begin, begin + len(part)
