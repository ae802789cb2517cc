"""Loading a prepared folder: the arrays, the checks, and the parts of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrff.data.dataset import load_catalogue, load_dataset, load_titles, partition, take_users
from mrff.data.errors import DataError
from mrff.data.writing import write_folder
from tests.support.small_folders import alternating, chunk, prepared, write

HISTORIES = [[(1, 1), (2, 0)], [(4, 1)], [(3, 0), (3, 1), (1, 1)]]


def test_arrays(tmp_path: Path) -> None:
    write(tmp_path, HISTORIES)
    dataset = load_dataset(tmp_path)
    assert dataset.num_users == 3
    assert dataset.user_ids.tolist() == ["user 0", "user 1", "user 2"]
    assert dataset.offsets.tolist() == [0, 2, 3, 6]
    assert dataset.items.tolist() == [1, 2, 4, 3, 3, 1]
    assert dataset.labels.tolist() == [1, 0, 1, 0, 1, 1]
    assert dataset.item_features["item"].tolist() == [0, 1, 2, 3, 4]
    assert dataset.item_features["genres"].tolist() == [[0, 0], [1, 2], [2, 0], [0, 0], [1, 0]]
    assert dataset.user_features["age"].tolist() == [0, 1, 2]
    assert dataset.items.dtype == np.int32
    assert dataset.labels.dtype == np.int8
    assert dataset.user_keys.dtype == np.uint64
    assert load_titles(tmp_path) == ["", "A", "B", "C", "D"]


def test_what_shares_its_second_with_the_interaction_before_is_known(tmp_path: Path) -> None:
    write(tmp_path, HISTORIES)
    path = tmp_path / "interactions.parquet"
    table = pq.read_table(path)
    times = pa.array([5, 5, 5, 1, 2, 2], table.schema.field("time").type)
    pq.write_table(table.set_column(table.schema.get_field_index("time"), "time", times), path)
    dataset = load_dataset(tmp_path)
    assert dataset.same_time.tolist() == [False, True, False, False, False, True]
    part = take_users(dataset, np.array([2, 0]))
    assert part.same_time.tolist() == [False, False, True, False, True]


def test_user_keys_are_the_same_everywhere(tmp_path: Path) -> None:
    write(tmp_path, HISTORIES)
    # python -c "import hashlib; print(hashlib.blake2b(b'user 1', digest_size=8).hexdigest())"
    expected = int.from_bytes(bytes.fromhex("82734adf23bc02ab"), "little")
    assert load_dataset(tmp_path).user_keys[1] == expected


def test_content_hash_does_not_depend_on_chunks(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    whole = write_folder(prepared([chunk(HISTORIES)]), folders[0], source={})
    parts = [chunk(HISTORIES[:1]), chunk(HISTORIES[1:], first=1)]
    assert write_folder(prepared(parts), folders[1], source={}) == whole
    first, second = (load_dataset(folder) for folder in folders)
    assert first.items.tolist() == second.items.tolist()
    assert first.offsets.tolist() == second.offsets.tolist()


def test_partitions_share_out_the_users(tmp_path: Path) -> None:
    write(tmp_path, alternating(1, 2, 3, 4, 5))
    dataset = load_dataset(tmp_path)
    parts = [partition(dataset, node, 2) for node in range(2)]
    assert [part.user_ids.tolist() for part in parts] == [
        ["user 0", "user 2", "user 4"],
        ["user 1", "user 3"],
    ]
    assert parts[1].offsets.tolist() == [0, 2, 6]
    assert parts[1].items.tolist() == [1, 2, 1, 2, 3, 4]
    assert parts[1].user_features["age"].tolist() == [1, 0]
    assert parts[1].schema.schema_hash == dataset.schema.schema_hash


@pytest.mark.parametrize(("node", "nodes"), [(0, 0), (0, 6), (0, -1)])
def test_more_nodes_than_users(tmp_path: Path, node: int, nodes: int) -> None:
    write(tmp_path, alternating(1, 2, 3, 4, 5))
    with pytest.raises(DataError, match=f"between 1 and 5 .*, got {nodes}"):
        partition(load_dataset(tmp_path), node, nodes)


def test_partition_id_out_of_range(tmp_path: Path) -> None:
    write(tmp_path, alternating(1, 2))
    with pytest.raises(DataError, match="between 0 and 1, got 2"):
        partition(load_dataset(tmp_path), 2, 2)


def test_take_users_in_any_order(tmp_path: Path) -> None:
    write(tmp_path, HISTORIES)
    taken = take_users(load_dataset(tmp_path), np.array([2, 0]))
    assert taken.items.tolist() == [3, 3, 1, 1, 2]
    assert taken.offsets.tolist() == [0, 3, 5]


def test_the_server_reads_no_users(tmp_path: Path) -> None:
    write(tmp_path, HISTORIES)
    (tmp_path / "users.parquet").unlink()
    (tmp_path / "interactions.parquet").unlink()
    catalogue = load_catalogue(tmp_path)
    assert catalogue.schema.num_items == 4
    assert catalogue.item_codes["item"].tolist() == [0, 1, 2, 3, 4]


def change(path: Path, **columns: pa.Array) -> None:
    table = pq.read_table(path)
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item": pa.array([1, 2, 4, 9, 3, 1])}, "'item', row 4: 9 is not between 1 and 4"),
        ({"item": pa.array([1, 2, 4, 0, 3, 1])}, "'item', row 4: 0 is not between"),
        ({"item": pa.array([1, 2, 2**32 + 1, 1, 1, 1])}, "4294967297 is not between"),
        ({"label": pa.array([1, 2, 1, 0, 1, 1])}, "'label', row 2: 2 is not between 0 and 1"),
        ({"label": pa.array([1.0, float("nan")] * 3)}, "'label' must hold whole numbers"),
        ({"label": pa.array([1, None, 1, 0, 1, 1])}, "with 1 missing"),
        ({"user": pa.array([0, 0, 1, 2, 2, 3])}, "'user', row 6: 3 is not between 0 and 2"),
        ({"user": pa.array([0, 0, 2, 1, 1, 1])}, "not sorted by user and time at row 4"),
        ({"time": pa.array([0, 1, 0, 2, 1, 3])}, "not sorted by user and time at row 5"),
    ],
)
def test_bad_interactions(tmp_path: Path, columns: dict[str, pa.Array], message: str) -> None:
    write(tmp_path, HISTORIES)
    change(tmp_path / "interactions.parquet", **columns)
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path)


def test_bad_users(tmp_path: Path) -> None:
    write(tmp_path, HISTORIES)
    change(tmp_path / "users.parquet", age=pa.array([0, 1, 3]))
    with pytest.raises(DataError, match="'age', row 3: 3 is not between 0 and 2"):
        load_dataset(tmp_path)
    change(tmp_path / "users.parquet", age=pa.array([0, 1, 2]), user_key=pa.array([5, 6, 5]))
    with pytest.raises(DataError, match="names a user twice"):
        load_dataset(tmp_path)


def test_bad_items(tmp_path: Path) -> None:
    write(tmp_path, HISTORIES)
    change(tmp_path / "items.parquet", genres=pa.array([[1, 2, 1], [], [], []]))
    with pytest.raises(DataError, match=r"values per row.*3 is not between 0 and 2"):
        load_dataset(tmp_path)
    change(tmp_path / "items.parquet", genres=pa.array([[1, 2], [7], [], []]))
    with pytest.raises(DataError, match="7 is not between 0 and 2"):
        load_dataset(tmp_path)


def test_empty_shard(tmp_path: Path) -> None:
    write(tmp_path, HISTORIES)
    for name in ("users", "interactions"):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(DataError, match="has no users; give every node at least one user"):
        load_dataset(tmp_path)


def test_users_without_interactions(tmp_path: Path) -> None:
    write(tmp_path, HISTORIES)
    path = tmp_path / "interactions.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(DataError, match="has no rows"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("name", ["items.parquet", "users.parquet", "interactions.parquet"])
def test_missing_or_damaged_file(tmp_path: Path, name: str) -> None:
    write(tmp_path, HISTORIES)
    (tmp_path / name).write_bytes(b"not parquet")
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        load_dataset(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing; prepare the dataset anew"):
        load_dataset(tmp_path)


def test_loading_does_not_import_pandas(tmp_path: Path) -> None:
    """Every message of a deployed client starts a process: what it imports is paid each time."""
    write(tmp_path, HISTORIES)
    code = (
        "import sys; from pathlib import Path; import mrff.data.windows; "
        "from mrff.data.dataset import load_dataset; "
        f"load_dataset(Path({str(tmp_path)!r})); assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
