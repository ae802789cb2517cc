"""Groups stay only where validation gains by them: the choice by hand, and in whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrff.config import ConfigError, RunConfig
from mrff.metrics import METRICS
from mrff.ops.trained_run import find_run, load_best
from mrff_model.scopes import expert_of, network_name
from server_app.run.checkpoint import load_checkpoint
from server_app.run.history import read_history
from strategies.groups_phase import MORE, brings_more, mean_expert
from tests.support.federation import run_federation


def test_the_mean_expert_by_hand() -> None:
    """Two layers of two; a quarter and three quarters, and everybody on the second."""
    group = {
        f"layers.{layer}.experts.{k}.up_bias": np.array([10.0 * layer + k, 1.0], np.float32)
        for layer in range(2)
        for k in range(2)
    }
    found = mean_expert(group, [0.25, 0.75, 0.0, 1.0])
    assert {name: array.tolist() for name, array in found.items()} == {
        "layers.0.experts.0.up_bias": [0.75, 1.0],
        "layers.0.experts.1.up_bias": [0.75, 1.0],
        "layers.1.experts.0.up_bias": [11.0, 1.0],
        "layers.1.experts.1.up_bias": [11.0, 1.0],
    }
    assert all(array.dtype == np.float32 for array in found.values())
    again = mean_expert(found, [0.5, 0.5, 0.5, 0.5])
    assert all(np.array_equal(again[name], found[name]) for name in found)


def test_groups_have_to_bring_more_whichever_way_is_better() -> None:
    assert brings_more(METRICS["auc"], 0.8 + 2 * MORE, 0.8)
    assert not brings_more(METRICS["auc"], 0.8 + MORE / 2, 0.8)
    assert not brings_more(METRICS["auc"], 0.7, 0.8)
    assert brings_more(METRICS["log_loss"], 0.5, 0.5 + 2 * MORE)
    assert not brings_more(METRICS["log_loss"], 0.6, 0.5)


def summary_of(home: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "runs" / name / "summary.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("changes", [{}, {"objective": "next"}, {"secure_aggregation": True}])
def test_a_run_says_which_and_its_best_model_is_of_that(
    small_data: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    run_federation(small_data, tmp_path, nodes=3, name="run", groups="validated",
                   server_learning_rate=0.1, expert_pooling=0.0, **changes)  # fmt: skip
    summary = summary_of(tmp_path, "run")
    (entry,) = (
        e for e in read_history(tmp_path / "runs/run/history.jsonl") if e["kind"] == "groups"
    )
    metric = METRICS[summary["best_by"]]
    assert entry["kept"] == brings_more(metric, entry["with_groups"], entry["with_one"])
    told = "groups stay" if entry["kept"] else "one expert for all"
    assert summary["groups"].startswith(f"{told}: validation {metric.label} ")
    chosen = entry["with_groups"] if entry["kept"] else entry["with_one"]
    assert summary[f"validation_{metric.name}"] == chosen
    state = load_checkpoint(tmp_path / "runs" / "run" / "checkpoint").state
    first = {network_name(n): a for n, a in state.best_group.items() if expert_of(n)[1] == 0}
    alike = all(np.array_equal(first[network_name(n)], a) for n, a in state.best_group.items())
    assert alike is not entry["kept"]
    kept = load_best(find_run(str(tmp_path / "runs" / "run")))
    assert all(np.array_equal(kept.arrays[n], array) for n, array in state.best_group.items())


def test_a_choice_made_twice_is_the_same(small_data: Path, tmp_path: Path) -> None:
    """A run that broke off after the choice is taken up again."""
    run_federation(small_data, tmp_path, nodes=2, name="run", groups="validated")
    before = summary_of(tmp_path, "run")
    run_federation(small_data, tmp_path, nodes=2, name="auto", resume="run", groups="validated")
    after = summary_of(tmp_path, "run")
    assert after["groups"].partition(":")[0] == before["groups"].partition(":")[0]
    assert after["test"] == before["test"]


def test_a_single_expert_is_no_choice(small_data: Path, tmp_path: Path) -> None:
    run_federation(small_data, tmp_path, nodes=2, name="run", groups="validated", num_experts=1)
    assert summary_of(tmp_path, "run")["groups"] == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"privacy.mode": "central-user"},
            "privacy.mode=central-user: private runs validate nothing",
        ),
        ({"network.clusters": 2, "network.num-experts": 1}, "no expert in common"),
    ],
)
def test_what_cannot_choose_is_refused_in_a_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        RunConfig.from_flat({"server.groups": "validated", **changes})
