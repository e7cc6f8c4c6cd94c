"""Writes a notebook from its file of cells: ``python -m notebooks.build [--execute]``.

``activity_16.py`` holds the cells in the percent format (``# %%``, ``# %% [markdown]``), so that they are linted,
compared and run as Python. The same file gives the same notebook, to the byte, apart from outputs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE, NOTEBOOK = HERE / "activity_16.py", HERE / "activity-16.ipynb"
_CELL = re.compile(r"^# %%(?P<markdown> \[markdown\])?$", re.MULTILINE)

_WIDGETS = "IProgress not found"
"""What tqdm says, with a path of this machine, where the kernel has no widgets for its bars."""


def cells(text: str) -> list[tuple[str, str]]:
    """Kind (``markdown`` or ``code``) and text of each cell of a file in the percent format."""
    marks = list(_CELL.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        raise ValueError("the file does not begin with a cell: # %%")
    made = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        body = text[mark.end() : following.start() if following else len(text)].strip("\n")
        if mark["markdown"]:
            body = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())
        made.append(("markdown" if mark["markdown"] else "code", body))
    return made


def notebook(text: str) -> Any:
    """The notebook of a file of cells, without outputs."""
    from nbformat import v4

    made = v4.new_notebook()
    made.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, (kind, body) in enumerate(cells(text)):
        cell = v4.new_markdown_cell(body) if kind == "markdown" else v4.new_code_cell(body)
        cell.id = f"cell-{number:02d}"  # else it would be drawn
        made.cells.append(cell)
    return made


def executed(made: Any, folder: Path, timeout: int) -> Any:
    """The notebook with the outputs of its cells, run in ``folder`` by a kernel of its own.

    Raises:
        CellExecutionError: A cell failed.
    """
    from nbclient import NotebookClient

    folder.mkdir(parents=True, exist_ok=True)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(made, timeout=timeout, resources=resources, record_timing=False).execute()
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _WIDGETS not in output.get("text", "")]
    made.metadata["language_info"] = {"name": "python"}
    return made


def main() -> None:
    """Write the notebook."""
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--execute", action="store_true", help="Run the cells, and keep what they show.")
    parser.add_argument("--size", default="default", help="smoke, default or full.")
    parser.add_argument("--folder", type=Path, default=Path(), help="Where the cells run; runs/ is below it.")
    parser.add_argument("--out", type=Path, default=NOTEBOOK)
    parser.add_argument("--timeout", type=int, default=7200, help="Seconds for one cell.")
    args = parser.parse_args()
    made = notebook(SOURCE.read_text(encoding="utf-8"))
    if args.execute:
        os.environ["TRUEUP_NOTEBOOK"] = args.size
        made = executed(made, args.folder, args.timeout)
    nbformat.validate(made)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(nbformat.writes(made) + "\n", encoding="utf-8")
    print(f"{args.out}: {len(made.cells)} cells", file=sys.stderr)


if __name__ == "__main__":
    main()
