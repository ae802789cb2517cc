"""Real datasets that are not in the repository: beside the checkout, or in MRFF_SHARED_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[3] / "shared" / "data"


def shared_data(name: str) -> Path:
    """The folder of a real dataset; the test is skipped with the reason where it is not there."""
    folder = Path(os.environ.get("MRFF_SHARED_DATA") or BESIDE) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here; set MRFF_SHARED_DATA to the folder that has {name}")
    return folder
