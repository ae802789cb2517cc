"""The private store as a specification: versions, epochs, what is kept, crashes and damage."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_app.private_store import FILE, PrivateStore, PrivateStoreError
from mrff.io import sqlite
from tests.support.stored import stored_rounds

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
        round_number=number, keep_up_to=(checkpoint, best),
    )  # fmt: skip


def rows(folder: Path) -> int:
    """How many versions there are, read without the store's own code."""
    return len(stored_rounds(folder))


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
    assert rows(tmp_path) == 2 * 3


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


def test_users_of_earlier_runs_have_what_they_had_there(tmp_path: Path) -> None:
    oldest, older = PrivateStore(tmp_path / "a"), PrivateStore(tmp_path / "b")
    for number in (1, 2):
        save(oldest, number, 1, 2, 3, best=1)
    save(older, 1, 2, value=20.0)
    save(older, 5, 3, value=50.0)
    store = PrivateStore(tmp_path / "c", earlier=[(older, 4), (oldest, 1)])
    assert load(store, 1, 2, 3, 9) == [1.0, 20.0, 1.0, 0.0]  # round 5 of the older one is too late
    save(store, 1, 1, value=7.0)
    assert load(store, 1, 2) == [7.0, 20.0]
    assert load(store, 1, up_to=0) == [1.0]
    other = {"net": torch.zeros(1, 2, 3), "new": torch.full((1, 2), 4.0)}
    found, routes = PrivateStore(tmp_path / "d", earlier=[(older, 4)]).load(
        keys(2, 9), up_to_round=1, initial=other, num_layers=2
    )
    assert found["net"][:, 0, 0].tolist() == [20.0, 0.0]  # what both have
    assert found["new"].tolist() == [[4.0, 4.0], [4.0, 4.0]]
    assert (routes >= 0).all(axis=1).tolist() == [True, False]


def test_versions_do_not_pile_up_when_few_users_train_each_round(tmp_path: Path) -> None:
    store, random = PrivateStore(tmp_path), np.random.default_rng(0)
    latest: dict[int, float] = {}
    for number in range(1, 121):
        users = random.choice(np.arange(1, 301), 15, replace=False).tolist()
        save(store, number, *users, checkpoint=number - 1, best=number - 1)
        latest |= dict.fromkeys(users, float(number))
    assert load(store, *latest, up_to=120) == list(latest.values())
    assert rows(tmp_path) <= 2 * 300


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


def test_a_power_cut_at_any_byte_of_a_commit_leaves_old_or_new(tmp_path: Path) -> None:
    store, live = PrivateStore(tmp_path / "live"), tmp_path / "live"
    save(store, 1, 1, 2)
    save(store, 2, 1, 2, checkpoint=1)
    with closing(sqlite3.connect(live / FILE)) as reader:  # so that the log is not folded in
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM chunks").fetchall()
        save(store, 3, 1, 2, checkpoint=2)
        log = (live / f"{FILE}-wal").read_bytes()
        shutil.copy(live / FILE, tmp_path / "before")
    seen = set()
    for cut in [*range(0, len(log), 4099), len(log) - 1, len(log)]:
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        shutil.copy(tmp_path / "before", folder / FILE)
        (folder / f"{FILE}-wal").write_bytes(log[:cut])
        after = PrivateStore(folder)
        seen.add(tuple(load(after, 1, 2)))
        assert load(after, 1, 2, up_to=2) == [2.0, 2.0]
        save(after, 3, 1, 2, checkpoint=2)
        assert load(after, 1, 2) == [3.0, 3.0]
    assert seen == {(2.0, 2.0), (3.0, 3.0)}


@pytest.mark.parametrize(
    ("local", "place"),
    [
        (True, "INSERT OR REPLACE INTO contents"),
        (True, "COMMIT"),
        (False, "INSERT OR REPLACE INTO contents"),
        (True, "INSERT OR REPLACE INTO about"),
    ],
)
def test_a_process_killed_in_the_middle_of_a_save_leaves_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool, place: str
) -> None:
    """With either journal; 400 users of 40 KB do not fit SQLite's cache: pages are on the disk."""
    monkeypatch.setattr(sqlite, "not_local", lambda _: not local)
    users = tuple(range(1, 401))
    initial = {"user_bias": torch.zeros(1), "net": torch.zeros(1, 100, 100)}
    program = f"""
        import os, signal, sys
        import numpy as np, torch
        from pathlib import Path
        from client_app import private_store
        from mrff.io import sqlite

        def stop(statement):
            if statement.startswith({place!r}):
                stop.seen += 1
                if stop.seen == (40 if "contents" in {place!r} else 1):
                    os.kill(os.getpid(), signal.SIGKILL)
        stop.seen = 0
        connect = sqlite._connect
        sqlite.not_local = lambda _: {not local}

        def traced(path):
            connection = connect(path)
            connection.set_trace_callback(stop)
            return connection

        keys = np.arange(1, 401, dtype=np.uint64) * np.uint64(2**61 + 12345)
        for number in (1, 2, 3):
            if number == 3:
                sqlite._connect = traced
            values = {{
                "user_bias": torch.full((400,), float(number)),
                "net": torch.full((400, 100, 100), float(number)),
            }}
            # The third save is a retry of the second round: it forgets and adds.
            private_store.PrivateStore(Path(sys.argv[1])).save(
                keys, values, np.zeros((400, 2), dtype=np.int64), round_number=min(number, 2),
                keep_up_to=[1],
            )
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], check=False
    )
    assert done.returncode == -9
    store = PrivateStore(tmp_path)
    found, _ = store.load(keys(*users), up_to_round=9, initial=initial, num_layers=2)
    assert (found["user_bias"] == 2.0).all()
    assert (found["net"] == 2.0).all()
    before, _ = store.load(keys(*users), up_to_round=1, initial=initial, num_layers=2)
    assert (before["net"] == 1.0).all()
    content = {name: value.repeat(400, *[1] * (value.dim() - 1)) for name, value in initial.items()}
    store.save(
        keys(*users), content, np.zeros((400, 2), dtype=np.int64),
        round_number=3, keep_up_to=(2, 1),
    )  # fmt: skip
    assert rows(tmp_path) == 400 * 3
    assert {path.name for path in tmp_path.iterdir()} == {FILE, f"{FILE}.lock"}


def test_a_save_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PrivateStore(tmp_path)
    save(store, 1, 1, 2)
    connect = sqlite._connect

    def full(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_connect", full)
        with pytest.raises(PrivateStoreError, match=r"cannot be written: database or disk is full"):
            save(store, 2, *range(1, 2000))
    assert load(PrivateStore(tmp_path), 1, 2) == [1.0, 1.0]
    save(store, 2, 1, 2)
    assert load(store, 1, 2) == [2.0, 2.0]


def test_messages_that_overlap_wait_for_each_other(tmp_path: Path) -> None:
    """A retried message may come while the first one is still worked on."""

    def work(number: int) -> None:
        for user in range(1, 6):
            save(PrivateStore(tmp_path), 1 + number // 4, user, 10 + number)

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(work, range(8)))
    assert load(PrivateStore(tmp_path), *range(1, 6)) == [2.0] * 5
    assert load(PrivateStore(tmp_path), *range(10, 18)) == [1.0] * 4 + [2.0] * 4
    assert load(PrivateStore(tmp_path), *range(1, 6), up_to=1) == [1.0] * 5


@pytest.mark.parametrize("length", [0, 1, 9, 200, 40_000, -1])
def test_a_truncated_store_is_an_error_that_names_it(tmp_path: Path, length: int) -> None:
    save(PrivateStore(tmp_path), 1, 1)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:length])
    for do in (load, lambda store, user: save(store, 2, user)):
        with pytest.raises(PrivateStoreError, match=r"private.sqlite is damaged"):
            do(PrivateStore(tmp_path), 1)


def flip(store: Path, pattern: bytes) -> None:
    """One bit of the last such bytes in the database."""
    file = store / FILE
    data = bytearray(file.read_bytes())
    data[data.rindex(pattern)] ^= 1
    file.write_bytes(bytes(data))


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    save(PrivateStore(tmp_path), 1, 1, value=0.75)
    flip(tmp_path, np.float32(0.75).tobytes())
    with pytest.raises(PrivateStoreError, match="the checksum does not match"):
        load(PrivateStore(tmp_path), 1)


def test_damage_to_one_user_leaves_the_others_readable(tmp_path: Path) -> None:
    content = {"user_bias": torch.tensor([0.75, 0.5]), "net": torch.ones(2, 2, 3)}
    PrivateStore(tmp_path).save(
        keys(1, 2), content, np.zeros((2, 2), dtype=np.int64),
        round_number=1, keep_up_to=(),
    )  # fmt: skip
    flip(tmp_path, np.float32(0.75).tobytes())
    store = PrivateStore(tmp_path)
    found, _ = store.load(keys(2), up_to_round=1, initial=INITIAL, num_layers=2)
    assert found["user_bias"].tolist() == [0.5]
    with pytest.raises(PrivateStoreError, match=r"private.sqlite is damaged \(the checksum does"):
        load(store, 1)


@pytest.mark.parametrize("column", [0, 8, 12])  # of the user, the epoch, the round
def test_a_version_whose_key_is_damaged_is_not_passed_over_unnoticed(
    tmp_path: Path, column: int
) -> None:
    store = PrivateStore(tmp_path)
    save(store, 1, 1, 2)
    save(store, 2, 1, 2)
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        (content,) = database.execute("SELECT keys FROM chunks WHERE number = 1").fetchone()
        damaged = bytearray(content)
        damaged[column] ^= 64
        database.execute("UPDATE chunks SET keys = ? WHERE number = 1", (damaged,))
        database.commit()
    for do in (load, lambda store, user: save(store, 3, user)):
        with pytest.raises(PrivateStoreError, match="the checksum does not match"):
            do(PrivateStore(tmp_path), 2)


def test_a_user_whose_key_is_damaged_does_not_start_anew_unnoticed(tmp_path: Path) -> None:
    """Beside the chunk, where it is found, and in the record itself."""
    save(PrivateStore(tmp_path), 1, 1, 2)
    file = tmp_path / FILE
    intact, pattern = file.read_bytes(), keys(1).tobytes()
    places = [at for at in range(len(intact)) if intact.startswith(pattern, at)]
    assert len(places) == 2
    noticed = 0
    for at in places:
        file.write_bytes(intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :])
        try:
            assert load(PrivateStore(tmp_path), 1) == [1.0]  # found by the other copy of the key
        except PrivateStoreError as error:
            noticed += "the checksum does not match" in str(error)
    assert noticed > 0


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM contents", "UPDATE contents SET records = x'00'", "DELETE FROM about"],
)
def test_lost_records_are_noticed(tmp_path: Path, damage: str) -> None:
    save(PrivateStore(tmp_path), 1, 1, 2)
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute(damage)
    with pytest.raises(PrivateStoreError, match=r"private.sqlite is damaged"):
        load(PrivateStore(tmp_path), 2)


def test_a_record_that_lies_under_another_key_is_noticed(tmp_path: Path) -> None:
    save(PrivateStore(tmp_path), 1, 1)
    save(PrivateStore(tmp_path), 2, 1)
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute("UPDATE contents SET records = (SELECT records FROM contents LIMIT 1)")
    assert load(PrivateStore(tmp_path), 1, up_to=1) == [1.0]
    with pytest.raises(PrivateStoreError, match="a version lies under another key"):
        load(PrivateStore(tmp_path), 1)


def test_a_row_for_each_version_of_an_earlier_release_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute("CREATE TABLE versions (id INTEGER PRIMARY KEY)")
    for do in (load, lambda store, user: save(store, 2, user)):
        with pytest.raises(PrivateStoreError, match=r"of an earlier release.*another run\.name"):
            do(PrivateStore(tmp_path), 1)


def test_what_is_left_of_half_empty_chunks_moves_together(tmp_path: Path) -> None:
    """Twelve users to a chunk; many saves of few users do not spread them over many rows."""
    store, users = PrivateStore(tmp_path), range(1, 121)
    content = {"net": torch.zeros(120, 73, 73)}
    initial = {"net": torch.zeros(1, 73, 73)}
    for number in range(1, 41):
        some = np.random.default_rng(number).choice(120, 15, replace=False)
        some = np.arange(120) if number == 1 else np.sort(some)
        content["net"][some] = float(number)
        store.save(
            keys(*(some + 1)), {"net": content["net"][some]}, np.zeros((len(some), 2), np.int64),
            round_number=number, keep_up_to=(),
        )  # fmt: skip
    found, _ = store.load(keys(*users), up_to_round=40, initial=initial, num_layers=2)
    assert torch.equal(found["net"], content["net"])
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        (chunks,) = database.execute("SELECT count(*) FROM chunks").fetchone()
    assert chunks <= 2 * 2 * 120 / 12  # two versions of some, and at most half of the room empty


def test_segments_of_an_earlier_release_are_refused(tmp_path: Path) -> None:
    (tmp_path / "round-00000001-a.safetensors").write_bytes(b"")
    for do in (load, lambda store, user: save(store, 2, user)):
        with pytest.raises(PrivateStoreError, match=r"of an earlier release.*another run\.name"):
            do(PrivateStore(tmp_path), 1)


def test_a_store_of_another_network_is_refused(tmp_path: Path) -> None:
    save(PrivateStore(tmp_path), 1, 1)
    other = {"user_bias": torch.zeros(1), "net": torch.zeros(1, 2, 4)}
    with pytest.raises(PrivateStoreError, match="belongs to another configuration"):
        PrivateStore(tmp_path).load(keys(1), up_to_round=1, initial=other, num_layers=2)


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PrivateStoreError, match=r"cannot be written: .*; free space or choose"):
        save(PrivateStore(tmp_path / "file" / "store"), 1, 1)
