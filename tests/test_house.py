"""The rules of the house, checked in the source: parameters, imports, words.

Who may import whom, and that there is no circle, is lint-imports' to check (pyproject.toml).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("client_app", "server_app", "strategies", "mrff_model", "mrff")
MOST_PARAMETERS = 5
# Functions that take more, each with the reason. A command's parameters are its options.
COMMANDS = "mrff/cli/"
EXCEPTIONS = {
    "strategies/mrff.py:start": "Flower's own signature",
    "strategies/exchange.py:__init__": "a test's clock and sleep are two of them",
}


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in sources():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def number_of_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return sum(parameter.arg not in ("self", "cls") for parameter in named)


def test_functions_take_at_most_five_parameters() -> None:
    above = {
        name for name, function in functions() if number_of_parameters(function) > MOST_PARAMETERS
    }
    above = {name for name in above if not name.startswith(COMMANDS)}
    assert above == EXCEPTIONS.keys(), "a new one travels as one object; a gone one leaves the list"


def test_nothing_is_imported_by_string() -> None:
    for path in sources():
        for node in ast.walk(tree_of(path)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("import_module", "importlib.import_module", "__import__"), path


def test_imports_inside_functions_say_why() -> None:
    """They are for heavy libraries only, or for what brings them."""
    for path in sources():
        lines = path.read_text().splitlines()
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.FunctionDef):
                continue
            late = [n for n in node.body if isinstance(n, ast.Import | ast.ImportFrom)]
            if late and not path.is_relative_to(ROOT / "mrff/cli"):
                shown = "\n".join(lines[late[0].lineno - 2 : late[-1].end_lineno])
                assert "#" in shown, f"{path}:{late[0].lineno} imports late without a reason"


def test_every_class_name_stands_once() -> None:
    seen: dict[str, Path] = {}
    for path in sources():
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert node.name not in seen, f"{node.name} in {seen[node.name]} and {path}"
                seen[node.name] = path


def test_flower_leaves_no_module_out_of_its_bundle() -> None:
    """It drops what looks like a test, and folders that look like build output."""
    left_out = re.compile(r"(^|/)(test_[^/]*|[^/]*_test\.py|build/.*|dist/.*)$")
    for path in sources():
        assert not left_out.search(str(path.relative_to(ROOT))), path


def test_no_test_module_imports_another() -> None:
    pattern = re.compile(r"^from tests\.(?!support)|^import tests", re.MULTILINE)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        assert not pattern.search(path.read_text()), path


@pytest.mark.parametrize("suffix", ["*.py", "*.md"])
def test_a_person_is_they_and_documents_exist(suffix: str) -> None:
    folders = [ROOT / name for name in (*PACKAGES, "tests", "benchmarks", "docs", "docker")]
    files = [*ROOT.glob(suffix), *(path for folder in folders for path in folder.rglob(suffix))]
    word = re.compile(r"\b(he|his|him|himself|she|her|DESIGN)\b")
    for path in files:
        if path == Path(__file__) or path.name == "CHANGELOG.md":
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            assert not word.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
