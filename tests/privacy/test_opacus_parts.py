"""Private runs print each line once, whatever Opacus does to the root logger when imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = """
import logging, sys
from pathlib import Path
from tests.support.federation import run_federation

run_federation(
    Path(sys.argv[1]), Path(sys.argv[2]), nodes=2, name="private", mode=sys.argv[3],
    num_server_rounds=1, epsilon_budget=100.0, delta=1e-3, device="cpu",
)
assert "opacus" in sys.modules
assert logging.getLogger().handlers == [], logging.getLogger().handlers
"""


@pytest.mark.parametrize("mode", ["central-user", "local-dp-sgd"])
def test_every_line_once(small_data: Path, tmp_path: Path, mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(small_data), str(tmp_path), mode],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stderr.splitlines()
    for said in ("privacy: ", "nodes are connected", "round 1/1", "best-round 1"):
        assert sum(said in line for line in lines) == 1, (said, done.stderr)


def test_opacus_is_imported_in_one_place() -> None:
    found = [
        path.name
        for folder in ("mrff", "client_app", "server_app", "strategies", "mrff_model")
        for path in (ROOT / folder).rglob("*.py")
        if "from opacus" in path.read_text() or "import opacus" in path.read_text()
    ]
    assert found == ["opacus_parts.py"]
