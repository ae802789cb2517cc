"""Real nodes that are killed or frozen in the middle of a round, and come back.

Runs are compared with the same apps in one process: the public and group parameters of the server
and every user's private parameters must agree, whatever was killed on the way. One federation
serves all of it: Flower takes a minute to believe that a node is dead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mrff.data.shard import shard
from mrff.ops.processes import wait_for
from tests.support import reference
from tests.support.deployment import Federation, Values, requests_taken, wait_for_request

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def federation(ml_100k: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three nodes with a shard each, and a fourth that is registered and not started."""
    folder = tmp_path_factory.mktemp("federation")
    shard(ml_100k, folder / "shards", 3)
    with Federation(folder, folder / "shards", nodes=4) as federation:
        for node in range(3):
            federation.start_node(node)
        yield federation


@pytest.mark.long
def test_killed_nodes_go_on_under_a_new_id_and_under_their_own(
    federation: Federation, tmp_path: Path, ml_100k: Path
) -> None:
    """Node 3 takes over shard and state of node 0; node 1 comes back as itself, with its key."""
    settings: Values = {
        "num_server_rounds": 3, "evaluate_every": 3, "sampling_rate": 1.0, "score_test": False,
    }  # fmt: skip
    run = federation.submit(
        name="killed", expected_nodes=3, reply_timeout_seconds=150.0, **settings
    )

    def kill_when_asked(node: int) -> None:
        wait_for_request(federation, f"node-{node}", "train", 2)
        federation.kill(f"node-{node}")

    with ThreadPoolExecutor() as pool:
        list(pool.map(kill_when_asked, (0, 1)))
    federation.start_node(3, config=federation.settings(0))
    # Flower refuses node 1 until then. A ServerApp that looks in between sees it dead; here it
    # does not, and nothing but the time of the connection tells that the message is lost.
    time.sleep(max(0.0, federation.online_until(1) - time.time() - 2.0))
    with federation.frozen_server_app():
        federation.wait_until_online(1)
    federation.completes(run)

    rounds = federation.rounds("killed")
    assert [entry["sent"] for entry in rounds] == [3, 3, 3]
    assert [entry["replies"] for entry in rounds] == [3, 2, 3]
    dead = federation.node_id(0)
    assert [(each["node"], "Unavailable" in each["reason"]) for each in rounds[1]["rejected"]] == [
        (dead, True)
    ]
    assert rounds[1]["missing"] == []
    assert requests_taken(federation, "node-1", "train", 2) == 2, "it was to be asked again"
    lost = reference.lost_users(
        federation, "killed", tmp_path, ml_100k, {2: [0]}, settings, nodes=3
    )
    assert lost == 0


@pytest.mark.long
def test_a_frozen_node_is_missing_after_the_time_set_and_used_again_when_thawed(
    federation: Federation,
) -> None:
    """Its process lives and its connection stands, so that only the time limit helps.

    Flower gives a node up a minute after its last heartbeat. It is frozen just after one, and no
    round begins in the quarter of a minute before: what it was asked it has answered, and the time
    limit of the round it is missing in ends before Flower gives it up, however long a round takes
    on a busy machine. There that limit is short for the others too: what is asked of them is that
    the rounds go on.
    """
    number = 7
    run = federation.submit(
        name="frozen", expected_nodes=3, reply_timeout_seconds=40.0, min_reply_fraction=0.3,
        num_server_rounds=number, evaluate_every=number, checkpoint_every=number,
    )  # fmt: skip
    federation.completes_round("frozen", 1)
    frozen = federation.node_id(2)

    def rounds_without_it() -> list[dict[str, Any]]:
        return [each for each in federation.rounds("frozen") if frozen in each["missing"]]

    federation.sleep_until_heartbeat(2, before=15.0)
    with federation.frozen_server_app():
        federation.wait_for_heartbeat(2)
        federation.freeze("node-2")
    wait_for("a round without it", rounds_without_it, 240)
    federation.thaw("node-2")
    federation.completes(run, 400)
    assert all(each["replies"] >= 1 for each in rounds_without_it())
    *rounds, _, test = federation.history("frozen")
    assert [each["round"] for each in rounds] == list(range(1, number + 1))
    assert [each["rejected"] for each in rounds] == [[]] * number
    assert (rounds[-1]["sent"], rounds[-1]["replies"]) == (3, 3), "it was to be asked again"
    assert (test["kind"], test["sent"], test["replies"]) == ("test", 3, 3)
