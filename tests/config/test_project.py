"""The project file: nothing is installed anew for a simulated run, everything is locked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return match[0].lower()


def test_flower_installs_no_dependency_for_a_run() -> None:
    """By default it runs ``uv sync`` first, which would fetch PyTorch with CUDA."""
    needed = {name_of(requirement) for requirement in PROJECT["project"]["dependencies"]}
    assert set(PROJECT["tool"]["uv"]["exclude-dependencies"]) == needed


def test_every_dependency_has_a_range_and_one_locked_version() -> None:
    locked = {
        name_of(line): line.partition("==")[2]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    project = PROJECT["project"]
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        assert re.search(r"[<>=]", requirement), f"{requirement} has no range"
        assert locked.get(name_of(requirement)), f"{requirement} is not in constraints.txt"


def test_every_python_that_is_allowed_is_tested_and_no_other() -> None:
    allowed = SpecifierSet(PROJECT["project"]["requires-python"])
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    assert tested == [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}.5" in allowed]


def test_the_workflow_asks_what_the_makefile_offers() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    asked = re.findall(r"run: make ([a-z-]+)", (ROOT / ".github/workflows/ci.yml").read_text())
    assert asked == ["lint", "test", "test-all"]
    assert set(asked) <= set(targets)


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["project"]["version"]


def test_the_connection_to_run_on_is_the_users_own() -> None:
    """With federations in it, the ``flwr`` command would rewrite pyproject.toml."""
    assert "federations" not in PROJECT["tool"]["flwr"]


def test_every_package_is_installed() -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    tops = {name.split(".")[0] for name in listed}
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in tops
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert found == listed
