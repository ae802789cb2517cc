"""Flower's bundle of the app (FAB): what Flower's own checks for its Hub say of it."""

from __future__ import annotations

import shutil
import tomllib
import zipfile
from io import BytesIO
from pathlib import Path

import flwr
import pytest
from flwr.cli.app_cmd.publish import (
    _collect_file_paths,
    _get_declared_license_file,
    _validate_description,
    _validate_files,
)
from flwr.cli.build import build_fab_from_files
from flwr.cli.config_utils import load_and_validate
from flwr.cli.utils import collect_files, validate_project_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    """Those of the checkout, without an environment and without caches."""
    found = collect_files(ROOT)
    return {name: path for name, path in found.items() if not name.startswith(".venv/")}


def test_the_bundle_says_which_flower_it_is_for(files: dict[str, Path]) -> None:
    bundle, about = build_fab_from_files(files)
    assert about.fab_format_version == 1
    assert about.flwr_version_min == "1.41.0"
    assert about.flwr_version_target == flwr.__version__
    with zipfile.ZipFile(BytesIO(bundle)) as archive:
        names = archive.namelist()
        assert archive.read("LICENSE") == (ROOT / "LICENSE").read_bytes()
    tops = {name.split("/")[0] for name in names}
    packages = {name.split(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    assert tops == {*packages, "pyproject.toml", "LICENSE", ".info"}
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        folder = ROOT / package.replace(".", "/")
        wanted = {str(path.relative_to(ROOT)) for path in folder.glob("*.py")}
        assert wanted <= set(names), "a package is left out; name it in fab-include"


def test_flower_has_nothing_to_recommend() -> None:
    config, warnings = load_and_validate(ROOT / "pyproject.toml")
    assert warnings == []
    validate_project_name(config["project"]["name"], "name")


def test_the_hub_would_take_the_files(
    tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every check that ``flwr app publish`` makes before it sends anything.

    They look at a folder: here at one with the files that a fresh clone would have.
    """
    for name, path in files.items():
        if not name.startswith(".git/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tmp_path / name)
    _validate_description(PROJECT["project"]["description"])
    assert _get_declared_license_file(tmp_path) == tmp_path / "LICENSE"
    _validate_files(_collect_file_paths(tmp_path))
    assert "Validation passed" in capsys.readouterr().out
