from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.federation import run_federation

RUN = "small"
ROUNDS = 12


@pytest.fixture(scope="session")
def trained_home(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the finished run ``small``: three nodes, private state on this machine."""
    home = tmp_path_factory.mktemp("home")
    run_federation(
        small_data, home, nodes=3, name=RUN, num_server_rounds=ROUNDS, evaluate_every=2,
        private_learning_rate=0.3, num_experts=3, gate_learning_rate_factor=1.0, seed=3,
        user_factors=True,
    )  # fmt: skip
    return home


@pytest.fixture
def at_home(trained_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where the command looks for it."""
    monkeypatch.setenv("MRFF_HOME", str(trained_home))
    return trained_home
