"""A resumed run goes on with its own settings; what cannot be is one line before Flower starts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from client_app.app import app as client_app
from mrff.cli.main import main
from mrff.config import ConfigError, full_names
from server_app.app import app as server_app
from server_app.run.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from server_app.run.resumption import as_resumed, as_resumed_at
from strategies.state import TrainingState
from tests.support.federation import run_federation
from tests.support.local_grid import LocalGrid

NODES = 2


@pytest.fixture(scope="module")
def home(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished run of 3 rounds and 2 experts, the default being 4."""
    folder = tmp_path_factory.mktemp("home")
    run_federation(small_data, folder, nodes=NODES, name="first", num_experts=2)
    return folder


def given(home: Path, **changes: Any) -> dict[str, Any]:
    return full_names(
        {"home": str(home), "resume": "first", **{k.replace("_", "-"): changes[k] for k in changes}}
    )


def test_what_is_not_given_is_the_runs_own(home: Path, small_data: Path) -> None:
    config = as_resumed(given(home, num_server_rounds=5, tensorboard=True))
    assert config["network.num-experts"] == 2
    assert config["data.data-dir"] == str(small_data)
    assert (config["server.num-server-rounds"], config["run.tensorboard"]) == (5, True)
    assert config["run.resume"] == "first"
    assert not {"run.name", "server.expected-nodes"} & config.keys()  # of that time
    assert as_resumed(given(home))["server.num-server-rounds"] == 3


def test_a_server_elsewhere_gets_the_runs_own_settings_and_not_this_hosts_home(home: Path) -> None:
    config = as_resumed_at(home, {"run.resume": "first", "server.num-server-rounds": 5})
    assert (config["network.num-experts"], config["server.num-server-rounds"]) == (2, 5)
    assert "data.home" not in config
    there = as_resumed_at(home, {"run.resume": "first", "data.home": "/there"})
    assert there["data.home"] == "/there"
    assert as_resumed_at(home, {"run.name": "new"}) == {"run.name": "new"}
    with pytest.raises(ConfigError, match="which a resumed run keeps, got 8"):
        as_resumed_at(home, {"run.resume": "first", "network.num-experts": 8})


def test_by_flower_alone_a_run_of_other_settings_is_refused_with_all_that_is_to_be_given(
    home: Path, small_data: Path
) -> None:
    """Nodes are told pyproject's settings, so that the server cannot take a run's own over."""
    expected = r"network\.num-experts=2 \(mrff run, and mrff deploy submit --results HOME, take it"
    with pytest.raises(ConfigError, match=expected):
        run_federation(small_data, home, nodes=NODES, name="", resume="first", num_server_rounds=4)


def test_a_new_run_has_what_is_given() -> None:
    assert as_resumed({"network.num-experts": 8}) == {"network.num-experts": 8}


def test_it_may_be_given_again_and_auto_stays_as_the_run_has_it(home: Path) -> None:
    config = as_resumed(given(home, num_experts=2.0, objective="auto", window_length=16))
    assert config["network.num-experts"] == 2
    assert config["training.objective"] == "click"


def test_a_default_that_is_given_is_given(home: Path) -> None:
    said = "run first has network.num-experts=2, which a resumed run keeps, got 4; leave it out"
    with pytest.raises(ConfigError, match=said):
        as_resumed(given(home, num_experts=4))


def test_such_a_run_goes_on(home: Path) -> None:
    config = as_resumed(given(home, num_server_rounds=4))
    grid = LocalGrid(client_app, NODES, config)
    server_app(grid=grid, context=Context(1, 0, {}, RecordDict(), config))
    assert json.loads((home / "runs/first/summary.json").read_text())["rounds"] == 4
    stored = json.loads((home / "runs/first/config.json").read_text())
    assert stored["network.num-experts"] == 2


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"resume": "nothing"}, CheckpointError, "there is no run in"),
        ({"num_server_rounds": 1}, ConfigError, "num-server-rounds=1 counts all rounds"),
        ({"num_experts": 8}, ConfigError, "has network.num-experts=2, which a resumed run keeps"),
        ({"num_experts": 0}, ConfigError, "num-experts must be between 1 and 64, got 0"),
        ({"name": "second"}, ConfigError, "a resumed run keeps its name"),
    ],
)
def test_what_cannot_be_is_one_line_and_starts_nothing(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    with pytest.raises(error, match=said):
        as_resumed(given(home, **changes))
    assert said in refusal(home, NODES, changes, capsys)


def test_another_number_of_nodes_would_lose_private_parameters(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(home, NODES + 1, {}, capsys)
    assert "run first was trained on 2 nodes, got 3" in said
    assert "resume with --nodes 2" in said


def refusal(
    home: Path, nodes: int, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> str:
    """What `mrff run` says that starts nothing: one line."""
    words = [w for key, value in given(home, **changes).items() for w in ("-c", f"{key}={value}")]
    assert main(["run", "--nodes", str(nodes), *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith("mrff: ")
    assert line.count("\n") == 1
    assert not (home / "flower").exists()
    return line


def test_plain_flwr_is_told_all_that_is_to_be_given(home: Path, small_data: Path) -> None:
    """There, nodes read what was given themselves."""
    wanted = "resume with the same configuration: .*network.num-experts=2"
    with pytest.raises(ConfigError, match=wanted) as caught:
        run_federation(small_data, home, nodes=NODES, name="", resume="first", dropout=0.5)
    assert "network.dropout=0.3" in str(caught.value)


def test_a_best_round_by_another_measure_is_compared_no_further(
    small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Earlier versions chose by the AUC where both is learned, and did not store what they did."""
    settings: dict[str, Any] = {"nodes": NODES, "objective": "both", "evaluate_every": 1}
    run_federation(small_data, tmp_path, name="old", **settings, num_server_rounds=2)
    folder = tmp_path / "runs/old/checkpoint"
    earlier = load_checkpoint(folder)
    assert earlier.state.best_by == "auc_ndcg10"
    numbers = {k: v for k, v in earlier.state.numbers().items() if k != "best_by"}
    state = TrainingState.restored(earlier.state.arrays(), {**numbers, "best_value": 0.9999})
    save_checkpoint(folder, replace(earlier, state=state))

    run_federation(small_data, tmp_path, name="", resume="old", **settings, num_server_rounds=3)
    said = f"round {state.best_round} is the best by auc; this version compares by auc_ndcg10"
    assert sum(said in line for line in caplog.messages) == 1
    after = load_checkpoint(folder).state
    assert (after.best_round, after.best_by) == (3, "auc_ndcg10")
    assert after.best_value is not None
    assert after.best_value < 0.9999
