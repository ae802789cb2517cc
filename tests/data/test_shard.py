"""Shards: the same assignment as in memory, one schema, nothing private on the server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mrff.data.dataset import load_catalogue, load_dataset, load_times, partition
from mrff.data.errors import DataError
from mrff.data.schema import Schema
from mrff.data.shard import node_folder, shard
from tests.support.small_folders import alternating, write


def test_shards_are_partitions(tmp_path: Path) -> None:
    whole = write(tmp_path / "d", alternating(3, 1, 4, 2, 5))
    dataset = load_dataset(tmp_path / "d")
    schemas = shard(tmp_path / "d", tmp_path / "s", 2)
    assert [schema.counts["users"] for schema in schemas] == [3, 2]
    assert [schema.counts["interactions"] for schema in schemas] == [12, 3]
    assert schemas[0].content_hash != schemas[1].content_hash
    for node in range(2):
        own = load_dataset(node_folder(tmp_path / "s", node))
        expected = partition(dataset, node, 2)
        assert own.schema.schema_hash == whole.schema_hash
        assert own.schema == schemas[node]
        for name in ("user_ids", "user_keys", "offsets", "items", "labels"):
            np.testing.assert_array_equal(getattr(own, name), getattr(expected, name))
        np.testing.assert_array_equal(own.user_features["age"], expected.user_features["age"])
        np.testing.assert_array_equal(own.item_features["genres"], dataset.item_features["genres"])
    assert load_times(tmp_path / "s" / "node-1").tolist() == [0, 0, 1]


def test_one_user_per_node(tmp_path: Path) -> None:
    write(tmp_path / "d", alternating(3, 1, 4))
    shard(tmp_path / "d", tmp_path / "s", 3)
    sizes = [len(load_dataset(node_folder(tmp_path / "s", n)).items) for n in range(3)]
    assert sizes == [3, 1, 4]


def test_the_server_gets_what_is_public(tmp_path: Path) -> None:
    whole = write(tmp_path / "d", alternating(3, 1, 4))
    shard(tmp_path / "d", tmp_path / "s", 2)
    server = tmp_path / "s" / "server"
    assert {path.name for path in server.iterdir()} == {"schema.json", "items.parquet"}
    schema = load_catalogue(server).schema
    assert schema.schema_hash == whole.schema_hash
    assert schema.counts == {"items": 4}
    assert "user" not in " ".join(pq.read_schema(server / "items.parquet").names)


def test_shards_are_replaced_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path / "d", alternating(3, 1, 4))
    shard(tmp_path / "d", tmp_path / "s", 3)
    shard(tmp_path / "d", tmp_path / "s", 2)
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"node-0", "node-1", "server"}


@pytest.mark.parametrize("nodes", [0, -1, 4])
def test_impossible_numbers_of_nodes(tmp_path: Path, nodes: int) -> None:
    write(tmp_path / "d", alternating(3, 1, 4))
    with pytest.raises(DataError, match=rf"between 1 and 3 \(the number of users\), got {nodes}"):
        shard(tmp_path / "d", tmp_path / "s", nodes)
    assert not (tmp_path / "s").exists()


def test_other_files_are_safe(tmp_path: Path) -> None:
    write(tmp_path / "d", alternating(3, 1, 4))
    with pytest.raises(DataError, match="contains the dataset itself"):
        shard(tmp_path / "d", tmp_path / "d", 2)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds 'notes\.txt'"):
        shard(tmp_path / "d", tmp_path / "s", 2)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        shard(tmp_path / "d", tmp_path / "file" / "s", 2)


def test_a_shard_can_be_sharded(tmp_path: Path) -> None:
    write(tmp_path / "d", alternating(3, 1, 4, 2))
    shard(tmp_path / "d", tmp_path / "s", 2)
    shard(tmp_path / "s" / "node-0", tmp_path / "t", 2)
    assert load_dataset(tmp_path / "t" / "node-1").user_ids.tolist() == ["user 2"]
    assert Schema.load(tmp_path / "t" / "node-1").source["shard"]["nodes"] == 2
