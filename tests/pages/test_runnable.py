"""What the documents ask people to run, run as it stands: the tutorial and the first hour."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mrff.ops.processes import free_port

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITE = """
import pathlib, runpy, sys
runpy.run_path(sys.argv[1])["run_tutorial"](pathlib.Path(sys.argv[2]))
"""
pytestmark = pytest.mark.slow


def cells(notebook: Path) -> list[dict[str, Any]]:
    content: dict[str, Any] = json.loads(notebook.read_text())
    return list(content["cells"])


@pytest.mark.long
def test_the_tutorial_runs_and_the_notebook_is_of_its_text(tmp_path: Path) -> None:
    pytest.importorskip("jupytext", reason="the extra dev is not installed")
    out = tmp_path / "tutorial.ipynb"
    command = [sys.executable, "-c", WRITE, str(DOCS / "run_tutorial.py"), str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ran, kept = cells(out), cells(DOCS / "tutorial.ipynb")
    assert [c["source"] for c in ran] == [c["source"] for c in kept]
    shown = json.dumps([cell.get("outputs", []) for cell in ran])
    assert "image/png" in shown  # plots render
    assert "epsilon" in shown


@pytest.mark.long
def test_the_first_hour_word_for_word(tmp_path: Path) -> None:
    """Own data, a private run, and two nodes over TLS."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started = subprocess.Popen(
        ["bash", str(DOCS / "howto" / "first_hour.sh"), str(free_port())],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        env={**os.environ, "PATH": path}, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = started.communicate(timeout=1200)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        raise
    assert started.returncode == 0, said[-3000:]
    runs = tmp_path / "home" / "runs"
    for run in ("first", "private", "deployed"):
        assert (runs / run / "summary.json").is_file(), run
    assert (runs / "first" / "report.html").is_file()
    assert re.search(r"epsilon", said)
