"""Each table of the store has one module that writes it: what a row must hold is decided in one place."""

import ast
from pathlib import Path

import pytest

import trueup
from trueup.feedback.store.schema import metadata

SOURCE = Path(trueup.__file__).parent
OWNERS = {
    "store/projects.py": {"project", "guideline", "template", "person"},
    "store/item_rows.py": {"prompt", "response", "item", "item_response"},
    "store/judgments.py": {"judgment"},
    "store/accounts.py": {"session", "api_token"},
    "store/chain.py": {"audit_event", "audit_proof"},
    "workflow/assignment.py": {"seat", "acknowledgement"},
    "workflow/judgments.py": {"flag"},
    "workflow/adjudication.py": {"adjudication"},
    "workflow/dashboard.py": {"export"},
}
VERBS = {"insert", "update", "delete"}


def writes(text):
    """What the statements of a module write: name of the table, or None where it cannot be told by reading."""
    tree = ast.parse(text)
    imported = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sqlalchemy")
        for name in node.names
        if name.name in VERBS
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called, receiver = node.func, None
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            called, receiver = called.attr, called.value.id
        elif isinstance(called, ast.Name):
            called = called.id
        if receiver is None and called in imported:
            argument = node.args[0] if node.args else None
            yield argument.id if isinstance(argument, ast.Name) and argument.id in metadata.tables else None
        elif receiver in metadata.tables and called in VERBS:
            yield receiver


def test_each_table_is_written_by_the_module_that_owns_it_and_by_no_other():
    written = {
        path.relative_to(SOURCE).as_posix().removeprefix("feedback/"): set(writes(path.read_text(encoding="utf-8")))
        for path in sorted(SOURCE.rglob("*.py"))
    }
    assert {path: tables for path, tables in written.items() if tables} == OWNERS


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("from sqlalchemy import insert\ninsert(judgment).values(id=1)", {"judgment"}),
        ("from sqlalchemy import update as change\nchange(item)", {"item"}),
        ("from sqlalchemy import insert\nfor table in (item,): insert(table)", {None}),
        ("judgment.delete()", {"judgment"}),
        ("from numpy import insert\ninsert(values, 0, 1)\nnames.update(judgment)\n{}.update(item)", set()),
    ],
)
def test_writes_are_seen_in_every_form(text, tables):
    assert set(writes(text)) == tables


def test_every_table_has_an_owner():
    assert sorted(table for tables in OWNERS.values() for table in tables) == sorted(metadata.tables)
