"""What a node's errors tell the server: a kind and a way out, no path of the node, no data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from client_app.errors import NodeError, without_paths
from mrff.config import ConfigError
from mrff.data.shard import node_folder, shard
from mrff.wire.aggregation import RoundFailedError
from tests.support.federation import run_federation
from tests.support.flower_internals import identify
from tests.support.local_grid import LocalGrid


def no_dataset(data: Path, state: Path) -> None:
    shutil.rmtree(data)


def damaged_dataset(data: Path, state: Path) -> None:
    (data / "interactions.parquet").write_bytes(b"what?")


def damaged_schema(data: Path, state: Path) -> None:
    (data / "schema.json").write_text("{")


def damaged_ledger(data: Path, state: Path) -> None:
    (state / "privacy").mkdir(parents=True)
    (state / "privacy/ledger.sqlite").write_bytes(b"what?" * 1000)
    (state / "privacy/ledger.head").write_text("{}")


def no_ledger_folder(data: Path, state: Path) -> None:
    state.mkdir()
    (state / "privacy").write_text("a file where the folder should be")


def damaged_store(data: Path, state: Path) -> None:
    (state / "run").mkdir(parents=True)
    (state / "run/private.sqlite").write_bytes(b"what?" * 1000)


def no_state_folder(data: Path, state: Path) -> None:
    state.write_text("a file where the folder should be")


def another_store(data: Path, state: Path) -> None:
    (state / "run").mkdir(parents=True)
    (state / "run/round-1.safetensors").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (no_dataset, "is not a prepared dataset"),
        (damaged_dataset, "prepare the dataset anew"),
        (damaged_schema, "cannot be read"),
        (damaged_ledger, "is never begun anew"),
        (no_ledger_folder, "cannot be written"),
        (damaged_store, "is damaged"),
        (no_state_folder, "cannot be"),
        (another_store, "of an earlier release"),
    ],
)
def test_no_path_of_a_node_reaches_the_server(
    small_data: Path, tmp_path: Path, damage: Callable[..., None], told: str
) -> None:
    """Through a real round; the folders have spaces in their names, as home folders may."""
    shards, place = tmp_path / "secret place", tmp_path / "secret state"
    shard(small_data, shards, 1)
    damage(node_folder(shards, 0), place)

    left: list[str] = []  # the node, as errors

    class Own(LocalGrid):
        def _answer(self, message: Message) -> Message:
            reply = super()._answer(message)
            if reply.has_error():
                left.append(reply.error.reason)
            return reply

        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            config = {"data-dir": str(node_folder(shards, 0)), "state-dir": str(place)}
            super().__init__(*arguments, **keywords, node_config=config)

    home = tmp_path / "server"
    with pytest.raises(RoundFailedError) as failed:
        run_federation(
            shards / "server", home, nodes=1, name="run", mode="laplace", delta=1e-3, grid_type=Own,
            sampling_rate=1.0, noise_multiplier=30.0,
        )  # fmt: skip
    said = " ".join([str(failed.value), *left])
    assert told in said
    for secret in ("secret", "place", str(tmp_path), ".sqlite", "parquet", str(Path.home())):
        assert secret not in said


def context(**node_config: str) -> Context:
    named = {key.replace("_", "-"): value for key, value in node_config.items()}
    return Context(1, 1, named, RecordDict(), {})


def answered(error: Exception, **node_config: str) -> Exception:
    def fails(message: Message, context: Context) -> Message:
        raise error

    identify()
    message = Message(RecordDict(), 1, "train")

    with pytest.raises(Exception) as caught:
        without_paths(message, context(**node_config), fails)
    return caught.value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("delta=0.1 must be less than 1/n = 0.0667", "delta=0.1 must be less than 1/n = 0.0667"),
        ("/a/b.sqlite cannot be read", "[path] cannot be read"),
        ("store (state/run/x.sqlite) is damaged", "store ([path]) is damaged"),
        (r"C:\Users\Jane\x is damaged", "[path] is damaged"),
        ("file:///a/b?mode=rw: no", "[path] no"),
        ("/home/Jane Doe/my data/schema.json is damaged", "[path] is damaged"),
        ("Jane's own/schema.json is damaged", "[path] is damaged"),
    ],
)
def test_paths_are_cut_out(text: str, told: str) -> None:
    own = {"data_dir": "/home/Jane Doe/my data", "state_dir": "Jane's own/"}
    found = answered(ConfigError(text), **own)
    assert isinstance(found, ConfigError)
    assert str(found) == told


def test_errors_from_elsewhere_are_told_by_their_kind() -> None:
    """Their own words may quote data: a key that is missing, a number that is too large."""
    found = answered(KeyError("user jane"))
    assert isinstance(found, NodeError)
    assert str(found) == "KeyError on this node; its own log says more"
    assert found.__cause__ is None
    assert found.__suppress_context__
