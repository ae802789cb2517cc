"""What a run that goes on from another takes over, and what is refused before Flower starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mrff.config import ConfigError, RunConfig
from mrff.ops import simulation
from mrff.ops.federation import Federation
from mrff.ops.simulation import simulate
from mrff.ops.start_from import check_start, inherited
from server_app.run.checkpoint import CheckpointError
from tests.support.trained import RUN


def test_settings_are_those_of_that_run_where_none_are_given(at_home: Path) -> None:
    values = inherited({"run.start-from": RUN, "network.dropout": 0.1})
    config, earlier = (
        RunConfig.from_flat(values),
        RunConfig.from_flat(simulation.read_settings(None, [])),
    )
    assert config.network.num_experts == 3
    assert config.data.window_length == 16
    assert config.training.private_learning_rate == 0.3
    assert config.network.dropout == 0.1  # given
    assert config.training.seed == 4  # that of the run was 3: users are drawn anew
    assert config.server.num_server_rounds == earlier.server.num_server_rounds
    assert config.run.name is None
    check_start(config)


def test_sizes_that_the_objective_decides_stay(at_home: Path) -> None:
    values = inherited({"run.start-from": RUN, "training.objective": "next"})
    config = RunConfig.from_flat(values)
    assert (config.feature_mix, config.network_arguments()["feature_dim"]) == ("concat", 4)
    check_start(config)


def test_without_a_run_to_go_on_from_nothing_changes() -> None:
    assert inherited({"network.dropout": 0.1}) == {"network.dropout": 0.1}
    resumed = {"run.start-from": "a", "run.resume": "b"}
    assert inherited(resumed) == resumed  # type: ignore[arg-type, comparison-overlap]


def test_what_does_not_fit_is_refused_before_flower_starts(
    at_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(*_: object, **__: object) -> None:
        raise AssertionError("Flower was started")

    monkeypatch.setattr(simulation, "FlowerEngine", engine)

    def start(run: str, **changes: int) -> None:
        values = {key.replace("__", ".").replace("_", "-"): v for key, v in changes.items()}
        simulate({"run.start-from": run, **values}, Federation(2))

    with pytest.raises(ConfigError, match="num-layers 2 there, 1 here"):
        start(RUN, network__num_layers=1)
    with pytest.raises(CheckpointError, match="start-from='nobody': there is no run in"):
        start("nobody")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match=r"config.json is missing; it holds that run's settings"):
        start(str(empty))
    shutil.copytree(at_home / "runs" / RUN, tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "checkpoint")
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        start(str(tmp_path / "broken"))
