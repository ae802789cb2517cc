"""A population on two machines of a Ray cluster: two raylets, real Flower."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.private_store import FILE, PrivateStore
from mrff.config import RunConfig
from mrff.data.dataset import load_dataset
from mrff.data.prepare import prepare
from mrff.io.sqlite import SHARED
from mrff_model.building import tensors_of
from server_app.run.history import read_history
from tests.support.command import MRFF
from tests.support.federation import shared_arrays
from tests.support.ray_cluster import at_work, environment, ray_cluster, raylet_of
from tests.support.small_data import small_network

NODES, USERS = 4, 20
ROUNDS = 80  # a worker whose raylet has gone is missed within a second or two
SETTINGS = {
    "training.sampling-rate": 0.8,
    "server.num-server-rounds": ROUNDS,
    "data.window-length": 16,
    "run.fit-settings": False,
    "run.tensorboard": False,
    # Adam turns a mean that is zero but for rounding into a step of full size.
    "server.server-optimizer": "average",
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With data, and the run ``one``: the same nodes on one raylet."""
    home = tmp_path_factory.mktemp("home")
    prepare("synthetic", out=home / "data/small", options={"users": USERS, "items": 40})
    running, _ = start(home, "one")
    assert running.wait() == 0, (home / "one.log").read_text()[-3000:]
    return home


@pytest.fixture
def cluster(home: Path) -> Iterator[Any]:
    with ray_cluster(2) as cluster:
        yield cluster


def start(home: Path, name: str, *more: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Begins a run; its log and its history."""
    settings = {**SETTINGS, "run.name": name, "data.data-dir": home / "data/small"}
    words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    words = [word.replace("=True", "=true").replace("=False", "=false") for word in words]
    command = [MRFF, "run", "--nodes", str(NODES), *words, *more]
    with (home / f"{name}.log").open("wb") as log:
        running = subprocess.Popen(
            command, env=environment(home), cwd=home, stdout=log, stderr=log
        )  # fmt: skip
    return running, home / "runs" / name / "history.jsonl"


def run_on(cluster: Any, home: Path, name: str, watch: Callable[[int], None]) -> str:
    """A run on the cluster to its end; ``watch`` gets the number of rounds meanwhile."""
    running, history = start(home, name, "--ray-address", cluster.address)
    while running.poll() is None:
        watch(sum(entry["kind"] == "round" for entry in read_history(history)))
        time.sleep(0.02)
    said = (home / f"{name}.log").read_text()
    assert running.returncode == 0, said[-4000:]
    return said


def private_of(home: Path, name: str) -> dict[str, np.ndarray]:
    """Everybody's private parameters after the last round, by array and node."""
    dataset = load_dataset(home / "data/small")
    network = small_network(RunConfig.from_flat(SETTINGS), dataset)
    found = {}
    for node in range(NODES):
        store = PrivateStore(home / "state" / name / f"node-{node}-of-{NODES}")
        keys = dataset.user_keys[np.arange(node, USERS, NODES)]
        rows, _ = store.load(
            keys, up_to_round=ROUNDS, initial=tensors_of(network, "private"), num_layers=2
        )
        found |= {f"{array} of {node}": value.numpy() for array, value in rows.items()}
    return found


def assert_same_as_on_one(home: Path, name: str) -> None:
    for one, other in (
        (shared_arrays(home, "one"), shared_arrays(home, name)),
        (private_of(home, "one"), private_of(home, name)),
    ):
        assert one.keys() == other.keys()
        assert any(np.abs(array).max() > 0 for array in one.values())
        for array, value in one.items():
            np.testing.assert_allclose(other[array], value, atol=1e-5, err_msg=array)


@pytest.mark.long
def test_two_raylets_train_what_one_does(cluster: Any, home: Path) -> None:
    raylets = {raylet_of(node) for node in cluster.list_all_nodes()}
    worked: set[int] = set()

    def watch(rounds: int) -> None:
        worked.update(at_work(raylets))

    said = run_on(cluster, home, "two", watch)
    assert worked == raylets
    assert_same_as_on_one(home, "two")
    assert "the Ray cluster at" in said
    assert (home / SHARED).exists()
    assert not list(home.glob(".cluster-check*"))
    stores = list((home / "state/two").rglob(FILE))
    assert len(stores) == NODES
    for store in stores:  # bytes 18 and 19 of a database: 2 where it writes ahead
        assert store.read_bytes()[18:20] == b"\x01\x01"
    assert all(node.remaining_processes_alive() for node in cluster.list_all_nodes())


@pytest.mark.long
def test_a_raylet_that_is_killed_in_a_round_costs_its_workers_only(
    cluster: Any, home: Path
) -> None:
    (lost,) = cluster.worker_nodes
    pid, killed = raylet_of(lost), []

    def watch(rounds: int) -> None:
        if rounds >= 2 and not killed and at_work({pid}):
            lost.kill_raylet()
            killed.append(rounds)

    said = run_on(cluster, home, "lost", watch)
    assert len(killed) == 1
    assert killed[0] < ROUNDS
    assert "a worker of the simulation has died" in said
    assert "no room for another one: 1 workers are left" in said
    rounds = [e for e in read_history(home / "runs/lost/history.jsonl") if e["kind"] == "round"]
    assert [(e["replies"], e["missing"]) for e in rounds] == [(NODES, [])] * ROUNDS
    summary = json.loads((home / "runs/lost/summary.json").read_text())
    assert (summary["rounds"], summary["test_users"]) == (ROUNDS, USERS)
    assert_same_as_on_one(home, "lost")  # nothing private is lost, and nobody trained twice
