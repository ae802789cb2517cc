"""How users are spread over nodes does not matter: the same parameters from any layout."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app import devices, learners
from client_app import node as node_module
from client_app.learners.cohort import CohortLearner
from client_app.learners.serial import SerialLearner
from client_app.private_store import PrivateStore
from mrff.config import RunConfig, full_names
from mrff.data.dataset import load_dataset
from mrff_model.building import tensors_of
from server_app import parts
from server_app.run.history import read_history
from tests.support.federation import run_federation, shared_arrays
from tests.support.small_data import small_network

USERS = 15
SETTINGS: list[dict[str, Any]] = [
    {"dropout": 0.3},
    {
        "gate_input": "hidden",
        "history_feedback": False,
        "gate_mode": "hard",
        "local_steps": 2,
        # Adam turns a mean that is zero but for rounding into a step of full size.
        "epsilon": 1e-5,
    },
    {
        "server_optimizer": "average",
        "server_learning_rate": 1.0,
        "local_optimizer": "adam",
        "local_learning_rate": 0.01,
        "user_weighting": "targets",
        "max_windows_per_user": "all",
    },
]


@pytest.mark.parametrize("learner", [SerialLearner, CohortLearner])
@pytest.mark.parametrize("settings", SETTINGS, ids=["default", "hidden", "adam"])
def test_three_rounds_on_1_2_7_and_one_per_user_nodes(
    small_data: Path, tmp_path: Path, settings: dict[str, Any], learner: type,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(learners, "DEFAULT", learner)
    settings = dict(settings)
    monkeypatch.setattr(parts, "ADAM_EPSILON", settings.pop("epsilon", 1e-8))
    results, histories, private = {}, {}, {}
    for nodes in (1, 2, 7, USERS):
        name = f"on-{nodes}"
        run_federation(small_data, tmp_path, nodes=nodes, name=name, shuffle_seed=nodes, **settings)
        results[nodes] = shared_arrays(tmp_path, name)
        histories[nodes] = read_history(tmp_path / "runs" / name / "history.jsonl")
        private[nodes] = private_of(small_data, tmp_path, name, nodes, settings)
    moved = 0.0
    # Local Adam turns a gradient that is zero but for rounding into a step of full size.
    adam = settings.get("local_optimizer") == "adam"
    atol, private_share = (5e-5, 0.002) if adam else (1e-5, 0.0)
    for nodes in (2, 7, USERS):
        for array, value in results[1].items():
            np.testing.assert_allclose(results[nodes][array], value, atol=atol, err_msg=array)
        for array, value in private[1].items():
            differ = np.abs(private[nodes][array] - value) > 1e-5
            assert differ.mean() <= private_share, array
            moved = max(moved, float(np.abs(value).max()))
        for one, other in zip(histories[1], histories[nodes], strict=True):
            for measure in ("users", "targets", "train_loss", "auc", "log_loss", "loads"):
                if measure in one:
                    np.testing.assert_allclose(other[measure], one[measure], atol=1e-5)
    assert moved > 0.0  # the private parameters did learn


def private_of(
    data: Path, home: Path, name: str, nodes: int, settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Everybody's private parameters after round 3, in the order of the dataset."""
    values = {"feature-dim": 4, "window-length": 16}
    values |= {key.replace("_", "-"): value for key, value in settings.items()}
    dataset = load_dataset(data)
    initial = tensors_of(small_network(RunConfig.from_flat(full_names(values)), dataset), "private")
    everyone: dict[str, np.ndarray] = {}
    for node in range(nodes):
        store = PrivateStore(home / "state" / name / f"node-{node}-of-{nodes}")
        mine = np.arange(node, dataset.num_users, nodes)
        keys = dataset.user_keys[mine]
        parameters, _ = store.load(keys, up_to_round=3, initial=initial, num_layers=2)
        for array, rows in parameters.items():
            shape = (dataset.num_users, *rows.shape[1:])
            everyone.setdefault(array, np.zeros(shape, dtype=np.float32))[mine] = rows.numpy()
    return everyone


def test_the_order_of_replies_does_not_matter(small_data: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        run_federation(small_data, tmp_path, nodes=5, name=f"order-{seed}", shuffle_seed=seed)
    one, other = (shared_arrays(tmp_path, f"order-{seed}") for seed in (1, 2))
    for array, value in one.items():
        np.testing.assert_allclose(other[array], value, atol=1e-6, err_msg=array)


def test_another_seed_gives_another_model(small_data: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        run_federation(small_data, tmp_path, nodes=2, name=f"seed-{seed}", seed=seed)
    one, other = (shared_arrays(tmp_path, f"seed-{seed}") for seed in (1, 2))
    assert any(np.abs(other[array] - value).max() > 1e-3 for array, value in one.items())


def test_users_taken_one_at_a_time_for_want_of_memory(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free memory bounds the private parameters in memory, and changes no result."""
    histories, written = {}, {}
    save = PrivateStore.save

    def counting(*arguments: Any, **keywords: Any) -> None:
        written[name] = written.get(name, 0) + 1
        save(*arguments, **keywords)

    monkeypatch.setattr(PrivateStore, "save", counting)
    for megabytes in (1, 512):
        name = f"within-{megabytes}"
        for module in (devices, node_module):
            monkeypatch.setattr(module, "host_memory", partial(int, megabytes * 2**20))
        run_federation(small_data, tmp_path, nodes=2, name=name, user_network_dim=4096)
        histories[megabytes] = read_history(tmp_path / "runs" / name / "history.jsonl")
    few, many = shared_arrays(tmp_path, "within-1"), shared_arrays(tmp_path, "within-512")
    for array, value in many.items():
        np.testing.assert_allclose(few[array], value, atol=1e-5, err_msg=array)
    for one, other in zip(*histories.values(), strict=True):
        for measure in ("users", "targets", "churn", "auc", "log_loss"):
            assert one.get(measure) == pytest.approx(other.get(measure), abs=1e-4)
    assert written["within-1"] > written["within-512"]  # one group is one write
