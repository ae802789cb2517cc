"""A node in secure sums, message by message: every one may come to a new process, or twice."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from mrff.config import ConfigError, RunConfig, full_names
from mrff.ops.keys import make_keys
from mrff.wire.aggregation.base import NodeSide
from mrff.wire.aggregation.secure.client import SecureClient
from mrff.wire.aggregation.secure.messages import (
    RECORD,
    StageRequest,
    block_of,
    contents_of,
    vectors_of,
)
from mrff.wire.aggregation.secure.opening import Opening
from mrff.wire.aggregation.secure.primitives import SecureError
from mrff.wire.aggregation.secure.session import Bundle, Party, Session
from mrff.wire.aggregation.secure.shares import Identity, Secrets
from mrff.wire.aggregation.secure.state import SESSIONS
from mrff.wire.records import packed_record
from mrff.wire.replies import Reply
from tests.support.secure_sums import layout, sums_of, total_of

MODEL = {"a": np.ones(3, np.float32)}


class Server:
    """The honest stages, one by one; tests call their nodes with something else in between."""

    def __init__(self, folder: Path, nodes: int = 3, **pins: Any) -> None:
        self.folder, self.pins = folder, pins
        self.names = [f"node-{place}" for place in range(nodes)]
        self.worked: list[str] = []

    def node(self, name: str) -> SecureClient:
        """A new process."""
        place = name.removeprefix("node-")
        settings = {"partition-id": int(place), "num-partitions": len(self.names), **self.pins}
        config = RunConfig.from_flat(full_names({"secure-aggregation": True}))
        side = NodeSide(config, settings, self.folder / "t" / name, self.folder)
        return SecureClient(side)

    def begin(self, session: Session, names: list[str] | None = None) -> Opening:
        """Stages 1 and 2 of these nodes."""
        names = names or self.names
        asked = content(StageRequest(session))
        bundles = [Bundle.unpacked(block_of(self.node(n).keys(asked)).decode()) for n in names]
        opening = Opening(Party.of(session, bundles, 0.6, 0), layout())
        everybody = content(StageRequest(session, bundles=[b.packed() for b in bundles]))
        for name in names:
            opening.take_shares(name, contents_of(block_of(self.node(name).shares(everybody))))
        return opening

    def masked(self, opening: Opening, name: str, model: dict[str, Any] | None = None) -> bytes:
        """Stage 3 of a node; a model other than `MODEL` asks something else."""
        shares = opening.shares_for(name)
        asked = StageRequest(opening.party.session, layout=layout().packed(), contents=shares)
        request = content(asked, model or MODEL)

        def work(_honest: int) -> Reply:
            self.worked.append(name)
            return Reply(1, sums_of(int(name.removeprefix("node-"))))

        return block_of(self.node(name).submit(request, work))

    def unmask(self, opening: Opening, names: list[str] | None = None) -> None:
        """Stages 4 and 5 of these nodes."""
        survivors = sorted(opening.survivors)
        asked = content(StageRequest(opening.party.session, survivors=survivors))
        signed = {n: block_of(self.node(n).unmask(asked)) for n in names or survivors}
        asked = content(StageRequest(opening.party.session, survivors=survivors, contents=signed))
        for name in signed:
            opening.take_opened(name, contents_of(block_of(self.node(name).unmask(asked))))

    def whole(self, session: Session, names: list[str], model: dict[str, Any] | None = None) -> Any:
        """One sum over these nodes."""
        opening = self.begin(session, names)
        for name in names:
            opening.add(name, vectors_of(self.masked(opening, name, model)))
        self.unmask(opening)
        return opening.layout.decoded(opening.opened(), len(names))


def content(asked: StageRequest, model: dict[str, Any] | None = None) -> RecordDict:
    records = {"run": ConfigRecord({"training_id": "t"}), RECORD: asked.record()}
    if model is None:
        return RecordDict(records)
    facts = ConfigRecord({"round": asked.session.round, "part": "valid"})
    return RecordDict({**records, "public": packed_record(model), "round": facts})


def session(attempt: int = 1, *, phase: str = "evaluate", number: int = 1) -> Session:
    return Session("t", phase, number, attempt)


def test_a_sum_of_nodes_that_begin_anew_with_every_message(tmp_path: Path) -> None:
    found = Server(tmp_path).whole(session(), ["node-0", "node-1", "node-2"])
    wanted = total_of(range(3))
    assert found.numbers["users"] == wanted.numbers["users"]
    np.testing.assert_allclose(found.updates["a"], wanted.updates["a"], atol=1e-5)


def test_the_same_question_gets_the_stored_bytes_and_nothing_is_computed_twice(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path)
    opening = server.begin(session())
    assert server.masked(opening, "node-0") == server.masked(opening, "node-0")
    assert server.worked == ["node-0"]


@pytest.mark.parametrize("attack", ["another model", "other shares", "another layout"])
def test_a_replayed_round_with_another_question_gets_no_second_vector_under_one_mask(
    tmp_path: Path, attack: str
) -> None:
    server = Server(tmp_path)
    opening = server.begin(session())
    server.masked(opening, "node-0")
    shares = opening.shares_for("node-0")
    model, text = MODEL, layout().packed()
    if attack == "another model":
        model = {"a": np.zeros(3, np.float32)}
    elif attack == "other shares":
        shares.pop("node-1")
    else:
        text = layout(value_bits=10).packed()
    asked = StageRequest(opening.party.session, layout=text, contents=shares)
    with pytest.raises(SecureError, match="another question in stage 'masked'"):
        server.node("node-0").submit(content(asked, model), lambda _: Reply(1, sums_of(5)))


def test_a_session_that_is_replayed_after_its_end_has_other_masks(tmp_path: Path) -> None:
    """The two vectors differ everywhere: their difference tells nothing."""
    server, found = Server(tmp_path), []
    for _ in range(2):
        opening = server.begin(session())
        found.append(vectors_of(server.masked(opening, "node-0")).arrays)
        server.begin(session(attempt=2))  # the node forgets the session
    assert (found[0] != found[1]).mean() > 0.9


def test_keys_of_a_session_under_way_do_not_change(tmp_path: Path) -> None:
    server = Server(tmp_path)
    asked = content(StageRequest(session()))
    assert block_of(server.node("node-0").keys(asked)) == block_of(
        server.node("node-0").keys(asked)
    )


def test_a_second_list_of_survivors_is_refused(tmp_path: Path) -> None:
    """Node 0 signs the list of all, then is shown one that lacks node 2."""
    server = Server(tmp_path)
    opening = server.begin(session())
    for name in server.names:
        opening.add(name, vectors_of(server.masked(opening, name)))
    full = content(StageRequest(opening.party.session, survivors=server.names))
    less = content(StageRequest(opening.party.session, survivors=server.names[:2]))
    server.node("node-0").unmask(full)
    with pytest.raises(SecureError, match="another question in stage 'sign'"):
        server.node("node-0").unmask(less)
    # The list without node 2, signed by two who were shown only that one.
    signed = {"node-0": bytes(64), "node-1": block_of(server.node("node-1").unmask(less))}
    asked = StageRequest(opening.party.session, survivors=server.names[:2], contents=signed)
    with pytest.raises(SecureError, match="another question in stage 'sign'"):
        server.node("node-0").unmask(content(asked))
    with pytest.raises(SecureError, match="1 nodes have signed this list"):
        server.node("node-1").unmask(content(asked))


def test_nothing_is_opened_before_the_list_was_signed(tmp_path: Path) -> None:
    server = Server(tmp_path)
    opening = server.begin(session())
    for name in server.names:
        server.masked(opening, name)
    asked = StageRequest(
        opening.party.session, survivors=server.names, contents={"node-0": bytes(64)}
    )
    with pytest.raises(SecureError, match="has signed no list"):
        server.node("node-0").unmask(content(asked))


def test_the_same_question_is_not_opened_for_other_nodes(tmp_path: Path) -> None:
    """A server that asks three, then two of them, would learn the third one's sums."""
    server = Server(tmp_path)
    server.whole(session(1), server.names)
    server.whole(session(2), server.names)  # the same again tells nothing new
    with pytest.raises(SecureError, match="opened the same question for other nodes"):
        server.whole(session(3, number=2), server.names[:2])
    server.whole(session(4, number=2), server.names[:2], {"a": np.zeros(3, np.float32)})


def test_a_failed_attempt_that_was_never_opened_may_be_made_again_without_a_node(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path)
    opening = server.begin(session(1))
    server.masked(opening, "node-0")
    found = server.whole(session(2), server.names[:2])
    assert found.numbers["users"] == total_of(range(2)).numbers["users"]


def test_a_node_opens_only_so_many_evaluations_in_a_round(tmp_path: Path) -> None:
    server = Server(tmp_path, **{"secure-sums-per-round": 2})
    for number in range(2):
        server.whole(session(number), server.names, {"a": np.full(3, number, np.float32)})
    with pytest.raises(SecureError, match="opens 2 sums of 'evaluate' in a round"):
        server.whole(session(9), server.names, {"a": np.full(3, 9, np.float32)})


def test_a_node_insists_on_its_least_number_of_nodes(tmp_path: Path) -> None:
    with pytest.raises(SecureError, match=r"3 nodes take part .* wants secure-min-nodes=4"):
        Server(tmp_path, **{"secure-min-nodes": 4}).begin(session())


def test_secrets_are_gone_when_a_sum_is_opened(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.whole(session(), server.names)
    for name in server.names:
        with sqlite3.connect(tmp_path / "t" / name / SESSIONS) as database:
            assert database.execute("SELECT COUNT(*) FROM secrets").fetchone() == (0,)
    again = StageRequest(session(), bundles=["whatever"])
    with pytest.raises(SecureError, match="another question in stage 'shares'"):
        server.node("node-0").shares(content(again))
    server.begin(session(2))
    with pytest.raises(SecureError, match="knows nothing of this sum"):
        server.node("node-0").shares(content(again))


def test_an_answer_is_on_the_disk_before_it_leaves(tmp_path: Path) -> None:
    """A process that is killed after any statement gives the same bytes, or never gave any."""
    server = Server(tmp_path)
    opening = server.begin(session())
    sent = server.masked(opening, "node-0")
    with sqlite3.connect(tmp_path / "t" / "node-0" / SESSIONS) as database:
        query = "SELECT answer FROM answers WHERE stage = 'masked'"
        assert bytes(database.execute(query).fetchone()[0]) == sent


def test_a_request_without_stages_leaves_nothing(tmp_path: Path) -> None:
    plain = RecordDict({"public": packed_record(MODEL)})
    with pytest.raises(SecureError, match="nothing leaves without masks"):
        Server(tmp_path).node("node-0").submit(plain, lambda _: Reply(1, sums_of(0)))


def deployed(tmp_path: Path, **settings: Any) -> SecureClient:
    config = RunConfig.from_flat(full_names({"secure-aggregation": True}))
    return SecureClient(NodeSide(config, {"data-dir": "d", **settings}, tmp_path, tmp_path))


def test_a_deployed_node_without_key_or_roster_is_refused_in_one_line(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", nodes=2)
    key = str(tmp_path / "keys/node-0/secure.key")
    roster = tmp_path / "keys/node-0/secure-roster.json"
    for settings in ({}, {"secure-key": key}, {"secure-roster": str(roster)}):
        with pytest.raises(ConfigError, match="make them with mrff deploy keys") as caught:
            deployed(tmp_path, **settings)
        assert "\n" not in str(caught.value)
    deployed(tmp_path, **{"secure-key": key, "secure-roster": str(roster)})


@pytest.mark.parametrize("roster", ["", "[]", "{}", '{"node-0": "AA=="}', "stranger", "twice"])
def test_a_foreign_stale_or_broken_roster_is_refused_in_one_line(
    tmp_path: Path, roster: str
) -> None:
    make_keys(tmp_path / "keys", nodes=1)
    path, key = tmp_path / "roster.json", tmp_path / "keys/node-0/secure.key"
    good = json.loads((tmp_path / "keys/node-0/secure-roster.json").read_text())
    texts = {
        "stranger": json.dumps({"node-0": b64encode(bytes(32)).decode()}),
        "twice": json.dumps({**good, "node-1": good["node-0"]}),
    }
    path.write_text(texts.get(roster, roster))
    with pytest.raises(ConfigError, match="this node's secure-") as caught:
        deployed(tmp_path, **{"secure-key": str(key), "secure-roster": str(path)})
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value), "the reason leaves the node, its paths do not"


def test_a_key_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", nodes=1)
    roster = str(tmp_path / "keys/node-0/secure-roster.json")
    for path in (tmp_path / "missing", tmp_path / "keys/node-0/server.key"):
        with pytest.raises(ConfigError, match="secure-key") as caught:
            deployed(tmp_path, **{"secure-key": str(path), "secure-roster": roster})
        assert str(tmp_path) not in str(caught.value)


def test_a_bundle_with_wrong_lengths_is_refused() -> None:
    good = Secrets(Identity.fresh("n"), session()).bundle()
    with pytest.raises(SecureError, match="wrong lengths"):
        Bundle.unpacked(replace(good, nonce=b"short").packed())
    with pytest.raises(SecureError, match="cannot be read"):
        Bundle.unpacked("not a bundle")
