"""Scope on the wire: no private value in any message, unchosen experts untouched."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.common.serde import recorddict_from_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from safetensors.numpy import load_file

from client_app import totals
from client_app.private_store import PrivateStore
from mrff_model.scopes import expert_of, scope_of
from strategies.replies import arrays_in
from tests.support.federation import run_federation, shared_arrays

STORED_BESIDES = {"user-keys", "rounds", "epochs", "routes", "checksums"}


@pytest.mark.parametrize("trainer", ["serial", "cohort"])
def test_no_private_value_is_in_the_bytes_of_any_message(
    small_data: Path, tmp_path: Path, trainer: str
) -> None:
    grid = run_federation(
        small_data, tmp_path, nodes=15, name="watched", record=True, trainer=trainer,
        sampling_rate=1.0, private_learning_rate=0.5,
    )  # fmt: skip
    travelled = b"".join(grid.requests + grid.replies)
    assert len(grid.replies) == 15 * (3 + 2)  # three rounds, validation and test

    checked = 0
    for segment in (tmp_path / "state" / "watched").rglob("*.safetensors"):
        for name, values in load_file(segment).items():
            if name in STORED_BESIDES:
                continue
            assert name.encode() not in travelled
            for user in values.reshape(len(values), -1).astype(np.float32):
                if np.count_nonzero(user) < 2:
                    continue  # as it started: zero for every user
                assert user.tobytes() not in travelled
                for pair in pairwise(user):  # four bytes may occur by chance
                    assert not all(pair) or np.array(pair).tobytes() not in travelled
                checked += 1
    assert checked > 15


def test_messages_hold_shared_names_and_known_numbers_only(
    small_data: Path, tmp_path: Path
) -> None:
    grid = run_federation(small_data, tmp_path, nodes=5, name="named", record=True)
    for data in grid.requests + grid.replies:
        content = recorddict_from_proto(ProtoRecordDict.FromString(data))
        for record in content.array_records:
            assert record in ("public", "group")
            for name in arrays_in(content, record):
                if record == "public":
                    assert scope_of(name) == "public"
                else:
                    expert_of(name)
    for data in grid.replies:
        metrics = recorddict_from_proto(ProtoRecordDict.FromString(data)).metric_records["metrics"]
        assert set(metrics) <= {
            "round", "num-users", "num-targets", "weight", "expert-weight", "expert-users",
            "loss-sum", "changed-users", "compared-users", "dropped-users", "seconds",
            "log-loss-sum", "positives", "negatives", "gauc-sum", "gauc-users", "skipped-users",
        }  # fmt: skip


def test_the_check_would_notice_a_leak(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that slips a private array into its upload is found by the test above."""
    honest = totals.packed_record

    def leaking(tensors):  # type: ignore[no-untyped-def]
        (folder,) = {Path(s) for s in _open_stores}
        segments = sorted(folder.glob("*.safetensors"))
        stolen = load_file(segments[0])["user_embedding"] if segments else np.zeros(3, np.float32)
        if "head.up.bias" in tensors:
            shape = tensors["head.up.bias"].shape
            tensors = {**tensors, "head.up.bias": torch.from_numpy(np.resize(stolen, shape))}
        return honest(tensors)

    _open_stores: set[str] = set()
    original = PrivateStore.save

    def noting(self, *arguments, **keywords):  # type: ignore[no-untyped-def]
        _open_stores.add(str(self.folder))
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(PrivateStore, "save", noting)
    monkeypatch.setattr(totals, "packed_record", leaking)
    grid = run_federation(
        small_data, tmp_path, nodes=1, name="leaky", record=True, sampling_rate=1.0,
        private_learning_rate=0.5, evaluate_every=1,
    )  # fmt: skip
    travelled = b"".join(grid.replies)
    (segment, *_) = sorted((tmp_path / "state" / "leaky" / "node-0-of-1").glob("*.safetensors"))
    values = load_file(segment)["user_embedding"].astype(np.float32)
    assert any(user.tobytes() in travelled for user in values)


@pytest.mark.parametrize("pooling", [0.0, 0.5])
def test_an_expert_nobody_chose_stays_bit_identical_unless_experts_are_pooled(
    small_data: Path, tmp_path: Path, pooling: float
) -> None:
    for rounds in (1, 2):
        run_federation(
            small_data, tmp_path, nodes=3, name=f"after-{rounds}", num_server_rounds=rounds,
            num_experts=12, balance_weight=0.0, sampling_rate=0.2, evaluate_every=1,
            expert_pooling=pooling,
        )  # fmt: skip
    from server_app.run.history import read_history

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
