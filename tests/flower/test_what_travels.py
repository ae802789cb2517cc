"""Scope on the wire: no private value in any message, unchosen experts untouched."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from flwr.common.serde import recorddict_from_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from client_app import learners
from client_app.learners.cohort import CohortLearner
from client_app.learners.serial import SerialLearner
from client_app.private_store import PrivateStore
from mrff.wire import replies
from mrff.wire.records import arrays_in
from mrff.wire.requests import BESIDE
from mrff_model.scopes import expert_of, has_expert, scope_of
from server_app.run.history import read_history
from tests.support.federation import run_federation, shared_arrays
from tests.support.stored import stored_versions


@pytest.mark.parametrize("learner", [SerialLearner, CohortLearner])
def test_no_private_value_is_in_the_bytes_of_any_message(
    small_data: Path, tmp_path: Path, learner: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "DEFAULT", learner)
    grid = run_federation(
        small_data, tmp_path, nodes=15, name="watched", record=True,
        sampling_rate=1.0, private_learning_rate=0.5,
    )  # fmt: skip
    travelled = b"".join(grid.requests + grid.replies)
    assert len(grid.replies) == 15 * (3 + 2)  # three rounds, validation and test

    private, checked = [], 0
    for stored in stored_versions(tmp_path / "state" / "watched"):
        for name, values in stored.items():
            assert name.encode() not in travelled
            for user in values.reshape(len(values), -1).astype(np.float32):
                if np.count_nonzero(user) < 2:
                    continue  # as it started: zero for every user
                pairs = [pair for pair in pairwise(user) if all(pair)]
                assert pairs or user.tobytes() not in travelled
                private += pairs  # four bytes may occur by chance
                checked += 1
    assert not is_in(travelled, np.array(private, dtype=np.float32))
    assert checked > 15


def is_in(data: bytes, pairs: np.ndarray) -> bool:
    """Whether the eight bytes of one of these pairs (P, 2) of float32 are anywhere in ``data``."""
    wanted = np.unique(pairs.view(np.uint64))
    for place in range(8):
        here = np.frombuffer(data, np.uint64, (len(data) - place) // 8, place)
        near = np.minimum(np.searchsorted(wanted, here), len(wanted) - 1)
        if (wanted[near] == here).any():
            return True
    return False


def test_a_pair_is_found_at_any_place() -> None:
    pair, other = np.float32([[1.5, -2.25]]), np.float32([[-2.25, 1.5]])
    for before in range(9):
        data = b"x" * before + pair.tobytes() + b"y" * 3
        assert is_in(data, pair)
        assert is_in(data, np.concatenate([other, pair]))
        assert not is_in(data, other)


def test_messages_hold_shared_names_and_known_numbers_only(
    small_data: Path, tmp_path: Path
) -> None:
    grid = run_federation(small_data, tmp_path, nodes=5, name="named", record=True)
    for data in grid.requests + grid.replies:
        content = recorddict_from_proto(ProtoRecordDict.FromString(data))
        for record in content.array_records:
            assert record in ("public", "group", "updates")
            for name in arrays_in(content, record):
                if record == "group" or (record == "updates" and has_expert(name)):
                    expert_of(name)
                else:
                    assert scope_of(name) == "public"
    for data in grid.replies:
        numbers = recorddict_from_proto(ProtoRecordDict.FromString(data)).metric_records["numbers"]
        assert {name.removeprefix(BESIDE) for name in numbers} <= {
            "round", "users", "targets", "weight", "expert_weight", "expert_users", "loss",
            "changed", "compared", "dropped", "log_loss_sum", "positives", "negatives",
            "gauc_sum", "gauc_users", "skipped",
        }  # fmt: skip


def test_the_check_would_notice_a_leak(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that slips a private array into its upload is found by the test above."""
    honest = replies.packed_record

    def leaking(arrays):  # type: ignore[no-untyped-def]
        (folder,) = {Path(s) for s in _open_stores}
        found = stored_versions(folder)
        stolen = found[0]["user_embedding"] if found else np.zeros(3, np.float32)
        if "head.up.bias" in arrays:
            shape = arrays["head.up.bias"].shape
            arrays = {**arrays, "head.up.bias": np.resize(stolen, shape)}
        return honest(arrays)

    _open_stores: set[str] = set()
    original = PrivateStore.save

    def noting(self, *arguments, **keywords):  # type: ignore[no-untyped-def]
        _open_stores.add(str(self.folder))
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(PrivateStore, "save", noting)
    monkeypatch.setattr(replies, "packed_record", leaking)
    grid = run_federation(
        small_data, tmp_path, nodes=1, name="leaky", record=True, sampling_rate=1.0,
        private_learning_rate=0.5, evaluate_every=1,
    )  # fmt: skip
    travelled = b"".join(grid.replies)
    (stored,) = stored_versions(tmp_path / "state" / "leaky" / "node-0-of-1")
    assert any(user.tobytes() in travelled for user in stored["user_embedding"].astype(np.float32))


@pytest.mark.parametrize("pooling", [0.0, 0.5])
def test_an_expert_nobody_chose_stays_bit_identical_unless_experts_are_pooled(
    small_data: Path, tmp_path: Path, pooling: float
) -> None:
    for rounds in (1, 2):
        run_federation(
            small_data, tmp_path, nodes=3, name=f"after-{rounds}", num_server_rounds=rounds,
            num_experts=12, balance_loss_weight=0.0, sampling_rate=0.2, evaluate_every=1,
            expert_pooling=pooling,
        )  # fmt: skip
    lines = read_history(tmp_path / "runs" / "after-2" / "history.jsonl")
    loads = next(line for line in lines if line.get("round") == 2 and "loads" in line)["loads"]
    before, after = shared_arrays(tmp_path, "after-1"), shared_arrays(tmp_path, "after-2")
    chosen = {(layer, k) for layer, row in enumerate(loads) for k, load in enumerate(row) if load}
    idle = [name for name in before if ".experts." in name and expert_of(name) not in chosen]
    busy = [name for name in before if ".experts." in name and expert_of(name) in chosen]
    assert idle
    assert busy
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert {name for name in busy if name.endswith("weight")} <= moved
    if pooling:  # it follows the experts that somebody chose
        assert {name for name in idle if name.endswith("weight")} <= moved
    else:
        assert not moved & set(idle)
