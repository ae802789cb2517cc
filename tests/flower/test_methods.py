"""Every federated method through the real apps: finite measures, and its own scopes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.common.serde import recorddict_from_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from mrff.config import RunConfig, full_names
from mrff.config.methods import METHODS, overrides_of
from mrff.data.prepare import prepare
from mrff.wire.records import arrays_in
from server_app.run.history import read_history
from tests.support.federation import run_federation, shared_arrays
from tests.support.local_grid import LocalGrid
from tests.support.stored import stored_versions

FEDERATED = [name for name, method in METHODS.items() if method.is_federated]
SMALL: dict[str, Any] = {"feature-dim": 4, "head-dim": 6, "num-server-rounds": 2}


def run(data: Path, home: Path, method: str, name: str = "", **changes: Any) -> LocalGrid:
    overrides = overrides_of(method, {**SMALL, "sampling-rate": 0.6})
    overrides |= full_names({key.replace("_", "-"): value for key, value in changes.items()})
    return run_federation(data, home, nodes=3, name=name or method, record=True, **overrides)


def history(home: Path, name: str) -> list[dict[str, Any]]:
    return read_history(home / "runs" / name / "history.jsonl")


def names_sent(messages: list[bytes]) -> set[str]:
    names: set[str] = set()
    for data in messages:
        content = recorddict_from_proto(ProtoRecordDict.FromString(data))
        for record in content.array_records:
            names |= set(arrays_in(content, record))
    return names


def names_stored(home: Path, name: str) -> set[str]:
    return {key for stored in stored_versions(home / "state" / name) for key in stored}


@pytest.mark.parametrize("method", FEDERATED)
def test_two_rounds_give_finite_measures(small_data: Path, tmp_path: Path, method: str) -> None:
    run(small_data, tmp_path, method)
    entries = history(tmp_path, method)
    assert [entry["kind"] for entry in entries].count("round") == 2
    assert entries[-1]["kind"] == "test"
    clicks = RunConfig.from_flat(overrides_of(method)).objective == "click"
    tested = ("auc", "log_loss") if clicks else ("hr10", "ndcg10")
    for entry in entries:
        if entry["kind"] == "query":
            continue
        measures = ("train_loss",) if entry["kind"] == "round" else tested
        assert all(math.isfinite(entry[measure]) for measure in measures), entry
        assert not entry["rejected"], entry
        layers, experts = RunConfig.from_flat(overrides_of(method)).routes_shape
        assert np.shape(entry["loads"]) == (layers, experts)


@pytest.mark.parametrize("method", ["fedavg", "fedprox", "fedadam"])
def test_one_shared_model_sends_everything_and_stores_nothing(
    small_data: Path, tmp_path: Path, method: str
) -> None:
    grid = run(small_data, tmp_path, method)
    model = set(shared_arrays(tmp_path, method))
    assert names_sent(grid.requests) == names_sent(grid.replies) == model
    assert {"head.up.weight", "layers.1.experts.0.up_weight"} <= model
    assert not any("user_embedding" in name or "user_network" in name for name in model)
    assert names_stored(tmp_path, method) == set()


def test_local_only_shares_nothing_and_still_learns(small_data: Path, tmp_path: Path) -> None:
    grid = run(small_data, tmp_path, "local-only", private_learning_rate=0.5, num_server_rounds=4)
    assert names_sent(grid.requests + grid.replies) == set()
    assert shared_arrays(tmp_path, "local-only") == {}
    run(small_data, tmp_path, "fedadam")
    stored = names_stored(tmp_path, "local-only")
    one_expert = {n.replace(".experts.0.", ".experts.") for n in shared_arrays(tmp_path, "fedadam")}
    assert stored == one_expert
    losses = [e["train_loss"] for e in history(tmp_path, "local-only") if e["kind"] == "round"]
    assert losses[-1] < losses[0]


def test_fedper_keeps_the_head_at_home(small_data: Path, tmp_path: Path) -> None:
    grid = run(small_data, tmp_path, "fedper")
    sent = names_sent(grid.requests + grid.replies)
    assert not any(name.startswith("head.") for name in sent)
    assert "layers.0.attention.query.weight" in sent
    stored = names_stored(tmp_path, "fedper")
    assert stored == {
        f"head.{layer}.{kind}" for layer in ("up", "down") for kind in ("weight", "bias")
    }


def test_only_the_user_embedding_is_private(small_data: Path, tmp_path: Path) -> None:
    run(small_data, tmp_path, "user-embedding-only")
    assert names_stored(tmp_path, "user-embedding-only") == {"user_embedding"}


def test_fedprox_without_weight_is_fedavg_and_with_weight_is_not(
    small_data: Path, tmp_path: Path
) -> None:
    run(small_data, tmp_path, "fedavg")
    run(small_data, tmp_path, "fedprox", name="weightless", proximal_weight=0.0)
    run(small_data, tmp_path, "fedprox", name="strong", proximal_weight=5.0)
    plain, weightless, strong = (
        shared_arrays(tmp_path, name) for name in ("fedavg", "weightless", "strong")
    )
    assert all(np.array_equal(plain[name], value) for name, value in weightless.items())
    assert any(np.abs(plain[name] - value).max() > 1e-5 for name, value in strong.items())


@pytest.mark.parametrize("nodes", [1, 5])
def test_one_cluster_is_fedadam_on_any_layout(small_data: Path, tmp_path: Path, nodes: int) -> None:
    settings = {**SMALL, "sampling-rate": 0.6}
    for method, changes in (("fedadam", {}), ("ifca", {"clusters": 1})):
        overrides = {**overrides_of(method, settings), **full_names(changes)}
        run_federation(
            small_data, tmp_path, nodes=nodes, name=method,
            **overrides,
        )  # fmt: skip
    plain, copy = shared_arrays(tmp_path, "fedadam"), shared_arrays(tmp_path, "ifca")
    assert copy.keys() == {f"clusters.0.{name}" for name in plain}
    for name, value in plain.items():
        np.testing.assert_allclose(copy[f"clusters.0.{name}"], value, atol=1e-6, err_msg=name)
    for one, other in zip(history(tmp_path, "fedadam"), history(tmp_path, "ifca"), strict=True):
        for measure in ("users", "train_loss", "auc", "log_loss"):
            if measure in one:
                assert other[measure] == pytest.approx(one[measure], abs=1e-6)


def test_clusters_nobody_chose_stay_and_messages_hold_chosen_ones_only(
    small_data: Path, tmp_path: Path
) -> None:
    grid = run(small_data, tmp_path, "ifca", num_server_rounds=1, clusters=12)
    (first,) = (entry for entry in history(tmp_path, "ifca") if entry["kind"] == "round")
    chosen = {k for k, load in enumerate(first["loads"][0]) if load > 0}
    assert 0 < len(chosen) < 12
    uploaded = {int(name.split(".")[1]) for name in names_sent(grid.replies)}
    assert uploaded == chosen


def test_a_private_head_does_not_depend_on_the_layout(small_data: Path, tmp_path: Path) -> None:
    """By plain means: Adam makes whole steps of gradients that are nearly nothing but rounding."""
    settings = {**SMALL, "sampling-rate": 0.6, "private-learning-rate": 0.2}
    overrides = overrides_of("fedper", settings)
    overrides |= full_names({"server-optimizer": "average", "server-learning-rate": 1.0})
    for nodes in (1, 15):
        run_federation(
            small_data, tmp_path, nodes=nodes, name=f"on-{nodes}",
            **overrides,
        )  # fmt: skip
    one, other = (shared_arrays(tmp_path, f"on-{nodes}") for nodes in (1, 15))
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=1e-6, err_msg=name)


def test_resumed_clusters_are_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare("synthetic", out=data, options={"users": 12, "items": 20, "events_per_user": 20})
    steady = {"evaluate_every": 2, "server_decay_rounds": 100}
    run(data, tmp_path, "ifca", name="whole", num_server_rounds=4, **steady)
    run(data, tmp_path, "ifca", name="half", num_server_rounds=2, **steady)
    changes = overrides_of("ifca", {**SMALL, "sampling-rate": 0.6})
    changes |= full_names(
        {"num-server-rounds": 4, "evaluate-every": 2, "server-decay-rounds": 100, "resume": "half"}
    )
    run_federation(data, tmp_path, nodes=3, name="", **changes)
    whole, resumed = shared_arrays(tmp_path, "whole"), shared_arrays(tmp_path, "half")
    for name, value in whole.items():
        assert np.array_equal(resumed[name], value), name
