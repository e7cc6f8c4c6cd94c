"""The structure of the package in figures: ``python -m tests.structure`` prints rooms, arrows, and a pair's path.

A room is what lies directly in ``src/trueup``; an arrow says that one room imports another. The path of a preference
pair are the files that give it another form on its way from a file to a gradient: that have a function which takes it
in one form and gives it back in another, where a form is a class of ours (a line, a pair, a rendered pair, rows,
log-probs), token ids, or a tensor. It is measured on a real step of DPO with plain kernels.
"""

from __future__ import annotations

import ast
import json
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

SOURCE = Path(__file__).parents[1] / "src" / "trueup"
MOST_ROOMS, MOST_ARROWS, MOST_FILES = 25, 90, 12


def modules() -> list[Path]:
    """Every file of the package."""
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    """The room that a file lies in."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def module_name(path: Path) -> str:
    """The dotted name that imports a file."""
    return ".".join(("trueup", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


@cache
def imported(path: Path) -> tuple[tuple[tuple[str, ...], int], ...]:
    """(parts of the dotted name below ``trueup``, line) of everything of ours that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        for name in names:
            package, *parts = name.split(".")
            if package == "trueup" and parts:
                found.append((tuple(parts), node.lineno))
    return tuple(found)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(room, line) of the same; what is written in the package itself is of the room ``__init__``."""
    for parts, line in imported(path):
        there = (SOURCE / parts[0]).is_dir() or (SOURCE / f"{parts[0]}.py").is_file()
        yield parts[0] if there else "__init__", line


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports)."""
    return {(room(path), other) for path in modules() for other, _ in imports(path) if other != room(path)}


MARK = "zyx"
"""A word that stands in one answer of one pair and nowhere else."""
DEEPEST, LONGEST = 3, 200


class Tracer:
    """A profile function that notes which files give the marked pair another form.

    Args:
        ids: Token ids of the marked answer that stand in no other text.
    """

    def __init__(self, ids: set[int]) -> None:
        self.ids = ids
        self.files: dict[str, tuple[str, str]] = {}
        """File -> the function that was seen first and the form that it gave."""
        self._taken: dict[int, set[str]] = {}
        self._busy = False

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        """Called by Python at each call and return."""
        file = frame.f_code.co_filename
        if self._busy or event not in ("call", "return") or not file.startswith(f"{SOURCE}/"):
            return
        self._busy = True
        try:
            if event == "call":
                code = frame.f_code
                names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
                taken = [frame.f_locals.get(name) for name in names]
                self._taken[id(frame)] = {self.form(item) for item in taken if self.carries(item)}
                return
            before = self._taken.pop(id(frame), set())
            if before and self.carries(value) and self.form(value) not in {"", *before}:
                local = Path(file).relative_to(SOURCE).as_posix()
                self.files.setdefault(local, (frame.f_code.co_qualname, self.form(value)))
        finally:
            self._busy = False

    def carries(self, value: Any, depth: int = 0) -> bool:
        """Whether the marked pair is in it: its text, its token ids, or a tensor that the gradient goes through."""
        import torch

        if isinstance(value, str):
            return MARK in value
        if isinstance(value, torch.Tensor):
            if value.is_floating_point():
                return value.grad_fn is not None
            return not self.ids.isdisjoint(value.flatten().tolist())
        if isinstance(value, (list, tuple)):
            if value and all(isinstance(item, int) for item in value):
                return not self.ids.isdisjoint(value)
            return depth < DEEPEST and any(self.carries(item, depth + 1) for item in value[:LONGEST])
        if isinstance(value, dict):
            return depth < DEEPEST and any(self.carries(item, depth + 1) for item in list(value.values())[:LONGEST])
        if depth >= DEEPEST or not type(value).__module__.startswith("trueup"):
            return False
        fields = [*getattr(type(value), "__slots__", ()), *getattr(value, "__dict__", {})]
        return any(self.carries(getattr(value, name, None), depth + 1) for name in fields[:LONGEST])

    def form(self, value: Any, depth: int = 0) -> str:
        """What the pair is here: a class of ours, token ids or a tensor; empty for texts and plain containers."""
        import torch

        if isinstance(value, torch.Tensor):
            return "Tensor"
        if isinstance(value, (list, tuple)) and value and depth < DEEPEST:
            if all(isinstance(item, int) for item in value):
                return "ids"
            return next((self.form(item, depth + 1) for item in value if self.carries(item)), "")
        return type(value).__name__ if type(value).__module__.startswith("trueup") else ""


def path_of_a_pair() -> dict[str, tuple[str, str]]:
    """The files that give a pair another form, in order, each with a function of it and the form."""
    from transformers import AutoTokenizer

    from tests.golden import TINY, rows
    from trueup.recipes.registry import execute, resolve

    marked, *others = list(rows("pairs"))
    marked = marked | {"chosen": f"A {MARK} {MARK}."}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pairs, texts = folder / "pairs.jsonl", folder / "texts.jsonl"
        pairs.write_text("".join(json.dumps(row) + "\n" for row in [marked, *others]), encoding="utf-8")
        demonstrations = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in [marked, *others]]
        texts.write_text("".join(json.dumps(row) + "\n" for row in demonstrations), encoding="utf-8")
        tiny = [f"model.tiny={json.dumps(TINY['model.tiny'])}", "epochs=1"]
        execute(
            "sft", resolve("sft", None, {"data": str(texts), "model.name": "tiny"}, tiny), folder / "sft", quiet=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder / "sft" / "final")
        elsewhere = {
            i for row in others for text in (row["chosen"], row["rejected"]) for i in tokenizer(text)["input_ids"]
        }
        tracer = Tracer(set(tokenizer(marked["chosen"])["input_ids"]) - elsewhere)
        flags = {"data": str(pairs), "model.name": str(folder / "sft" / "final")}
        settings = resolve("dpo", None, flags, ["epochs=1", "batch.size=12", "model.kernels=plain"])
        sys.setprofile(tracer)
        try:
            execute("dpo", settings, folder / "dpo", quiet=True)
        finally:
            sys.setprofile(None)
    return tracer.files


if __name__ == "__main__":
    pointing = arrows()
    for name in sorted({room(path) for path in modules()}):
        print(f"{name:12} -> {' '.join(sorted(other for here, other in pointing if here == name))}")
    path = path_of_a_pair()
    for file, (function, form) in path.items():
        print(f"{file:32} {function}: {form}")
    print(f"{len({room(path) for path in modules()})} rooms (at most {MOST_ROOMS})")
    print(f"{len(pointing)} arrows (at most {MOST_ARROWS})")
    print(f"{len(path)} files that give a pair another form (at most {MOST_FILES})")
