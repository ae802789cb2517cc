"""Nodes of other versions of the data than the server's: who takes part, and who is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, MessageType, RecordDict

from client_app.app import app as client_app
from mrff.config import full_names
from mrff.data.prepare import Wanted, prepare, prepare_asked
from mrff.data.schema import Schema
from mrff.data.shard import shard
from mrff.wire.aggregation import RoundFailedError
from mrff.wire.records import arrays_in
from server_app.app import app as server_app
from server_app.run.checkpoint import load_checkpoint
from server_app.run.history import read_history
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid
from tests.support.shop import ITEMS, MORE, trained_shop

TABLE = "item_features.item_table.weight"


class Places(LocalGrid):
    """Nodes with folders of their own, as deployed ones have; keeps what each of them sent."""

    def __init__(self, folders: list[Path], state: Path, config: dict[str, Any]) -> None:
        self.sent: dict[int, list[dict[str, np.ndarray]]] = {}

        def client(message: Message, context: Context) -> Message:
            number = context.node_id - FIRST_NODE_ID
            own = {"data-dir": str(folders[number]), "state-dir": str(state / str(number))}
            context.node_config = own
            reply = client_app(message, context)
            if message.metadata.message_type == MessageType.TRAIN:
                self.sent.setdefault(number, []).append(arrays_in(reply.content, "updates"))
            return reply

        super().__init__(client, len(folders), config)


class World:
    """The shards of two versions: ``old`` and ``new``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        for name, grown in (("old", False), ("new", True)):
            prepare("csv", source=trained_shop(folder / "files", grown=grown), out=self.data)
            shard(self.data, folder / name, 2)

    def run(self, name: str, folders: list[Path], server: Path, **changes: Any) -> Places:
        values: dict[str, Any] = {
            "data-dir": str(server), "home": str(self.folder / "home"), "name": name,
            "expected-nodes": len(folders), "num-server-rounds": 2, "evaluate-every": 1,
            "feature-dim": 4, "window-length": 8, "sampling-rate": 1.0, "tensorboard": False,
            "item-bias": True, "objective": "both", "feature-mix": "concat",
        }  # fmt: skip
        values |= {key.replace("_", "-"): value for key, value in changes.items()}
        config = full_names(values)
        grid = Places(folders, self.folder / "state" / name, config)
        server_app(grid=grid, context=Context(1, 0, {}, RecordDict(), config))
        return grid

    def rounds(self, name: str) -> list[dict[str, Any]]:
        history = read_history(self.folder / "home" / "runs" / name / "history.jsonl")
        return [entry for entry in history if entry["kind"] == "round"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("clusters", [0, 2])
def test_a_node_of_an_earlier_version_sends_zeros_for_later_rows(
    world: World, clusters: int
) -> None:
    also = {"clusters": clusters, "num_experts": 1} if clusters else {}
    name = f"mixed-{clusters}"
    folders = [world.folder / "old" / "node-0", world.folder / "new" / "node-1"]
    grid = world.run(name, folders, world.folder / "new" / "server", **also)
    assert [(r["replies"], r["rejected"]) for r in world.rounds(name)] == [(2, []), (2, [])]
    seen = 0
    for behind, ahead in zip(grid.sent[0], grid.sent[1], strict=True):
        for array, update in behind.items():
            if not array.endswith((TABLE, "next_head.item_bias.weight")):
                continue
            seen += 1
            assert update.shape[0] == 1 + ITEMS + MORE
            assert not update[1 + ITEMS :].any()
            assert update[: 1 + ITEMS].any()
            assert array not in ahead or ahead[array][1 + ITEMS :].any()
    assert seen >= 4
    summary = json.loads((world.folder / "home" / "runs" / name / "summary.json").read_text())
    assert summary["test_users"] == 6 + 7


def test_a_node_ahead_of_the_server_waits(world: World) -> None:
    folders = [world.folder / "old" / "node-0", world.folder / "new" / "node-1"]
    world.run("ahead", folders, world.folder / "old" / "server")
    for entry in world.rounds("ahead"):
        (rejection,) = entry["rejected"]
        assert "version 2, the run's is an earlier one: give the server the" in rejection["reason"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mode": "central-user", "sampling_rate": 0.5, "objective": "click"},
         "catalogue is version 1, the run's is a later one, and noise has to be in every row: ta"),
        ({"linear_items": 5}, "and linear models count every item: take it with mrff data append"),
    ],
)  # fmt: skip
def test_where_every_row_counts_a_node_has_to_be_up_to_date(
    world: World, changes: dict[str, Any], reason: str
) -> None:
    folders = [world.folder / "old" / "node-0"] * 2
    with pytest.raises(RoundFailedError, match=reason):
        world.run(f"needs-{len(changes)}", folders, world.folder / "new" / "server", **changes)


def forge(folder: Path, **changes: Any) -> None:
    """Rewrites a schema as somebody would who wants to be taken for another version."""
    replace(Schema.load(folder), **changes).save(folder)


@pytest.mark.parametrize("claim", ["begun anew", "a child of the server's", "other sizes"])
def test_a_foreign_node_is_refused_whatever_it_claims(
    world: World, tmp_path: Path, claim: str
) -> None:
    """It claims an ancestor that is none; the round goes on with the others as if it was silent."""
    server = Schema.load(world.folder / "new" / "server")
    anew = Wanted("csv", world.folder / "files" / "shop.toml", tmp_path / "anew", {})
    (world.folder / "files" / "products.csv").write_text(
        "sku,label,brand,tags,price\n" + "".join(f"i{n},,z,,1\n" for n in reversed(range(12)))
    )
    prepare_asked(anew, anew=True)
    foreign = shard(tmp_path / "anew", tmp_path / "shards", 2) and tmp_path / "shards" / "node-0"
    if claim == "a child of the server's":
        forge(foreign, ancestors=(server.as_ancestor,))
    if claim == "other sizes":
        sizes = replace(server.as_ancestor, num_items=3, item_sizes=(4, 2, 1, 4))
        forge(foreign, ancestors=(sizes,))
    folders = [world.folder / "new" / "node-0", world.folder / "new" / "node-1", foreign]
    name = claim.replace(" ", "-").replace("'", "")
    world.run(name, folders, world.folder / "new" / "server")
    for entry in world.rounds(name):
        (rejection,) = entry["rejected"]
        assert rejection["node"] == FIRST_NODE_ID + 2
        assert "\n" not in rejection["reason"]
    if not (world.folder / "home" / "runs" / "honest").exists():
        world.run("honest", folders[:2], world.folder / "new" / "server")
    ours, theirs = (
        load_checkpoint(world.folder / "home" / "runs" / run / "checkpoint").state.public
        for run in (name, "honest")
    )
    for array, values in theirs.items():
        np.testing.assert_array_equal(ours[array], values)
