"""A server that cheats in a secure run, against nodes with keys and a roster: nothing is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from client_app.app import app
from mrff.config import RunConfig
from mrff.ops.keys import make_keys
from mrff.wire.aggregation import RoundFailedError
from mrff.wire.aggregation.secure.messages import (
    KEYS,
    RECORD,
    SHARES,
    UNMASK,
    StageRequest,
    block_of,
    block_record,
    vectors_of,
)
from mrff.wire.aggregation.secure.session import Bundle, Session
from mrff.wire.aggregation.secure.shares import Identity, Secrets
from mrff.wire.aggregation.secure.state import OPENED
from mrff.wire.requests import RunFacts
from tests.support.federation import run_federation
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid

NODES = 4
Change = Callable[[StageRequest, int], StageRequest]


def hostile(keys: Path, stage: str, change: Change) -> type[LocalGrid]:
    """What the server asks in ``stage`` is changed for each node (0, 1, ...) on its way."""

    class Hostile(LocalGrid):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            for place, context in enumerate(self._contexts.values()):
                folder = keys / f"node-{place}"
                context.node_config["secure-key"] = str(folder / "secure.key")
                context.node_config["secure-roster"] = str(folder / "secure-roster.json")

        def _answer(self, message: Message) -> Message:
            if message.metadata.message_type == stage:
                place = message.metadata.dst_node_id - FIRST_NODE_ID
                asked = change(StageRequest.read(message.content), place)
                message.content[RECORD] = asked.record()
            return super()._answer(message)

    return Hostile


def run(data: Path, home: Path, grid: type[LocalGrid]) -> LocalGrid:
    return run_federation(
        data, home, nodes=NODES, name="s", secure_aggregation=True, secure_colluders=1,
        num_server_rounds=1, evaluate_every=1, grid_type=grid, record=True,
    )  # fmt: skip


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", nodes=NODES)
    return tmp_path / "keys"


def test_with_an_honest_server_the_same_nodes_finish(
    small_data: Path, tmp_path: Path, keys: Path
) -> None:
    run(small_data, tmp_path, hostile(keys, "nothing", lambda asked, place: asked))
    assert (tmp_path / "runs/s/summary.json").exists()
    assert list((tmp_path / "state").rglob(OPENED))


def with_own_keys(asked: StageRequest, place: int) -> StageRequest:
    """The server stands between all nodes: each one's keys are its own, signed by its own."""
    shown = []
    for number, text in enumerate(asked.bundles):
        bundle = Bundle.unpacked(text)
        own = Secrets(Identity.fresh(bundle.name), asked.session).bundle()
        shown.append(text if number == place else own.packed())
    return replace(asked, bundles=shown)


def with_one_swapped_key(asked: StageRequest, place: int) -> StageRequest:
    """One node's key of masks is another's: the signature no longer fits."""
    first, second = (Bundle.unpacked(text) for text in asked.bundles[:2])
    swapped = replace(first, mask_key=second.mask_key).packed()
    return replace(asked, bundles=[swapped, *asked.bundles[1:]])


def of_fewer_nodes(asked: StageRequest, place: int) -> StageRequest:
    """Every node is told of itself and one other only."""
    other = (place + 1) % NODES
    return replace(asked, bundles=[asked.bundles[place], asked.bundles[other]])


def of_another_round(asked: StageRequest, place: int) -> StageRequest:
    return replace(asked, session=Session("other", "train", 7, 7))


def without_senders(asked: StageRequest, place: int) -> StageRequest:
    """Masks with nobody: what is left is the node's own."""
    return replace(asked, contents={})


def with_other_shares(asked: StageRequest, place: int) -> StageRequest:
    """One share is changed by a bit."""
    name = min(asked.contents)
    content = asked.contents[name]
    return replace(
        asked, contents={**asked.contents, name: content[:-1] + bytes([content[-1] ^ 1])}
    )


def of_two_lists(asked: StageRequest, place: int) -> StageRequest:
    """Nodes 0 and 1 hear that node 3's vector came, nodes 2 and 3 that node 0's did not."""
    missing = "node-3" if place < 2 else "node-0"
    return replace(asked, survivors=[name for name in asked.survivors if name != missing])


def of_few(asked: StageRequest, place: int) -> StageRequest:
    return replace(asked, survivors=[f"node-{place}"])


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        (SHARES, with_own_keys), (SHARES, with_one_swapped_key), (SHARES, of_fewer_nodes),
        (SHARES, of_another_round), ("train", of_another_round), ("train", without_senders),
        ("train", with_other_shares), (UNMASK, of_two_lists), (UNMASK, of_few),
        (UNMASK, of_another_round),
    ],
)  # fmt: skip
def test_a_server_that_cheats_gets_an_error_and_no_sum(
    small_data: Path, tmp_path: Path, keys: Path, stage: str, change: Change
) -> None:
    with pytest.raises(RoundFailedError, match="nothing was opened") as caught:
        run(small_data, tmp_path, hostile(keys, stage, change))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "state").rglob(OPENED)), "no node has given what opens a sum"
    assert (tmp_path / "runs/s/checkpoint").exists(), "the run can be taken up again"


def test_a_server_that_asks_for_every_vector_twice_gets_the_same_bytes(
    small_data: Path, tmp_path: Path, keys: Path
) -> None:
    """And nothing is trained, charged or masked a second time."""

    class Twice(hostile(keys, "nothing", lambda asked, place: asked)):  # type: ignore[misc]
        def _answer(self, message: Message) -> Message:
            first = super()._answer(message)
            second = super()._answer(message)
            assert first.has_content() == second.has_content()
            if first.has_content():
                assert block_of(first.content) == block_of(second.content)
            return second

    run(small_data, tmp_path, Twice)
    assert (tmp_path / "runs/s/summary.json").exists()


def test_a_node_whose_key_is_stale_is_named_in_one_line_and_nothing_is_opened(
    small_data: Path, tmp_path: Path, keys: Path
) -> None:
    """Node 3 has a new key and says so to itself; the others' rosters have its old one."""
    (keys / "node-3/secure.key").unlink()
    old = {node: (keys / node / "secure-roster.json").read_text() for node in ("node-0", "node-1")}
    make_keys(keys, nodes=NODES)
    for node, roster in old.items():
        assert roster != (keys / node / "secure-roster.json").read_text(), "a new key was made"
        (keys / node / "secure-roster.json").write_text(roster)
    with pytest.raises(RoundFailedError, match="keys shown for node 'node-3' are not") as caught:
        run(small_data, tmp_path, hostile(keys, "nothing", lambda asked, place: asked))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "state").rglob(OPENED))


def test_an_unmasked_reply_is_rejected_and_the_others_go_on(
    small_data: Path, tmp_path: Path, keys: Path
) -> None:
    """A node that does not mask (or sends anything else) is left out like one that is gone."""

    class Unmasked(hostile(keys, "nothing", lambda asked, place: asked)):  # type: ignore[misc]
        def _answer(self, message: Message) -> Message:
            reply = super()._answer(message)
            about = message.metadata
            if about.message_type == "train" and about.dst_node_id == FIRST_NODE_ID:
                vectors = vectors_of(block_of(reply.content))
                short = np.zeros(len(vectors.arrays) - 1, vectors.arrays.dtype)
                reply.content = block_record(short.tobytes())
            return reply

    run(small_data, tmp_path, Unmasked)
    assert (tmp_path / "runs/s/summary.json").exists()


def test_stages_of_a_run_without_secure_sums_are_refused(small_data: Path, tmp_path: Path) -> None:
    facts = RunFacts("", "t", str(small_data), str(tmp_path))
    content = StageRequest(Session("t", "train", 1, 1)).record()
    message = Message(RecordDict({"run": facts.record(), RECORD: content}), FIRST_NODE_ID, KEYS)
    grid = LocalGrid(app, 1, RunConfig.from_flat({}).to_flat())
    (reply,) = grid.send_and_receive([message])
    assert reply.has_error()
    assert "there are no secure sums" in reply.error.reason
