"""Whole runs of FedMF and PFedRec, through the real apps and serialised messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrff.config import ConfigError
from mrff.config.methods import overrides_of
from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import find_run, load_best
from mrff.ops.user_model import open_user
from server_app.run.history import read_history
from tests.support.federation import run_federation, shared_arrays

RATES = {"local_learning_rate": 40.0, "private_learning_rate": 0.5, "initial_scale": 0.5}


def run(data: Path, home: Path, name: str, method: str, **changes: Any) -> dict[str, Any]:
    """The summary of a run by a method's own settings."""
    overrides = {
        key.rpartition(".")[2].replace("-", "_"): value
        for key, value in overrides_of(method).items()
    }
    settings = {**overrides, **RATES, "sampling_rate": 0.6, "nodes": 2, **changes}
    run_federation(data, home, name=name, **settings)
    path = home / "runs" / Path(name or changes["resume"]).name / "summary.json"
    summary: dict[str, Any] = json.loads(path.read_text())
    return summary


@pytest.mark.parametrize("method", ["fedmf", "pfedrec"])
def test_the_layout_of_nodes_changes_nothing(small_data: Path, tmp_path: Path, method: str) -> None:
    summaries, arrays = {}, {}
    for nodes in (1, 3, 15):
        summaries[nodes] = run(small_data, tmp_path, f"on-{nodes}", method, nodes=nodes)
        arrays[nodes] = shared_arrays(tmp_path, f"on-{nodes}")
    assert summaries[1]["best_by"] == "ndcg10"
    assert summaries[1]["test_users"] == 15
    for nodes in (3, 15):
        np.testing.assert_allclose(
            arrays[nodes]["item_table.weight"], arrays[1]["item_table.weight"], atol=1e-5
        )
        for name in ("hr5", "ndcg10", "mrr50"):
            assert summaries[nodes]["test"][name] == pytest.approx(summaries[1]["test"][name])


def test_a_resumed_run_is_one_that_never_stopped(small_data: Path, tmp_path: Path) -> None:
    steady = {"server_decay_rounds": 6, "evaluate_every": 2}
    whole = run(small_data, tmp_path, "whole", "pfedrec", num_server_rounds=6, **steady)
    run(small_data, tmp_path, "halves", "pfedrec", num_server_rounds=3, **steady)
    resumed = run(
        small_data, tmp_path, "", "pfedrec", resume="halves", num_server_rounds=6, **steady
    )
    one, other = (shared_arrays(tmp_path, name) for name in ("whole", "halves"))
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array)
    assert resumed["test"] == whole["test"]


def test_they_learn(small_data: Path, tmp_path: Path) -> None:
    run(small_data, tmp_path, "run", "pfedrec", num_server_rounds=12, evaluate_every=12)
    history = read_history(tmp_path / "runs/run/history.jsonl")
    losses = [entry["train_loss"] for entry in history if entry["kind"] == "round"]
    assert losses[-1] < 0.8 * losses[0]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "clicks": ({"objective": "click"}, "choose training.objective=next"),
    "privacy": (
        {"mode": "central-user", "noise_multiplier": 1.0, "clipping_norm": 0.1},
        "use privacy.mode=none",
    ),
    "Adam": ({"local_optimizer": "adam"}, "use training.local-optimizer=sgd"),
    "clusters": ({"clusters": 2}, "use network.clusters=off"),
}


@pytest.mark.parametrize("method", ["fedmf", "pfedrec"])
@pytest.mark.parametrize(("changes", "way_out"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_go_together_is_refused_in_a_line(
    small_data: Path, tmp_path: Path, method: str, changes: dict[str, Any], way_out: str
) -> None:
    with pytest.raises(ConfigError, match=way_out) as caught:
        run(small_data, tmp_path, "refused", method, **changes)
    assert "\n" not in str(caught.value)
    assert f"training.algorithm={method}" in str(caught.value)


def test_a_user_of_a_rival_is_not_opened(small_data: Path, tmp_path: Path) -> None:
    run(small_data, tmp_path, "rival", "fedmf")
    best = load_best(find_run(str(tmp_path / "runs" / "rival")))
    with pytest.raises(ConfigError, match=r"training\.algorithm=fedmf is a rival to compare with"):
        open_user(NodesAtHand(best), "0")
