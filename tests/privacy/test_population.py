"""Budgets are kept by person: whatever becomes of the data, nobody's budget begins anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrff.data.dataset import load_dataset
from mrff.data.prepare import prepare
from mrff.data.schema import Schema
from mrff.data.shard import node_folder, shard
from mrff.data.writing import user_keys
from mrff.privacy.accounting import Limit, Release, epsilon_of
from mrff.privacy.ledger import BudgetExceededError, Ledger
from mrff.wire.aggregation import RoundFailedError
from server_app.run.history import read_history
from tests.support.federation import run_federation
from tests.support.own_data import EVENTS_1, example

ROUND = Release(4.0, 1.0, 2)
DELTA = 1e-5
LIMIT = Limit(epsilon_of([ROUND], DELTA), DELTA)  # one round and no more
(ANN,) = (int(key) for key in user_keys(["ann"]))
EVERYBODY = 0
ABOUT = {"training": "run", "round": 1}


class Place:
    """A prepared dataset, its shards, and the ledgers of nodes and server."""

    def __init__(self, root: Path) -> None:
        self.source, self.out, self.shards = root / "source", root / "out", root / "shards"
        self.nodes, self.server = root / "nodes", root / "server"
        self.source.mkdir()
        self.toml = example(self.source)
        self.prepare()

    def prepare(self, out: Path | None = None) -> None:
        prepare("csv", source=self.toml, out=out or self.out)

    def events(self, text: str) -> None:
        (self.source / "events-1.csv").write_text(text)

    def shard(self, nodes: int) -> None:
        shard(self.out, self.shards, nodes)

    def of_ann(self) -> Path:
        """The shard that holds Ann."""
        nodes = self.shards.glob("node-*")
        return next(node for node in nodes if "ann" in load_dataset(node).user_ids)

    def strip(self) -> None:
        """Makes folders what they were before there were populations."""
        for folder in (self.out, *self.shards.glob("*")):
            content = json.loads((folder / "schema.json").read_text())
            for key in ("population", "earlier"):
                content.pop(key, None)
            if folder.name == "server":
                content["content_hash"] = Schema.load(self.out).content_hash
            (folder / "schema.json").write_text(json.dumps(content))


def spend(folder: Path, ledgers: Path, user: int = ANN) -> None:
    Ledger(ledgers, Schema.load(folder).known_as, "user").append([user], ROUND, ABOUT, LIMIT)


def is_spent(folder: Path, ledgers: Path, user: int = ANN) -> bool:
    ledger = Ledger(ledgers, Schema.load(folder).known_as, "user")
    with pytest.raises(BudgetExceededError):
        ledger.append([user], ROUND, ABOUT, LIMIT)
    return ledger.epsilon([user], LIMIT) == LIMIT.epsilon


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def one_more(place: Place) -> None:
    place.events(EVENTS_1 + "ann,s2,2024-04-01,4\n")
    place.prepare()


def renamed(place: Place) -> None:
    place.out = place.out.rename(place.out.with_name("renamed"))


def other_order(place: Place) -> None:
    head, *rows = EVENTS_1.splitlines()
    place.events("\n".join([head, *reversed(rows)]) + "\n")
    place.prepare()


def prepared_anew(place: Place) -> None:
    shutil.rmtree(place.out)
    place.prepare()


def one_less(place: Place) -> None:
    place.events(EVENTS_1.replace("ann,s2,2024-01-01,2\n", ""))
    place.prepare()


def from_elsewhere(place: Place) -> None:
    place.out = place.out.with_name("copy")
    place.prepare()


CHANGES: list[Callable[[Place], None]] = [
    one_more, renamed, other_order, prepared_anew, one_less, from_elsewhere,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_budget_is_what_it_was_whatever_becomes_of_the_data(
    place: Place, change: Callable[[Place], None]
) -> None:
    place.shard(2)
    node = place.of_ann()
    spend(place.out, place.nodes)  # a node that holds the whole dataset, as in a simulation
    spend(place.out, place.server, EVERYBODY)
    spend(node, place.nodes / "own")
    spend(place.shards / "server", place.server / "own", EVERYBODY)
    change(place)
    for nodes in (2, 3, 1):
        place.shard(nodes)
        assert is_spent(place.out, place.nodes)
        assert is_spent(place.out, place.server, EVERYBODY)
        assert is_spent(place.of_ann(), place.nodes / "own")
        assert is_spent(place.shards / "server", place.server / "own", EVERYBODY)


def test_changes_after_changes(place: Place) -> None:
    spend(place.out, place.nodes)
    for change in CHANGES:
        change(place)
        assert is_spent(place.out, place.nodes), change.__name__


@pytest.mark.parametrize("change", [None, *CHANGES[:3]])
def test_what_was_noted_before_there_were_populations_counts(
    place: Place, change: Callable[[Place], None] | None
) -> None:
    place.shard(2)
    place.strip()
    before = place.of_ann()
    assert Schema.load(before).known_as == (Schema.load(before).content_hash,)
    spend(place.out, place.nodes)
    spend(before, place.nodes / "own")
    spend(place.out, place.server / "own", EVERYBODY)
    old = shutil.copytree(place.out, place.out.with_name("old"))
    if change is None:
        place.prepare(place.out)  # it is left alone
    else:
        change(place)
        assert is_spent(place.out, place.nodes)
        assert is_spent(old, place.nodes)  # whoever keeps the old folder gains nothing
    for nodes in (2, 3):
        place.shard(nodes)
        assert is_spent(place.of_ann(), place.nodes / "own")
        assert is_spent(place.shards / "server", place.server / "own", EVERYBODY)


def test_the_same_names_in_other_data_are_other_people(place: Place, tmp_path: Path) -> None:
    spend(place.out, place.nodes)
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    assert is_spent(other.out, place.nodes)  # the same data: the same people
    shutil.rmtree(other.out)
    other.events(EVENTS_1 + "dan,s2,2024-04-01,4\n")
    other.prepare()
    spend(other.out, place.nodes)


def test_whoever_edits_the_name_of_grown_data_gets_a_new_budget(place: Place) -> None:
    """Said in the documentation, as of deleting the ledger; here so that nobody is surprised."""
    spend(place.out, place.nodes)
    path = place.out / "schema.json"
    named = Schema.load(place.out).population
    path.write_text(path.read_text().replace(named, "somebody-else"))
    assert is_spent(place.out, place.nodes)  # the data's hash gives it away
    shutil.rmtree(place.out)
    shutil.rmtree(place.nodes)
    place.prepare()
    spend(place.out, place.nodes)
    path.write_text(path.read_text().replace(Schema.load(place.out).population, "somebody-else"))
    one_more(place)
    spend(place.out, place.nodes)  # nothing is left that could


def test_all_parts_of_a_dataset_have_one_name_and_the_public_one_no_hash(place: Place) -> None:
    place.shard(2)
    whole, public = Schema.load(place.out), Schema.load(place.shards / "server")
    nodes = [Schema.load(node_folder(place.shards, number)) for number in range(2)]
    assert {schema.population for schema in (whole, public, *nodes)} == {whole.population}
    assert {schema.schema_hash for schema in (whole, public, *nodes)} == {whole.schema_hash}
    of_files = list(whole.source["files"].values())
    assert of_files  # of the events that the data were prepared from, for one
    for file in place.shards.glob("*/schema.json"):
        for known in (whole.content_hash, *of_files):
            assert known not in file.read_text()
    for node in nodes:
        assert node.content_hash not in (place.shards / "server/schema.json").read_text()


@pytest.mark.parametrize("mode", ["central-user", "laplace"])
def test_a_run_on_grown_data_does_not_get_a_new_budget(tmp_path: Path, mode: str) -> None:
    """Real rounds: what was exhausted stays so."""
    data = tmp_path / "data"

    def grow(events: int) -> None:
        options = {"users": 12, "items": 20, "events_per_user": events}
        prepare("synthetic", out=data, options=options)

    noise = 2.0 if mode == "central-user" else 30.0
    kind: Any = "gaussian" if mode == "central-user" else "laplace"
    budget = 1.001 * epsilon_of([Release(noise, steps=2, mechanism=kind)], 1e-3)
    settings: dict[str, Any] = {
        "nodes": 2, "mode": mode, "delta": 1e-3, "sampling_rate": 1.0, "noise_multiplier": noise,
        "epsilon_budget": budget, "num_server_rounds": 2, "evaluate_every": 2,
    }  # fmt: skip
    grow(24)
    run_federation(data, tmp_path, name="first", **settings)
    grow(25)
    with pytest.raises((BudgetExceededError, RoundFailedError)):
        run_federation(data, tmp_path, name="second", **settings)
    assert len(read_history(tmp_path / "runs/first/history.jsonl")) > 2
    history = read_history(tmp_path / "runs/second/history.jsonl")
    assert not [entry for entry in history if entry["kind"] == "round"]
