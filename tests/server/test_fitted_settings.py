"""What a run leaves to its data: decided by the server, told to nodes, stored, inherited."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.node import open_node
from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import load_catalogue
from mrff.data.facts import facts_of
from mrff.data.prepare import prepare
from mrff.data.schema import Schema
from mrff.data.shard import shard
from mrff.ops.start_from import inherited
from mrff.wire.requests import Request, RequestError, RoundFacts, RunFacts
from server_app.model import initial_state
from tests.support.federation import run_federation
from tests.support.tied_data import tied


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short histories of many items: item biases, small embeddings, more dropout."""
    folder = tmp_path_factory.mktemp("sparse") / "d"
    options = {"users": 60, "items": 30, "sparse": 1, "events_per_user": 3}
    prepare("synthetic", out=folder, options=options)
    return folder


@pytest.fixture(scope="module")
def home(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the runs ``fits`` and ``typed``."""
    home = tmp_path_factory.mktemp("home")
    fit = {"nodes": 2, "fit_settings": True}
    run_federation(data, home, name="fits", **fit)  # type: ignore[arg-type]
    run_federation(data, home, name="typed", dropout=0.3, item_bias=True, **fit)  # type: ignore[arg-type]
    return home


def stored(home: Path, run: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((home / "runs" / run / "config.json").read_text())
    return config


def test_what_fits_is_stored_with_the_run(home: Path) -> None:
    config = stored(home, "fits")
    assert config["network.item-statistics"] is True
    assert config["network.closed-form-factors"] == 8
    assert config["network.time-inputs"] is False  # synthetic times are counts
    assert config["network.dropout"] == 0.5
    assert config["network.num-experts"] == 2
    assert config["training.user-weighting"] == "targets"
    assert config["network.feature-dim"] == 4  # said by the test
    assert config["run.fit-settings"] is False  # there is nothing left to fit


def test_what_is_said_wins(home: Path) -> None:
    config = stored(home, "typed")
    assert config["network.dropout"] == 0.3
    assert config["network.item-bias"] is True
    assert config["network.item-statistics"] is False  # they do not go together
    assert config["network.num-experts"] == 2


@pytest.mark.parametrize("clusters", ["off", 2])
def test_a_model_begins_with_the_odds_of_the_labels(data: Path, clusters: str | int) -> None:
    catalogue = load_catalogue(data)
    states = []
    for logit in (0.0, -4.6):
        values = {"training.initial-logit": logit, "network.clusters": clusters}
        config = RunConfig.from_flat({**values, "network.num-experts": 1}).for_data("labelled")
        state = initial_state(config, catalogue)
        states.append({**state.public, **state.group})
    moved = {
        name: np.max(np.abs(states[1][name] - states[0][name]))
        for name in states[0]
        if not np.array_equal(states[0][name], states[1][name])
    }
    copies = ["head"] if clusters == "off" else ["clusters.0.head", "clusters.1.head"]
    assert moved == {f"{copy}.down.bias": pytest.approx(4.6) for copy in copies}


def test_one_line_says_what_was_chosen_and_why(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="flwr"):
        run_federation(data, tmp_path, nodes=2, name="said", fit_settings=True)
    (line,) = [m for m in caplog.messages if m.startswith("settings that fit the data")]
    assert "dropout=0.5 (3 interactions per user (median))" in line
    assert "num-experts=2 (60 users)" in line
    assert "\n" not in line


def test_a_resumed_run_keeps_what_fitted_it(data: Path, home: Path) -> None:
    """By plain ``flwr run``, which gives every setting anew, those at auto as well."""
    run_federation(
        data, home, nodes=2, name="", resume="fits", num_server_rounds=4, fit_settings=True,
        server_decay_rounds="auto",
    )  # fmt: skip
    assert stored(home, "fits")["network.dropout"] == 0.5
    with pytest.raises(ConfigError, match=r"network\.dropout=0\.5, this run has .*=0\.1"):
        run_federation(
            data, home, nodes=2, name="", resume="fits", num_server_rounds=5, dropout=0.1,
            fit_settings=True,
        )  # fmt: skip


def test_a_run_that_goes_on_from_another_has_its_settings(data: Path, home: Path) -> None:
    run_federation(data, home, nodes=2, name="on", start_from="typed", fit_settings=True)
    assert stored(home, "on")["network.item-bias"] is True


def test_clicks_go_on_from_what_ranked_the_next_item(data: Path, tmp_path: Path) -> None:
    """Linear models rank only: they are not inherited, and settings stay such as can be used."""
    fit = {"nodes": 2, "fit_settings": True}
    run_federation(data, tmp_path, name="ranks", objective="next", **fit)  # type: ignore[arg-type]
    assert stored(tmp_path, "ranks")["training.linear-items"] == 30
    earlier = {"data.home": str(tmp_path), "run.start-from": "ranks"}
    taken = inherited({**earlier, "training.objective": "click"})
    assert "training.linear-items" not in taken
    assert taken["network.num-experts"] == 1
    clicks = {"objective": "click", "start_from": "ranks", "feature_mix": "sum"}
    run_federation(data, tmp_path, name="clicks", **clicks, **fit)  # type: ignore[arg-type]
    assert stored(tmp_path, "clicks")["training.linear-items"] == "off"


def test_the_next_item_goes_on_from_clicks_with_dates_and_statistics_and_back(
    small_data: Path, tmp_path: Path
) -> None:
    """Only clicks read them: they are left out, and counted anew."""
    dated = tied(small_data, tmp_path / "dated")
    fit = {"nodes": 2, "fit_settings": True, "feature_mix": "concat", "gate_input": "earlier"}
    run_federation(dated, tmp_path, name="clicks", **fit)  # type: ignore[arg-type]
    first = stored(tmp_path, "clicks")
    assert first["network.time-inputs"] is first["network.item-statistics"] is True
    earlier = {"data.home": str(tmp_path), "run.start-from": "clicks"}
    taken = inherited({**earlier, "training.objective": "next"})
    assert taken["network.item-statistics"] is True
    assert "network.time-inputs" not in taken
    fit |= {"user_network_dim": first["network.user-network-dim"]}
    follows = {"objective": "next", "start_from": "clicks"}
    run_federation(dated, tmp_path, name="next", **follows, **fit)  # type: ignore[arg-type]
    assert stored(tmp_path, "next")["network.time-inputs"] is False
    back = {"objective": "click", "start_from": "next", "linear_items": "off"}
    run_federation(dated, tmp_path, name="back", **back, **fit)  # type: ignore[arg-type]
    assert stored(tmp_path, "back")["network.item-statistics"] is True


def test_a_server_without_the_rows_fits_nothing(data: Path, tmp_path: Path) -> None:
    """Its part of a sharded dataset counts nobody; nodes have their own users' rows only."""
    shard(data, tmp_path / "s", nodes=2)
    for part in ("server", "node-0"):
        folder = tmp_path / "s" / part
        assert facts_of(folder, Schema.load(folder)) is None
    assert facts_of(data, Schema.load(data)) is not None


def node_for(data: Path, state: Path, fitted: str, settings: Mapping[str, Any]) -> Any:
    facts = RunFacts(Schema.load(data).schema_hash, "run", str(data), str(state), fitted=fitted)
    request = Request(facts, RoundFacts(1), {}, {})
    return open_node(settings, {"partition-id": 0, "num-partitions": 2}, request)


def test_a_node_takes_only_what_was_left_open(data: Path, tmp_path: Path) -> None:
    told = json.dumps({"network.dropout": 0.5, "data.holdout": 9, "network.num-layers": 16})
    node = node_for(data, tmp_path, told, {})
    assert node.config.network.dropout == 0.5
    assert (node.config.data.holdout, node.config.network.num_layers) == (1, 2)
    said = node_for(data, tmp_path, told, {"network.dropout": 0.1})
    assert said.config.network.dropout == 0.1
    private = node_for(data, tmp_path, told, {"privacy.mode": "central-user"})
    assert private.config.network.dropout == 0.3


@pytest.mark.parametrize("fitted", ["[1]", "{", '{"network.dropout": [1]}', '"x"'])
def test_nonsense_from_a_server_is_refused(data: Path, tmp_path: Path, fitted: str) -> None:
    with pytest.raises(RequestError, match="fitted settings must be a table of values"):
        node_for(data, tmp_path, fitted, {})


def test_a_value_beyond_its_limits_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"network\.dropout must be between"):
        node_for(data, tmp_path, '{"network.dropout": 7.0}', {})
