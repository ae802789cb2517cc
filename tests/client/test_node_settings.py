"""A deployed node that is told too little or something wrong says what, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client_app.node import Node, open_node
from mrff.config import full_names
from mrff.data.dataset import load_dataset
from mrff.wire.requests import Request, RoundFacts, RunFacts
from tests.support.small_data import small_config


def open_with(data: Path, node_config: dict[str, Any], schema_hash: str = "") -> Node:
    run = RunFacts(
        schema_hash=schema_hash or load_dataset(data).schema.schema_hash,
        training_id="a-run",
        data_dir="/not/on/this/host",
        state_dir="/not/on/this/host",
    )
    request = Request(run, RoundFacts(1), {}, {})
    return open_node(small_config().to_flat(), node_config, request)


def test_a_deployed_node_uses_its_own_folders(small_data: Path, tmp_path: Path) -> None:
    node = open_with(small_data, {"data-dir": str(small_data), "state-dir": str(tmp_path)})
    assert node.dataset.num_users == 15
    assert node.store.folder == tmp_path / "a-run"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("data-dir", r"does not know its data: start it with --node-config 'data-dir="),
        ("state-dir", r"nowhere to keep private parameters: start it with .*state-dir="),
    ],
)
def test_a_missing_setting_is_named(
    missing: str, expected: str, small_data: Path, tmp_path: Path
) -> None:
    settings = {"data-dir": str(small_data), "state-dir": str(tmp_path)}
    del settings[missing]
    with pytest.raises(ValueError, match=expected):
        open_with(small_data, settings)


def test_a_folder_that_is_not_there_is_named(small_data: Path, tmp_path: Path) -> None:
    settings = {"data-dir": str(tmp_path / "nowhere"), "state-dir": str(tmp_path)}
    with pytest.raises(ValueError, match=str(tmp_path / "nowhere")):
        open_with(small_data, settings)


@pytest.mark.parametrize(
    ("pin", "value"),
    [("histogram-bins", 64), ("mode", "laplace"), ("secure-aggregation", True), ("holdout", 2),
     ("training.sampling-rate", 0.5), ("select-best-by", "log_loss")],
)  # fmt: skip
def test_a_node_takes_part_in_runs_with_the_settings_that_it_has_pinned(
    small_data: Path, tmp_path: Path, pin: str, value: Any
) -> None:
    """Above all those that an evaluation with a crafted model needs."""
    settings = {"data-dir": str(small_data), "state-dir": str(tmp_path), pin: value}
    with pytest.raises(ValueError, match=rf"runs with \S*{pin}=.* only, this one has"):
        open_with(small_data, settings)
    as_it_is = {**settings, pin: small_config().to_flat()[next(iter(full_names({pin: value})))]}
    assert open_with(small_data, as_it_is)


def test_a_pin_with_a_slip_in_its_name_is_refused(small_data: Path, tmp_path: Path) -> None:
    settings = {"data-dir": str(small_data), "state-dir": str(tmp_path), "histogram-bin": 64}
    with pytest.raises(ValueError, match="'histogram-bin'; did you mean histogram-bins"):
        open_with(small_data, settings)


def test_data_of_another_schema_is_refused(small_data: Path, tmp_path: Path) -> None:
    settings = {"data-dir": str(small_data), "state-dir": str(tmp_path)}
    with pytest.raises(ValueError, match=r"schema hash .*, the run's is other: give the node"):
        open_with(small_data, settings, schema_hash="other")
