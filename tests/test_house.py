"""House rules as tests: layers, torch-free rooms, fast help, no dead knob, documentation in step."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "trueup"

ROWS = {
    **dict.fromkeys(
        ["__init__", "types", "errors", "metrics", "config", "ledger", "progress", "seeds", "allocator"], 0
    ),
    **dict.fromkeys(["spec", "losses"], 1),
    **dict.fromkeys(["models", "data", "feedback"], 2),
    "engine": 3,
    **dict.fromkeys(["recipes", "evaluation"], 4),
    **dict.fromkeys(["reports", "web"], 5),
    **dict.fromkeys(
        "cli cli_curate cli_feedback pipeline course crowd demo quickstart sample evaluate plan".split(), 6
    ),
    **dict.fromkeys("doctor trace reference __main__".split(), 6),
}
TORCH_FREE = "allocator types errors metrics config ledger spec feedback reports web cli cli_feedback course".split()


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> list[tuple[str, int, bool]]:
    """(imported trueup room, line, at module level)"""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trueup"):
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [a.name for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name.split(".")[1] for a in node.names if a.name.startswith("trueup.")]
        found += [(name, node.lineno, node in tree.body) for name in names]
    return found


def test_every_module_has_a_room():
    assert sorted({room(p) for p in modules()} - set(ROWS)) == []


def test_a_room_imports_only_from_rows_below():
    wrong = []
    for path in modules():
        own = room(path)
        for other, line, _ in imports(path):
            if other == own or other not in ROWS:
                continue
            same_row_allowed = ROWS[own] in (0, 6)  # row 0 is one desk; row 6 is the surface
            if ROWS[other] > ROWS[own] or (ROWS[other] == ROWS[own] and not same_row_allowed):
                wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {other}")
    assert wrong == []


def existing(rooms):
    return [r for r in rooms if (SOURCE / r).exists() or (SOURCE / f"{r}.py").exists()]


@pytest.mark.parametrize("name", existing(TORCH_FREE))
def test_torch_free_rooms_do_not_load_torch(name):
    inside = [
        ".".join(("trueup", *p.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        for p in modules()
        if room(p) == name
    ]
    code = f"import sys\nfor m in {inside!r}: __import__(m)\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, inside


def test_no_pickle_is_ever_loaded():
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text, path
        assert "import pickle" not in text, path


def test_no_junk_drawers():
    banned = {"utils", "common", "helpers", "core", "manager", "base"}
    assert [p for p in modules() if p.stem in banned or p.parent.name in banned] == []


def test_public_functions_and_classes_are_documented():
    missing = []
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if ast.get_docstring(tree) is None and path.name != "__init__.py":
            missing.append(f"{path.relative_to(SOURCE)}")
        for node in tree.body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and ast.get_docstring(node) is None:
                missing.append(f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}")
    assert missing == []


def test_help_is_fast_because_it_loads_nothing_heavy():
    code = (
        "import sys; sys.argv=['trueup','--help']\nfrom trueup.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy={'torch','transformers','datasets','peft','matplotlib','scipy','numpy','pydantic'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sft" in done.stdout


def recipe_configs():
    from trueup.recipes.registry import RECIPES

    return sorted(RECIPES)


@pytest.mark.parametrize("kind", recipe_configs())
def test_every_setting_is_documented_and_read(kind):
    """A config field that no code reads is a lie to the user."""
    from trueup.config import Settings, describe
    from trueup.recipes.registry import RECIPES

    settings = RECIPES[kind].settings()
    undocumented = [name for name, _, _, text in describe(settings) if not text]
    assert undocumented == []
    # In config.py itself only a block's own methods read a field: ``self.split``.
    attributes = {
        node.attr
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and (room(path) != "config" or (isinstance(node.value, ast.Name) and node.value.id == "self"))
    }

    def fields(kind: type[Settings]) -> set[str]:
        from trueup.config import _settings_in

        names = set(kind.model_fields)
        for info in kind.model_fields.values():
            for inner in _settings_in(info.annotation):
                names |= fields(inner)
        return names

    tag = {"kind"}  # the discriminator of a tagged union is read by pydantic
    assert sorted(fields(settings) - attributes - tag) == []


def test_training_cannot_read_the_truth():
    """Property 93: whatever trains has no road to gold."""
    trains = {"losses", "models", "engine", "recipes"}
    assert [
        str(path) for path in modules() if room(path) in trains and "sandbox" in path.read_text(encoding="utf-8")
    ] == []


def test_size_is_a_question_to_answer():
    """Past 400 lines or 60-line functions a file must say why: the list is short and deliberate."""
    answered: dict[str, str] = {
        "recipes/ppo.py": "one method, read top to bottom",
        "ledger.py": "one noun: the run directory",
        "cli.py": "one function for each command",
        "data/formats.py": "one short function for each layout of data",
        "spec/preference.py": "one formula and its gradient after the other",
        "data/sandbox/facts.py": "a table of facts",
        "data/sandbox/talk.py": "a table of advice and small talk",
    }
    long = {
        str(p.relative_to(SOURCE)): n for p in modules() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert sorted(set(long) - set(answered)) == []


def test_metrics_table_is_complete():
    from trueup.metrics import METRICS

    for name, metric in METRICS.items():
        assert metric.meaning, name
        assert metric.estimator, name
        assert metric.unit, name
        assert inspect.signature(type(metric)).parameters.keys() >= {"meaning", "estimator", "unit", "better"}


def test_package_imports_without_heavy_modules():
    assert import_module("trueup").__version__
