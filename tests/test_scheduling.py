"""Tests of a whole pytest of its own: deployments share one worker and begin first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ONE = """
import os, time
from pathlib import Path
import pytest

{mark}
def test_one():
    with Path(os.environ["SEEN"]).open("a") as file:
        file.write(f"{name} {{os.environ['PYTEST_XDIST_WORKER']}}\\n")
    time.sleep(0.2)
"""
FILES = {
    "tests/cli/test_quick.py": "",
    "tests/cli/test_slow.py": "@pytest.mark.slow",
    "tests/deployment/test_first.py": "@pytest.mark.slow",
    "tests/deployment/test_second.py": "@pytest.mark.slow",
    "tests/deployment/test_third.py": "@pytest.mark.slow",
    "tests/model/test_quickest.py": "",
    "tests/wire/test_slowest.py": "@pytest.mark.slow",
}


def seen_in_parallel(folder: Path, *plugins: str) -> list[list[str]]:
    """Names and workers of tests in files like ours, in the order in which they began."""
    for path, mark in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(ONE.format(mark=mark, name=path))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "--no-loadscope-reorder", *plugins],
        cwd=folder, check=True, timeout=300, stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SEEN": str(folder / "seen")},
    )  # fmt: skip
    return [line.split() for line in (folder / "seen").read_text().splitlines()]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """As tests run here."""
    return seen_in_parallel(tmp_path_factory.mktemp("ours"), "-p", "tests.support.scheduling")


def workers_of_deployments(seen: list[list[str]]) -> set[str]:
    assert len(seen) == len(FILES)
    return {worker for name, worker in seen if name.startswith("tests/deployment/")}


@pytest.mark.slow
def test_deployments_are_never_two_at_a_time(tmp_path: Path, seen: list[list[str]]) -> None:
    assert len(workers_of_deployments(seen)) == 1
    assert len(workers_of_deployments(seen_in_parallel(tmp_path, "--dist", "loadfile"))) == 2


@pytest.mark.slow
def test_deployments_begin_first_and_beside_them_what_is_quick(seen: list[list[str]]) -> None:
    assert "tests/deployment/test_first.py" in {name for name, _ in seen[:2]}
    (deploys,) = workers_of_deployments(seen)
    others = [name for name, worker in seen if worker != deploys]
    assert others[:2] == ["tests/cli/test_quick.py", "tests/model/test_quickest.py"]
