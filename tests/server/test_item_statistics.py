"""Item statistics in whole runs: what they sum, over any layout, and that no round moves them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app import learners
from client_app.learners.counted import counted_until
from client_app.learners.serial import SerialLearner
from mrff.config import ConfigError, RunConfig, full_names
from mrff.data.dataset import load_dataset
from mrff.data.windows import train_sizes, training_users, validation_users
from server_app import parts
from server_app.run.checkpoint import load_checkpoint
from tests.support.federation import run_federation, shared_arrays
from tests.support.small_data import small_dataset

ON: dict[str, Any] = {"item_statistics": True, "kind_statistics": True, "closed_form_factors": 3}


def fixed(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Item statistics by kind."""
    return {n.rpartition(".")[2]: a for n, a in arrays.items() if "item_statistics." in n}


def test_rates_are_those_of_everybodys_training_part(small_data: Path, tmp_path: Path) -> None:
    run_federation(small_data, tmp_path, nodes=3, name="counted", **ON)
    found = fixed(shared_arrays(tmp_path, "counted"))
    dataset = load_dataset(small_data)
    met, liked = np.zeros(dataset.schema.num_items + 1), np.zeros(dataset.schema.num_items + 1)
    users = training_users(dataset)
    for user, size in zip(users, train_sizes(dataset, users, holdout=1), strict=True):
        rows = slice(dataset.offsets[user], dataset.offsets[user] + size)
        np.add.at(met, dataset.items[rows], 1)
        np.add.at(liked, dataset.items[rows], dataset.labels[rows])
    np.testing.assert_array_equal(found["rates"], np.stack([met, liked], axis=1))
    assert found["prior"][0] == pytest.approx((liked.sum() + 0.5) / (met.sum() + 1))
    assert 0.0 < found["prior"][1] < 0.5
    assert np.abs(found["vectors"][1:]).max() > 0.0
    assert not found["vectors"][0].any()


def test_the_same_from_any_layout_and_either_learner(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Adam turns a mean that is zero but for rounding into a step of full size.
    monkeypatch.setattr(parts, "ADAM_EPSILON", 1e-5)
    for nodes in (1, 7):
        run_federation(
            small_data, tmp_path, nodes=nodes, name=f"on-{nodes}",
            max_windows_per_user="all", **ON,
        )  # fmt: skip
    monkeypatch.setattr(learners, "DEFAULT", SerialLearner)
    run_federation(small_data, tmp_path, nodes=2, name="serial", max_windows_per_user="all", **ON)
    one, *others = (shared_arrays(tmp_path, name) for name in ("on-1", "on-7", "serial"))
    for other in others:
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, atol=1e-4, err_msg=name)


def test_they_are_asked_for_once_and_stay(small_data: Path, tmp_path: Path) -> None:
    first = run_federation(small_data, tmp_path, nodes=2, name="stays", record=True, **ON)
    before = shared_arrays(tmp_path, "stays")
    second = run_federation(
        small_data, tmp_path, nodes=2, name="", record=True,
        resume="stays", num_server_rounds=5, **ON,
    )  # fmt: skip
    after = shared_arrays(tmp_path, "stays")
    for kind, value in fixed(before).items():
        np.testing.assert_array_equal(fixed(after)[kind], value)
    asked = [sum(b"vectors" in request for request in grid.requests) for grid in (first, second)]
    assert asked[0] > asked[1]  # the steps; a resumed run sends them with the model alone
    assert all(
        not name.startswith("item_statistics.")
        for name in load_checkpoint(tmp_path / "runs" / "stays" / "checkpoint").state.optimizer
    )


def test_every_copy_of_a_clustered_network_has_them(small_data: Path, tmp_path: Path) -> None:
    run_federation(small_data, tmp_path, nodes=2, name="copies", clusters=2, num_experts=1, **ON)
    arrays = shared_arrays(tmp_path, "copies")
    for kind in ("rates", "prior", "vectors"):
        one, other = (arrays[f"clusters.{k}.item_statistics.{kind}"] for k in (0, 1))
        assert one.any()
        np.testing.assert_array_equal(one, other)


def test_secure_sums_give_the_same(small_data: Path, tmp_path: Path) -> None:
    run_federation(small_data, tmp_path, nodes=3, name="plain", **ON)
    run_federation(small_data, tmp_path, nodes=3, name="secure", secure_aggregation=True, **ON)
    plain, secure = (fixed(shared_arrays(tmp_path, name)) for name in ("plain", "secure"))
    np.testing.assert_array_equal(plain["rates"], secure["rates"])
    np.testing.assert_allclose(plain["vectors"], secure["vectors"], atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"closed-form-factors": 8}, "needs network.item-statistics=true"),
        ({"kind-statistics": True}, "needs network.item-statistics=true"),
        (
            {"item-statistics": True, "closed-form-factors": 8, "mode": "central-user"},
            "each of their twelve sums would have to be noised",
        ),
        ({"item-statistics": True, "item-bias": True}, "give away the label of a training row"),
        ({"item-statistics": True, "private-parameters": "all"}, "statistics of items are shared"),
    ],
)
def test_what_cannot_go_together_says_so(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RunConfig.from_flat(full_names(settings))


def test_who_does_not_train_is_in_no_sum(small_data: Path, tmp_path: Path) -> None:
    """Final training: held-out users are scored by what the others have made of items."""
    settings = {"holdout": 0, "validation_users": 0.5, "sampling_rate": 1.0, **ON}
    run_federation(small_data, tmp_path, nodes=2, name="final", **settings)
    dataset = load_dataset(small_data)
    held_out = validation_users(dataset, 0.5)
    assert len(held_out)
    others = np.setdiff1d(training_users(dataset), held_out)
    rows = int(np.diff(dataset.offsets)[others].sum())
    assert fixed(shared_arrays(tmp_path, "final"))["rates"][:, 0].sum() == rows
    node = replace(dataset, trains=np.isin(np.arange(dataset.num_users), others))
    config = RunConfig.from_flat(full_names({"holdout": 1, "item-statistics": True}))
    assert (counted_until(node, held_out, config) == dataset.offsets[held_out]).all()


def test_labels_of_the_moment_of_a_held_out_row_are_in_no_sum() -> None:
    """Five rows, the last four at one time: two are held out, and three may not be known."""
    dataset = small_dataset((5,))
    config = RunConfig.from_flat(full_names({"holdout": 1, "item-statistics": True}))
    tied = replace(dataset, times=np.array([1, 2, 2, 2, 2]), knows_same_time=False)
    users = np.array([0])
    assert counted_until(dataset, users, config).tolist() == [3]
    assert counted_until(tied, users, config).tolist() == [1]
