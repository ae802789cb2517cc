"""The Flower app that is run: a folder with pyproject.toml and the packages beside it."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from functools import cache
from pathlib import Path

from mrff.config import ConfigError

_CODE = Path(__file__).resolve().parents[2]  # a checkout, or where packages are installed
PACKED = Path("mrff", "app")  # in an installed package: what setup.py put there
PROJECT = "pyproject.toml"


def app_folder(app: Path | None) -> Path:
    """The folder given, else the checkout this code is in, else what is installed.

    Raises:
        ConfigError: there is none.
    """
    if app is None:
        return Path(_laid_out().name) if (_CODE / PACKED / PROJECT).is_file() else checkout()
    if not (app / PROJECT).is_file():
        raise ConfigError(
            f"{app.absolute()} holds no Flower app (no {PROJECT}); name the checkout with --app"
        )
    return app.absolute()


def checkout() -> Path:
    """The checkout this code is in.

    Raises:
        ConfigError: the code is installed.
    """
    if (_CODE / PACKED / PROJECT).is_file() or not (_CODE / PROJECT).is_file():
        raise ConfigError(f"the code in {_CODE} is installed and no checkout; get the source")
    return _CODE


@cache
def _laid_out() -> tempfile.TemporaryDirectory[str]:
    """The installed app as a folder, until this process ends: Flower makes a bundle of a folder.

    What is in site-packages lies among all other packages.
    """
    folder = tempfile.TemporaryDirectory(prefix="mrff-app-")
    for file in (_CODE / PACKED).iterdir():
        shutil.copy2(file, folder.name)
    project = tomllib.loads((Path(folder.name) / PROJECT).read_text(encoding="utf-8"))
    ignored = shutil.ignore_patterns("__pycache__", PACKED.name)
    for package in sorted(
        {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    ):
        shutil.copytree(_CODE / package, Path(folder.name) / package, ignore=ignored)
    return folder
