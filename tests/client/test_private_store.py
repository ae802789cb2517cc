"""The private store as a specification: versions, epochs, what is kept, crashes and damage."""

from __future__ import annotations

import itertools
import os
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_app import private_store
from client_app.private_store import SEGMENT_USERS, PrivateStore, PrivateStoreError

INITIAL = {"user_bias": torch.zeros(1), "net": torch.zeros(1, 2, 3)}


def keys(*users: int) -> np.ndarray:
    return np.array(users, dtype=np.uint64) * np.uint64(2**61 + 12345)


def version(value: float, count: int = 1) -> dict[str, torch.Tensor]:
    return {"user_bias": torch.full((count,), value), "net": torch.full((count, 2, 3), value)}


def save(
    store: PrivateStore, number: int, *users: int, value: float | None = None,
    checkpoint: int = 0, best: int = 0,
) -> None:  # fmt: skip
    content = version(float(number) if value is None else value, len(users))
    routes = np.full((len(users), 2), number)
    store.save(
        keys(*users), content, routes,
        round_number=number, checkpoint_round=checkpoint, best_round=best,
    )  # fmt: skip


def load(store: PrivateStore, *users: int, up_to: int = 99) -> list[float]:
    found, _ = store.load(keys(*users), up_to_round=up_to, initial=INITIAL, num_layers=2)
    assert (found["net"][:, 0, 0] == found["user_bias"]).all()
    return found["user_bias"].tolist()


def test_a_new_user_has_the_initial_parameters_and_no_routes(tmp_path: Path) -> None:
    store = PrivateStore(tmp_path / "store")
    found, routes = store.load(keys(1, 2), up_to_round=5, initial=INITIAL, num_layers=2)
    assert found["net"].shape == (2, 2, 3)
    assert (found["net"] == 0).all()
    assert (routes == -1).all()
    assert not (tmp_path / "store").exists()  # reading writes nothing


def test_the_newest_version_up_to_a_round_is_found_whatever_the_order_of_users(
    tmp_path: Path,
) -> None:
    store = PrivateStore(tmp_path)
    save(store, 1, 1, 2, 3)
    save(store, 2, 3)
    assert load(store, 3, 9, 1) == [2.0, 0.0, 1.0]
    assert load(store, 3, up_to=1) == [1.0]
    assert load(PrivateStore(tmp_path), 2, 3) == [1.0, 2.0]  # after a restart
    _, routes = store.load(keys(3, 9), up_to_round=9, initial=INITIAL, num_layers=2)
    assert routes.tolist() == [[2, 2], [-1, -1]]


def test_a_retried_round_starts_from_the_version_before_it(tmp_path: Path) -> None:
    store = PrivateStore(tmp_path)
    save(store, 1, 1)
    save(store, 2, 1, value=20.0)
    assert load(store, 1, up_to=1) == [1.0]
    save(store, 2, 1, value=20.0)
    assert load(store, 1) == [20.0]
    save(store, 3, 1)
    assert load(store, 1, up_to=2) == [20.0]


def test_best_and_checkpoint_versions_stay_and_others_go(tmp_path: Path) -> None:
    store = PrivateStore(tmp_path)
    for number in range(1, 10):
        save(store, number, 1, 2, checkpoint=number // 4 * 4, best=2 if number > 2 else 0)
    assert load(store, 1, 2, up_to=2) == [2.0, 2.0]  # best
    assert load(store, 1, up_to=8) == [8.0]  # checkpoint, and the round before the newest
    assert load(store, 1, up_to=9) == [9.0]
    assert load(store, 1, up_to=7) == [2.0]  # nobody can ask for 3 to 7 again
    assert len(list(tmp_path.glob("round-*"))) == 3


def test_versions_after_the_checkpoint_a_run_resumed_from_never_happened(tmp_path: Path) -> None:
    store = PrivateStore(tmp_path)
    for number in range(1, 9):
        save(store, number, 1, checkpoint=5 if number > 5 else 0)
    resumed = PrivateStore(tmp_path, epoch_starts=(0, 5))
    assert load(resumed, 1) == [5.0]
    save(resumed, 6, 2, value=60.0, checkpoint=5)
    assert load(resumed, 1, 2) == [5.0, 60.0]
    assert load(resumed, 1, up_to=8) == [5.0]
    again = PrivateStore(tmp_path, epoch_starts=(0, 5, 5))
    assert load(again, 1, 2) == [5.0, 0.0]


def test_more_users_than_a_segment_holds(tmp_path: Path) -> None:
    store, count = PrivateStore(tmp_path), 2 * SEGMENT_USERS + 3
    save(store, 1, *range(1, count + 1))
    assert len(list(tmp_path.glob("round-*"))) == 3
    assert load(store, 1, count, SEGMENT_USERS + 1) == [1.0, 1.0, 1.0]


def test_segments_do_not_pile_up_when_few_users_train_each_round(tmp_path: Path) -> None:
    store, random = PrivateStore(tmp_path), np.random.default_rng(0)
    latest: dict[int, float] = {}
    for number in range(1, 121):
        users = random.choice(np.arange(1, 301), 15, replace=False).tolist()
        save(store, number, *users, checkpoint=number - 1, best=number - 1)
        latest |= dict.fromkeys(users, float(number))
    assert load(store, *latest, up_to=120) == list(latest.values())
    assert len(list(tmp_path.glob("round-*"))) < 60


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.sets(st.integers(1, 5), min_size=1), st.booleans()), max_size=14))
def test_against_a_plain_dictionary(tmp_path: Path, history: list[tuple[set[int], bool]]) -> None:
    """Rounds of random users, with a resumption from the last checkpoint now and then."""
    folder = tmp_path / str(next(_fresh))
    starts, checkpoint, number = [0], 0, 0
    truth: dict[tuple[int, int], float] = {}  # (user, round) -> value
    value = 0.0
    for users, crash in history:
        if crash:
            number, starts = checkpoint, [*starts, checkpoint]
            truth = {at: v for at, v in truth.items() if at[1] <= checkpoint}
        elif number % 3 == 0:
            checkpoint = number
        number, value = number + 1, value + 1.0
        store = PrivateStore(folder, starts)
        save(store, number, *users, value=value, checkpoint=checkpoint)
        truth |= {(user, number): value for user in users}
        for limit in (number, number - 1, checkpoint):
            expected = []
            for user in range(1, 6):
                rounds = [r for u, r in truth if u == user and r <= limit]
                expected.append(truth[user, max(rounds)] if rounds else 0.0)
            assert load(store, *range(1, 6), up_to=limit) == expected


_fresh = itertools.count()


@pytest.mark.parametrize("stage", ["write", "fsync", "rename", "unlink"])
def test_a_crash_at_any_stage_leaves_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    store = PrivateStore(tmp_path)
    save(store, 1, 1, 2)
    save(store, 2, 1, 2, checkpoint=1)

    class PowerCut(BaseException):
        pass

    def cut(*_: object, **__: object) -> None:
        raise PowerCut

    target: tuple[object, str] = {
        "write": (private_store, "save"),
        "fsync": (os, "fsync"),
        "rename": (Path, "rename"),
        "unlink": (Path, "unlink"),
    }[stage]  # type: ignore[assignment]
    with monkeypatch.context() as patch:
        patch.setattr(*target, cut)
        with pytest.raises(PowerCut):
            save(store, 3, 1, 2, checkpoint=2)
    after = PrivateStore(tmp_path)
    assert load(after, 1, 2) in ([2.0, 2.0], [3.0, 3.0])
    assert load(after, 1, 2, up_to=2) == [2.0, 2.0]
    save(after, 3, 1, 2, checkpoint=2)
    assert load(after, 1, 2) == [3.0, 3.0]
    assert not list(tmp_path.glob(".*"))  # the leftover is gone


@pytest.mark.parametrize("length", [0, 1, 9, 200, -1])
def test_a_truncated_segment_is_an_error_that_names_it(tmp_path: Path, length: int) -> None:
    save(PrivateStore(tmp_path), 1, 1)
    (segment,) = tmp_path.glob("round-*")
    data = segment.read_bytes()
    damaged = segment.with_name("round-00000002-x.safetensors")
    damaged.write_bytes(data[:length])
    with pytest.raises(PrivateStoreError, match=r"round-00000002-x.safetensors is damaged"):
        load(PrivateStore(tmp_path), 1)


def flip(store: Path, pattern: bytes) -> None:
    """One bit of the last such bytes in the only segment, which gets another name."""
    (segment,) = store.glob("round-*")
    data = bytearray(segment.read_bytes())
    data[data.rindex(pattern)] ^= 1
    segment.unlink()
    segment.with_name("round-00000001-y.safetensors").write_bytes(bytes(data))


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    save(PrivateStore(tmp_path), 1, 1, value=0.75)
    flip(tmp_path, np.float32(0.75).tobytes())
    with pytest.raises(PrivateStoreError, match="the checksum does not match"):
        load(PrivateStore(tmp_path), 1)


def test_damage_to_one_user_leaves_the_others_readable(tmp_path: Path) -> None:
    content = {"user_bias": torch.tensor([0.75, 0.5]), "net": torch.ones(2, 2, 3)}
    PrivateStore(tmp_path).save(
        keys(1, 2), content, np.zeros((2, 2), dtype=np.int64),
        round_number=1, checkpoint_round=0, best_round=0,
    )  # fmt: skip
    flip(tmp_path, np.float32(0.75).tobytes())
    store = PrivateStore(tmp_path)
    found, _ = store.load(keys(2), up_to_round=1, initial=INITIAL, num_layers=2)
    assert found["user_bias"].tolist() == [0.5]
    with pytest.raises(PrivateStoreError, match=r"y.safetensors is damaged \(the checksum does"):
        load(store, 1)


def test_a_user_whose_key_is_damaged_does_not_start_anew_unnoticed(tmp_path: Path) -> None:
    save(PrivateStore(tmp_path), 1, 1, 2)
    flip(tmp_path, keys(1).tobytes())
    with pytest.raises(PrivateStoreError, match="the checksum does not match"):
        load(PrivateStore(tmp_path), 2)


def segment_of_an_earlier_release(folder: Path, name: str, value: float, *users: int) -> Path:
    tensors = version(value, len(users)) | {
        "user-keys": torch.from_numpy(keys(*users).view(np.int64)),
        "rounds": torch.full((len(users),), 1),
        "epochs": torch.zeros(len(users), dtype=torch.int64),
        "routes": torch.zeros((len(users), 2), dtype=torch.int64),
    }
    digest = blake2b(digest_size=16)
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].numpy().tobytes())
    path = folder / name
    path.write_bytes(safetensors.torch.save(tensors, metadata={"checksum": digest.hexdigest()}))
    return path


def test_segments_of_an_earlier_release_are_read_checked_and_gathered(tmp_path: Path) -> None:
    old = [
        segment_of_an_earlier_release(tmp_path, "round-00000001-a.safetensors", 0.75, 1, 2, 3),
        segment_of_an_earlier_release(tmp_path, "round-00000001-b.safetensors", 0.25, 4, 5, 6),
    ]
    store = PrivateStore(tmp_path)
    assert load(store, 3, 1, 6) == [0.75, 0.75, 0.25]
    for number in range(2, 5):
        save(store, number, 1, 2, 4, 5, checkpoint=number - 1, best=number - 1)
    assert load(store, 1, 2, 3, 4, 6) == [4.0, 4.0, 0.75, 4.0, 0.25]
    assert not any(segment.exists() for segment in old)  # users 3 and 6 have moved

    damaged = tmp_path / "damaged"
    damaged.mkdir()
    segment_of_an_earlier_release(damaged, "round-00000001-a.safetensors", 0.75, 1, 2)
    flip(damaged, np.float32(0.75).tobytes())
    with pytest.raises(PrivateStoreError, match="the checksum does not match"):
        load(PrivateStore(damaged), 1)


def test_a_store_of_another_network_is_refused(tmp_path: Path) -> None:
    save(PrivateStore(tmp_path), 1, 1)
    other = {"user_bias": torch.zeros(1), "net": torch.zeros(1, 2, 4)}
    with pytest.raises(PrivateStoreError, match="belongs to another configuration"):
        PrivateStore(tmp_path).load(keys(1), up_to_round=1, initial=other, num_layers=2)


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PrivateStoreError, match=r"cannot be written: .*; free space or choose"):
        save(PrivateStore(tmp_path / "file" / "store"), 1, 1)
