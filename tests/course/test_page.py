"""docs/course.md is true: every block runs, and every `# -> value` is what the line above it gives."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from trueup import course

PAGE = (Path(__file__).parents[2] / "docs/course.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def shown(block: str):
    """(statements, expected value of the last one, or None) in order."""
    code: list[str] = []
    for line in block.splitlines():
        if line.startswith("# -> "):
            yield "\n".join(code), ast.literal_eval(line[5:])
            code = []
        else:
            code.append(line)
    if any(line.strip() for line in code):
        yield "\n".join(code), None


def run(code: str, names: dict):
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "docs/course.md", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "docs/course.md", "eval"), names)


@pytest.mark.slow
def test_the_page_shows_what_happens():
    names: dict = {}
    checked = 0
    for block in BLOCKS:
        for code, expected in shown(block):
            found = run(code, names)
            if expected is not None:
                assert found == expected, code
                checked += 1
    assert checked >= 15


@pytest.mark.parametrize("name", sorted(course.__all__))
def test_every_public_name_is_on_the_page(name):
    assert f"`{name}`" in PAGE or f"{name}(" in PAGE or name == "demo"  # as python -m trueup.course


ROWS = re.findall(r"^\| (`[A-Za-z_`, ]+`) \| `\((.*?)\)` \|", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize(("names", "written"), ROWS)
def test_signatures_on_the_page_are_those_of_the_code(names, written):
    for name in re.findall(r"`(\w+)`", names):
        has = inspect.signature(getattr(course, name)).parameters
        for part in written.replace("*, ", "").split(", "):
            parameter, _, default = part.partition("=")
            if parameter:
                assert parameter in has, f"{name}: {parameter}"
                if default:
                    assert has[parameter].default == ast.literal_eval(default), f"{name}: {part}"
    assert len(ROWS) >= 19
