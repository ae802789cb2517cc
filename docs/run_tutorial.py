"""Runs the tutorial and writes docs/tutorial.ipynb, what it prints and draws included."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
QUIET = {"NO_COLOR": "1", "COLUMNS": "90", "OMP_NUM_THREADS": "1"}


def run_tutorial(out: Path) -> None:
    """Executes ``tutorial.py`` cell by cell into the notebook ``out``.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = jupytext.read(HERE / "tutorial.py")
    os.environ.update(QUIET)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    client = NotebookClient(notebook, timeout=600, record_timing=False, coalesce_streams=True)
    client.execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same in every run: changes show what changed
    nbformat.write(notebook, out)


if __name__ == "__main__":
    run_tutorial(HERE / "tutorial.ipynb")
