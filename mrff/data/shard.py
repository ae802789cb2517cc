"""Spreads the users of a prepared dataset over the folders of real nodes, and one for the server.

User row u goes to node u % n, as ``dataset.partition`` does in memory. The server's folder holds
what is public: the schema and the catalogue.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrff.data.dataset import Dataset, check_nodes, load_dataset, load_times, rows_of
from mrff.data.errors import DataError
from mrff.data.prepare import exclusive, replace_folder
from mrff.data.schema import ITEMS_FILE, Schema
from mrff.data.writing import UserChunk, write_users

SERVER_FOLDER = "server"
_OWN = re.compile(r"node-\d+|server")


def node_folder(out: Path, node: int) -> Path:
    """The folder of a node, counted from 0."""
    return out / f"node-{node}"


def shard(folder: Path, out: Path, nodes: int) -> list[Schema]:
    """Writes ``out/node-0`` to ``out/node-(n-1)`` and ``out/server``; returns the nodes' schemas.

    All of them have the same ``schema_hash``. Shards that were in ``out`` before are replaced as
    a whole; an error leaves them as they were. Nothing is
    forced to the disk: shards are quickly made again.

    Raises:
        DataError: more nodes than users, an unusable dataset, an ``out`` that holds other things.
    """
    folder, out = Path(folder).expanduser().absolute(), Path(out).expanduser().absolute()
    dataset = load_dataset(folder)
    check_nodes(nodes, dataset.num_users)
    if out == folder or out in folder.parents:
        raise DataError(f"{out} contains the dataset itself; choose another folder with --out")
    times = load_times(folder)

    def build(staging: Path) -> list[Schema]:
        schemas = []
        for node in range(nodes):
            users = np.arange(node, dataset.num_users, nodes)
            target = node_folder(staging, node)
            target.mkdir()
            schemas.append(_write_node(dataset, times, users, folder, target, node, nodes))
        server = staging / SERVER_FOLDER
        server.mkdir()
        shutil.copyfile(folder / ITEMS_FILE, server / ITEMS_FILE)
        public = replace(dataset.schema, counts={"items": dataset.schema.num_items})
        public.save(server)
        return schemas

    with exclusive(out):
        return replace_folder(out, build, is_own=lambda name: bool(_OWN.fullmatch(name)))


def _write_node(
    dataset: Dataset,
    times: NDArray[np.int64],
    users: NDArray[np.int64],
    folder: Path,
    target: Path,
    node: int,
    nodes: int,
) -> Schema:
    rows = rows_of(dataset.offsets, users)
    chunk = UserChunk(
        ids=dataset.user_ids[users].tolist(),
        codes={name: codes[users] for name, codes in dataset.user_features.items()},
        sizes=np.diff(dataset.offsets)[users],
        items=dataset.items[rows],
        labels=dataset.labels[rows],
        times=times[rows],
    )
    schema = dataset.schema
    shutil.copyfile(folder / ITEMS_FILE, target / ITEMS_FILE)
    totals = write_users(target, schema.user_features, [chunk])
    origin: dict[str, Any] = {"node": node, "nodes": nodes, "of": schema.content_hash}
    own = replace(
        schema,
        counts={"items": schema.num_items, **totals.counts},
        source={**schema.source, "shard": origin},
        content_hash=totals.content_hash,
    )
    own.save(target)
    return own
