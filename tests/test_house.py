"""House rules as tests: layers, torch-free rooms, fast help, no dead knob, documentation in step."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.structure import (
    MOST_ARROWS,
    MOST_FILES,
    MOST_ROOMS,
    SOURCE,
    arrows,
    imported,
    imports,
    module_name,
    modules,
    path_of_a_pair,
    room,
)

ROWS = {
    room: row
    for row, rooms in enumerate(
        (
            "types errors metrics config ledger __init__",
            "spec losses kernels",
            "models data sandbox",
            "feedback",
            "engine",
            "collectors rewards",
            "recipes evaluation",
            "reports web",
            "commands course __main__",
        )
    )
    for room in rooms.split()
}
NOUNS, SURFACE = 0, max(ROWS.values())
WITHIN = {
    "web": ("shell", "annotate", "explorer"),
    "feedback": ("store", "quality", "workflow", "snapshot", "exchange"),
}
"""Rooms of rooms, lowest first."""
TORCH_FREE = ("types errors metrics config ledger spec sandbox feedback collectors reports web course").split()
LIGHT_COMMANDS = (
    "app compare constitution curate data demo doctor evaluate exploit explore export feedback frontier hacking live "
    "mirror mirrors.follow mirrors.sink options plan quickstart report restart resume rollouts run sample score serve "
    "sweep trace training version watch"
).split()
"""Commands that load no torch, at least until they run."""


def test_every_module_has_a_room():
    assert sorted({room(p) for p in modules()} - set(ROWS)) == []


def test_the_structure_stays_small():
    assert len({room(path) for path in modules()}) <= MOST_ROOMS
    assert len(arrows()) <= MOST_ARROWS


@pytest.mark.slow
def test_a_pair_takes_few_forms_on_its_way_to_a_gradient():
    path = path_of_a_pair()
    forms = [form for _, form in path.values()]
    assert [form for form in ("Line", "PreferencePair", "Rows", "Tensor") if form not in forms] == []
    assert len(path) <= MOST_FILES


def test_a_room_imports_only_from_rows_below():
    wrong = []
    for path in modules():
        own = room(path)
        for other, line in imports(path):
            if other == own or other not in ROWS:
                continue
            same_row_allowed = ROWS[own] in (NOUNS, SURFACE)  # the nouns know each other, and so does the surface
            if ROWS[other] > ROWS[own] or (ROWS[other] == ROWS[own] and not same_row_allowed):
                wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {other}")
    assert wrong == []


@pytest.mark.parametrize("name", WITHIN)
def test_layers_hold_inside_a_room_of_rooms(name):
    rows = {part: row for row, part in enumerate(WITHIN[name])}
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {parts[1]}"
        for path in sorted((SOURCE / name).rglob("*.py"))
        if (own := path.relative_to(SOURCE / name).parts[0]) in rows
        for parts, line in imported(path)
        if parts[0] == name and rows[parts[1]] > rows[own]
    ]
    assert wrong == []


def test_torch_free_rooms_do_not_load_torch():
    """In one process: what an earlier module loaded is not loaded again, so the first that brings torch is named."""
    names = [f"trueup.{name}." for name in (*TORCH_FREE, *(f"commands.{command}" for command in LIGHT_COMMANDS))]
    known = [module_name(path) for path in modules()]
    assert [name for name in names if not any(f"{module}.".startswith(name) for module in known)] == []
    inside = [module for module in known if f"{module}.".startswith(tuple(names))]
    code = f"import sys\nfor m in {inside!r}:\n    __import__(m)\n    if 'torch' in sys.modules: sys.exit(m)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_pickle_is_ever_loaded():
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text, path
        assert "import pickle" not in text, path


def test_no_junk_drawers():
    banned = {"utils", "common", "helpers", "core", "manager", "base"}
    assert [p for p in modules() if p.stem in banned or p.parent.name in banned] == []


def test_kernels_know_nothing_of_trueup_but_its_errors():
    inside = [path for path in modules() if room(path) == "kernels"]
    assert {name for path in inside for name, _ in imports(path)} == {"kernels", "errors"}


def test_every_kernel_can_be_named_in_the_settings_and_is_differentiated_once():
    from trueup import config, kernels

    assert tuple(kernels.KERNELS) == config.KERNELS
    for path in modules():
        if room(path) in ("spec", "course"):  # backward passes in NumPy
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "backward":
                marks = [mark.id for mark in node.decorator_list if isinstance(mark, ast.Name)]
                assert "once_differentiable" in marks, f"{path.relative_to(SOURCE)}:{node.lineno}"
            assert not (isinstance(node, ast.Attribute) and node.attr == "FunctionType"), path


def test_public_functions_classes_and_methods_are_documented():
    missing = []
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if ast.get_docstring(tree) is None and path.name != "__init__.py":
            missing.append(f"{path.relative_to(SOURCE)}")
        for node in tree.body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and ast.get_docstring(node) is None:
                missing.append(f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}")
            missing += [
                f"{path.relative_to(SOURCE)}:{method.lineno} {node.name}.{method.name}"
                for method in (node.body if isinstance(node, ast.ClassDef) and public else [])
                if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef))
                and not method.name.startswith("_")
                and ast.get_docstring(method) is None
            ]
    assert missing == []


def test_help_is_fast_because_it_loads_nothing_heavy():
    code = (
        "import sys; sys.argv=['trueup','--help']\nfrom trueup.commands.app import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy={'torch','transformers','datasets','peft','matplotlib','scipy','numpy','pydantic'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sft" in done.stdout


def recipe_configs():
    from trueup.recipes.table import RECIPES

    return sorted(RECIPES)


@pytest.mark.parametrize("kind", recipe_configs())
def test_every_setting_is_documented(kind):
    from trueup.config import describe
    from trueup.recipes.table import RECIPES

    assert [name for name, _, _, text in describe(RECIPES[kind].settings()) if not text] == []


def test_training_cannot_read_the_truth():
    """Property 93: whatever trains has no road to gold."""
    trains = {"losses", "models", "engine", "rewards", "recipes"}
    assert [
        str(path) for path in modules() if room(path) in trains and "sandbox" in path.read_text(encoding="utf-8")
    ] == []


LONG_FILES = {
    "data/render.py": "one noun: the renderer, for prompts, pairs, demonstrations and labels",
    "spec/preference.py": "one formula and its gradient after the other",
    "sandbox/facts.py": "a table of facts",
}
LONG_FUNCTIONS = {
    "commands/comparison.py:compare_models": "one straight line from models to a report",
    "commands/evaluate.py:evaluate": "an option of a command is a line",
    "commands/sandbox_recipe.py:stages": "a table of stages",
    "feedback/store/reading.py:read_project": "one query for each table, side by side",
    "feedback/snapshot/curate.py:curate": "one straight line from judgments to files, most of it arguments",
    "reports/build.py:build_report": "one page, part by part",
}
MANY_PARAMETERS = {
    "commands/compare.py": "an option of a command is a parameter",
    "commands/constitution.py": "an option of a command is a parameter",
    "commands/curate.py": "an option of a command is a parameter",
    "commands/evaluate.py": "an option of a command is a parameter",
    "commands/comparison.py": "what the command was given",
    "commands/api/evaluating.py": "what the command takes",
    "commands/api/exploit.py": "what the command takes",
    "commands/exploit.py": "an option of a command is a parameter",
    "commands/explore.py": "an option of a command is a parameter",
    "commands/plan.py": "an option of a command is a parameter",
    "commands/rollouts.py": "an option of a command is a parameter",
    "commands/sample.py": "an option of a command is a parameter",
    "commands/score.py": "an option of a command is a parameter",
    "commands/why.py": "an option of a command is a parameter",
    "web/annotate/projects.py": "a field of a form is a parameter",
    "spec/preference.py": "the symbols of the formula",
    "losses/preference.py": "the symbols of the formula",
    "data/read.py": "how a file is read: each setting of ``read:``",
    "data/render.py": "how a row is rendered: each setting that acts on it",
    "evaluation/collect.py": "what is measured of an answer",
    "evaluation/intervals.py": "what a resampling needs",
    "feedback/snapshot/curate.py": "each filter of a snapshot",
    "feedback/workflow/dashboard.py": "the columns of an export's record",
    "feedback/workflow/judgments.py": "the fields of a judgment",
    "ledger/run.py": "what a run records of itself",
    "kernels/cache.py": "the shape of a cache",
    "kernels/packing.py": "the signature is transformers' own",
    "recipes/registry.py": "how a run is started",
    "reports/build.py": "the parts of a page",
    "web/annotate/serve.py": "an option of a command is a parameter",
}
MOST_LINES, MOST_IN_FUNCTION, MOST_PARAMETERS = 400, 60, 8


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def local(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def test_size_is_a_question_to_answer():
    """Past 400 lines, a function past 60 or past eight parameters, the lists say why; they hold nothing that is not."""
    files = {local(p) for p in modules() if len(p.read_text(encoding="utf-8").splitlines()) > MOST_LINES}
    assert files == set(LONG_FILES)
    long, many = set(), set()
    for path in modules():
        for node in functions(path):
            if (node.end_lineno or 0) - node.lineno >= MOST_IN_FUNCTION:
                long.add(f"{local(path)}:{node.name}")
            if len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) > MOST_PARAMETERS:
                many.add(local(path))
    assert long == set(LONG_FUNCTIONS)
    assert many == set(MANY_PARAMETERS)


def names_used(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


UNCALLED: dict[str, str] = {}
"""Functions of ``losses/`` that no recipe calls, and why they are there."""


def test_every_loss_is_called_by_a_recipe_or_says_why_not():
    used = set().union(*(names_used(path) for path in modules() if room(path) not in ("losses", "spec", "course")))
    inside = set().union(*(names_used(path) for path in modules() if room(path) == "losses"))
    defined = {
        node.name
        for path in modules()
        if room(path) == "losses"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert defined - used - inside == set(UNCALLED)


def test_metrics_table_is_complete():
    from trueup.metrics import METRICS

    for name, metric in METRICS.items():
        assert metric.meaning, name
        assert metric.estimator, name
        assert metric.unit, name
        assert inspect.signature(type(metric)).parameters.keys() >= {"meaning", "estimator", "unit", "better"}


def test_package_imports_without_heavy_modules():
    assert import_module("trueup").__version__
