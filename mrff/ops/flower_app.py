"""The Flower app that is run: a folder with pyproject.toml and the packages beside it."""

from __future__ import annotations

from pathlib import Path

from mrff.config import ConfigError


def app_folder(app: Path | None) -> Path:
    """The folder given, or the checkout this code is in.

    Raises:
        ConfigError: there is none.
    """
    folder = Path(__file__).resolve().parents[2] if app is None else app.absolute()
    if not (folder / "pyproject.toml").is_file():
        raise ConfigError(
            f"{folder} holds no Flower app (no pyproject.toml); name the checkout with --app"
        )
    return folder
