"""Spreads the users of a prepared dataset over the folders of real nodes, and one for the server.

User row u goes to node u % n, as ``dataset.partition`` does in memory. The server's folder holds
what is public: the schema and the catalogue.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from mrff.data.dataset import Dataset, check_nodes, load_dataset, load_times, rows_of, take_users
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
    a whole; an error leaves them as they were. Files are not forced to the disk: shards are
    quickly made again.

    Raises:
        DataError: more nodes than users, an unusable dataset, an ``out`` that holds other things.
    """
    folder, out = Path(folder).expanduser().absolute(), Path(out).expanduser().absolute()
    dataset = load_dataset(folder)
    check_nodes(nodes, dataset.num_users)
    if out == folder or out in folder.parents:
        raise DataError(f"{out} contains the dataset itself; choose another folder with --out")
    before = _populations_in(out, dataset.schema.name)
    population = dataset.schema.population or next(iter(before), str(uuid4()))
    schema = replace(
        dataset.schema,
        population=population,
        earlier=tuple(name for name in before if name != population),
    )
    times = load_times(folder)

    def new_folder(path: Path) -> Path:
        path.mkdir()
        shutil.copyfile(folder / ITEMS_FILE, path / ITEMS_FILE)
        return path

    def build(staging: Path) -> list[Schema]:
        schemas = []
        for node in range(nodes):
            place = new_folder(node_folder(staging, node))
            chunk = _users(dataset, times, np.arange(node, dataset.num_users, nodes))
            counts, content_hash = write_users(place, schema.user_features, [chunk])
            origin = {"node": node, "nodes": nodes}
            own = replace(
                schema,
                source={**schema.public.source, "shard": origin},
                counts={"items": schema.num_items, **counts},
                content_hash=content_hash,
            )
            own.save(place)
            schemas.append(own)
        public = replace(schema.public, earlier=schema.earlier)
        public.save(new_folder(staging / SERVER_FOLDER))
        return schemas

    with exclusive(out):
        return replace_folder(out, build, is_own=lambda name: bool(_OWN.fullmatch(name)))


def _populations_in(out: Path, name: str) -> list[str]:
    """What the shards in ``out`` call their people, and called them before; of this dataset."""
    found: dict[str, None] = {}
    for folder in sorted(out.glob("*")) if out.is_dir() else ():
        try:
            old = Schema.load(folder)
        except DataError:
            continue
        if old.name == name and old.population:
            found |= dict.fromkeys((old.population, *old.earlier))
    return list(found)


def _users(dataset: Dataset, times: NDArray[np.int64], users: NDArray[np.int64]) -> UserChunk:
    rows = rows_of(dataset.offsets, users)
    return UserChunk.of(take_users(dataset, users), times[rows])
