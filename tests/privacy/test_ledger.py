"""The ledger: composed over runs and restarts, safe against crashes, refused when touched."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from mrff.privacy.accounting import Limit, Release, epsilon_of
from mrff.privacy.ledger import BudgetExceededError, Ledger, LedgerError

ROUND = Release(4.0, 1.0, 2)
NO_LIMIT = Limit(0.0, 1e-5)
ABOUT = {"training": "run", "round": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "privacy"


def edit(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def fill(folder: Path, entries: int, users: tuple[int, ...] = (1, 65)) -> None:
    """Both users lie in one chain."""
    for number in range(1, entries + 1):
        Ledger(folder, "data", "user").append(users, ROUND, {"training": "run", "round": number})


def test_composes_over_three_runs_and_a_restart_as_one(folder: Path) -> None:
    for run in ("a", "b", "c"):
        ledger = Ledger(folder, "data", "user")  # a new process each
        for number in range(1, 6):
            ledger.append([1, 2], ROUND, {"training": run, "round": number})
    restarted = Ledger(folder, "data", "user")
    assert restarted.releases(1) == (Release(4.0, 1.0, 30),)
    assert restarted.epsilon([1], NO_LIMIT) == epsilon_of([Release(4.0, 1.0, 30)], 1e-5)
    assert restarted.epsilon([3], NO_LIMIT) == 0.0


def test_users_are_counted_apart_and_the_dearest_one_decides(folder: Path) -> None:
    ledger = Ledger(folder, "data", "user")
    ledger.append([1, 2], ROUND, ABOUT)
    ledger.append([2], Release(1.0, 0.1, 5), ABOUT)
    ledger.append([3], Release(3.0, mechanism="laplace"), ABOUT)
    assert ledger.releases(1) == (ROUND,)
    assert ledger.releases(2) == (Release(1.0, 0.1, 5), ROUND)
    both = epsilon_of([ROUND, Release(1.0, 0.1, 5)], 1e-5)
    assert ledger.epsilon([1, 2, 3], NO_LIMIT) == both


def test_a_round_beyond_the_budget_is_refused_with_the_numbers(folder: Path) -> None:
    fill(folder, 3)
    spent, after = (epsilon_of([Release(4.0, 1.0, n)], 1e-5) for n in (6, 8))
    ledger = Ledger(folder, "data", "user")
    limit = Limit(0.5 * (spent + after), 1e-5)
    with pytest.raises(BudgetExceededError) as refused:
        ledger.check([1], ROUND, limit)
    for number in (f"{spent:.4f}", f"{after:.4f}", f"epsilon-budget={limit.epsilon:g}", "1e-05"):
        assert number in str(refused.value)
    ledger.check([1], ROUND, Limit(after, 1e-5))
    ledger.check([9], ROUND, limit)  # nothing was ever released of user 9
    ledger.check([1], ROUND, NO_LIMIT)


def test_two_runs_cannot_both_take_the_last_of_a_budget(folder: Path) -> None:
    limit = Limit(epsilon_of([ROUND], 1e-5), 1e-5)
    one, other = Ledger(folder, "data", "user"), Ledger(folder, "data", "user")
    for ledger in (one, other):
        ledger.check([1], ROUND, limit)  # each sees that there is enough
    one.append([1], ROUND, ABOUT, limit)
    with pytest.raises(BudgetExceededError):
        other.append([1], ROUND, ABOUT, limit)
    assert Ledger(folder, "data", "user").releases(1) == (ROUND,)


def test_releases_of_another_unit_stand_beside_and_are_never_added(folder: Path) -> None:
    users, records = Ledger(folder, "data", "user"), Ledger(folder, "data", "record")
    users.append([1], ROUND, ABOUT)
    records.append([1], Release(3.0), ABOUT)
    users.append([1], ROUND, ABOUT)
    assert users.releases(1) == (Release(4.0, 1.0, 4),)
    assert records.releases(1) == (Release(3.0),)
    limit = Limit(epsilon_of([Release(4.0, 1.0, 6)], 1e-5), 1e-5)
    users.append([1], ROUND, ABOUT, limit)
    with pytest.raises(BudgetExceededError):
        users.append([1], ROUND, ABOUT, limit)


def test_a_refused_release_is_noted_of_nobody(folder: Path) -> None:
    """Users of several chains: one transaction for all of them."""
    ledger, limit = Ledger(folder, "data", "user"), Limit(epsilon_of([ROUND], 1e-5), 1e-5)
    ledger.append([7], ROUND, ABOUT)
    with pytest.raises(BudgetExceededError):
        ledger.append(range(200), ROUND, ABOUT, limit)
    assert ledger.users() == [7]
    ledger.append([k for k in range(200) if k != 7], ROUND, ABOUT, limit)
    assert ledger.users() == list(range(200))
    assert ledger.releases(7) == ledger.releases(8) == (ROUND,)


def test_keys_of_64_bits(folder: Path) -> None:
    keys = [0, 2**63 - 1, 2**63, 2**64 - 1]
    fill(folder, 1, tuple(keys))
    assert Ledger(folder, "data", "user").users() == keys


def test_a_crash_at_any_byte_of_an_append_loses_nothing_that_was_released(
    folder: Path, tmp_path: Path
) -> None:
    fill(folder, 3)
    head = (folder / "ledger.head").read_bytes()
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as reader:
        reader.execute("BEGIN")  # so that the log is not folded into the database
        reader.execute("SELECT * FROM releases").fetchall()
        fill(folder, 1)
        log = (folder / "ledger.sqlite-wal").read_bytes()
        shutil.copy(folder / "ledger.sqlite", tmp_path / "before")
    seen = set()
    for cut in [*range(0, len(log), 509), len(log) - 1, len(log)]:  # what the disk may hold
        copy = tmp_path / f"cut-{cut}"
        copy.mkdir()
        shutil.copy(tmp_path / "before", copy / "ledger.sqlite")
        (copy / "ledger.sqlite-wal").write_bytes(log[:cut])
        (copy / "ledger.head").write_bytes(head)
        crashed = Ledger(copy, "data", "user")
        # A whole row counts, even though the round may never have been released.
        (before,) = crashed.releases(1)
        seen.add(before.steps)
        crashed.append([1], ROUND, ABOUT)
        assert Ledger(copy, "data", "user").releases(1) == (Release(4.0, 1.0, before.steps + 2),)
    assert seen == {6, 8}


@pytest.mark.parametrize(
    ("place", "steps"),
    [("INSERT INTO releases", 6), ("COMMIT", 6), ("write_json", 8), ("os.replace", 8)],
)
def test_a_process_killed_in_the_middle_of_an_append(folder: Path, place: str, steps: int) -> None:
    fill(folder, 3)
    program = f"""
        import os, signal, sys
        from pathlib import Path
        from mrff.io import files, sqlite
        from mrff.privacy import ledger
        from mrff.privacy.accounting import Release

        def kill(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        connect = sqlite._connect

        def traced(path):
            connection = connect(path)
            connection.set_trace_callback(lambda said: said.startswith({place!r}) and kill())
            return connection

        sqlite._connect = traced
        if {place!r} == "write_json":
            ledger.write_json = kill
        if {place!r} == "os.replace":
            os.replace = kill
        ledger.Ledger(Path(sys.argv[1]), "data", "user").append([1, 65], Release(4.0, 1.0, 2), {{}})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), folder], check=False)
    assert done.returncode == -signal.SIGKILL
    ledger = Ledger(folder, "data", "user")
    assert ledger.releases(1) == (Release(4.0, 1.0, steps),)
    ledger.append([1, 65], ROUND, ABOUT)
    assert ledger.releases(65) == (Release(4.0, 1.0, steps + 2),)


def test_a_process_killed_before_the_first_append_leaves_an_empty_ledger(folder: Path) -> None:
    folder.mkdir()
    (folder / "ledger.head").write_text("{}")
    (folder / ".ledger.sqlite.new").write_bytes(b"half")
    assert Ledger(folder, "data", "user").users() == []
    fill(folder, 2)
    assert Ledger(folder, "data", "user").releases(1) == (Release(4.0, 1.0, 4),)


CHANGES: dict[str, list[str]] = {
    "cheaper": [
        "UPDATE releases SET parameters = replace(parameters, '4.0', '40.0') WHERE number = 1"
    ],
    "fewer users in the last row": [
        "UPDATE releases SET users = substr(users, 1, 8) WHERE number = 3"
    ],
    "a row removed": ["DELETE FROM releases WHERE number = 2"],
    "a row removed and the others moved up": [
        "DELETE FROM releases WHERE number = 2",
        "UPDATE releases SET number = 2 WHERE number = 3",
    ],
    "the end removed": ["DELETE FROM releases WHERE number = 3"],
    "everything removed": ["DELETE FROM releases"],
    "the table removed": ["DROP TABLE releases"],
    "rows swapped": [
        "UPDATE releases SET number = 9 WHERE number = 2",
        "UPDATE releases SET number = 2 WHERE number = 3",
        "UPDATE releases SET number = 3 WHERE number = 9",
    ],
    "no json": ["UPDATE releases SET parameters = '???' WHERE number = 2"],
    "users no bytes": ["UPDATE releases SET users = 'me' WHERE number = 2"],
    "negative steps": ["UPDATE releases SET steps = -2 WHERE number = 3"],
    "another unit": ["UPDATE releases SET unit = 'record' WHERE number = 3"],
    "another population": ["UPDATE releases SET population = 'other'"],
    "another run": ["UPDATE releases SET run = 'other' WHERE number = 2"],
}
FILES = [
    "forgotten chain", "head removed", "head unreadable", "head of another end", "ledger removed",
    "ledger emptied", "ledger truncated", "no database",
]  # fmt: skip


def touch(folder: Path, change: str) -> None:
    path, head = folder / "ledger.sqlite", folder / "ledger.head"
    match change:
        case "forgotten chain":
            edit(folder, "DELETE FROM releases WHERE chain = 1")
            heads = json.loads(head.read_text())
            del heads["data"]["1"]
            head.write_text(json.dumps(heads))
        case "head removed":
            head.unlink()
        case "head unreadable":
            head.write_text("what?")
        case "head of another end":
            head.write_text(json.dumps({"data": {"1": [3, "0" * 64]}}))
        case "ledger removed":
            path.unlink()
        case "ledger emptied":
            path.write_bytes(b"")
        case "ledger truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "no database":
            path.write_bytes(b"what?" * 1000)
        case _:
            edit(folder, *CHANGES[change])


@pytest.mark.parametrize("change", [*CHANGES, *FILES])
def test_a_ledger_that_was_touched_stops_everything(folder: Path, change: str) -> None:
    fill(folder, 3)
    honest = Ledger(folder, "data", "user")
    honest.users()
    touch(folder, change)
    with pytest.raises(LedgerError, match=r"cannot be trusted: .*it is never begun anew"):
        Ledger(folder, "data", "user").releases(1)
    with pytest.raises(LedgerError, match=r"cannot be trusted: .*it is never begun anew"):
        honest.append([1], ROUND, ABOUT)  # whoever had it open already notices too


def test_a_chain_that_is_gone_is_noticed_by_whoever_looks_at_everybody(folder: Path) -> None:
    fill(folder, 2)
    fill(folder, 1, (2, 3, 70))
    touch(folder, "forgotten chain")
    with pytest.raises(LedgerError, match="chain 1 has 0 rows where 2 were written"):
        Ledger(folder, "data", "user").users()
    assert Ledger(folder, "data", "user").releases(2) == (ROUND,)  # other chains are whole


def test_a_ledger_from_before_chains_were_counted_goes_on(folder: Path) -> None:
    fill(folder, 2)
    edit(folder, "DROP TABLE ends", "DROP TABLE names", "PRAGMA user_version = 0")
    assert Ledger(folder, "data", "user").releases(1) == (Release(4.0, 1.0, 4),)
    touch(folder, "forgotten chain")
    with pytest.raises(LedgerError, match="chain 1 has 0 rows where 2 were written"):
        Ledger(folder, "data", "user").releases(1)


def test_what_one_run_released_is_told_apart(folder: Path) -> None:
    """With rounds that were done again: they are rows like any other."""
    ledger = Ledger(folder, "data", "user")
    for run, number in (("a", 1), ("a", 2), ("b", 1), ("a", 2)):
        ledger.append([1], ROUND, {"training": run, "round": number})
    assert ledger.releases(1, run="a") == (Release(4.0, 1.0, 6),)
    assert ledger.releases(1, run="b") == (ROUND,)
    assert ledger.releases(1, run="c") == ()


def test_a_release_with_predictable_noise_is_worth_nothing_for_ever(folder: Path) -> None:
    ledger = Ledger(folder, "data", "user")
    ledger.append([1, 2], ROUND, ABOUT)
    ledger.append([1], Release(4.0, predictable=True), ABOUT)
    restarted = Ledger(folder, "data", "user")
    assert restarted.epsilon([1], NO_LIMIT) == math.inf
    assert restarted.epsilon([2], NO_LIMIT) == epsilon_of([ROUND], 1e-5)
    with pytest.raises(BudgetExceededError, match="from inf to inf"):
        restarted.append([1], ROUND, ABOUT, Limit(1e6, 1e-5))


def test_it_says_which_other_units_it_leaves_out(folder: Path) -> None:
    users, records = Ledger(folder, "data", "user"), Ledger(folder, "data", "record")
    users.append([1], ROUND, ABOUT)
    records.append([1, 65], ROUND, ABOUT)
    assert users.units_apart([1]) == users.units_apart([65]) == ["record"]
    assert records.units_apart([1]) == ["user"]
    assert records.units_apart([65]) == users.units_apart([2]) == []


def test_a_flipped_bit_never_makes_it_forget(folder: Path) -> None:
    fill(folder, 3)
    path = folder / "ledger.sqlite"
    intact = path.read_bytes()
    refused = 0
    for at in range(0, len(intact), 61):
        path.write_bytes(intact[:at] + bytes([intact[at] ^ 4]) + intact[at + 1 :])
        try:  # much of a small database is empty space
            assert Ledger(folder, "data", "user").releases(1) == (Release(4.0, 1.0, 6),)
        except LedgerError:
            refused += 1
    assert refused > 3


def test_an_unreadable_ledger_stops_everything(folder: Path) -> None:
    fill(folder, 2)
    (folder / "ledger.sqlite").unlink()
    (folder / "ledger.sqlite").mkdir()
    with pytest.raises(LedgerError, match="it cannot be read"):
        Ledger(folder, "data", "user").users()


def test_a_ledger_of_other_data_is_not_taken(folder: Path) -> None:
    fill(folder, 1)
    other = Ledger(folder, "other data", "user")
    assert other.users() == []
    other.append([1], Release(9.0), ABOUT)
    assert other.releases(1) == (Release(9.0),)
    assert Ledger(folder, "data", "user").releases(1) == (ROUND,)


def test_many_processes_append_to_one_ledger(folder: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from mrff.privacy.accounting import Release
        from mrff.privacy.ledger import Ledger

        for number in range(10):
            ledger = Ledger(Path(sys.argv[1]), "data", "user")
            ledger.append([1, 2, int(sys.argv[2])], Release(4.0, 1.0, 2), {"round": number})
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(folder)]
    workers = [subprocess.Popen([*command, str(100 + number)]) for number in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    ledger = Ledger(folder, "data", "user")
    assert ledger.users() == [1, 2, 100, 101, 102]
    assert ledger.releases(1) == ledger.releases(2) == (Release(4.0, 1.0, 60),)
    assert ledger.releases(101) == (Release(4.0, 1.0, 20),)


def test_what_cannot_be_written_is_not_released(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "privacy").write_text("a file where the folder should be")
    with pytest.raises(LedgerError, match="cannot be written"):
        Ledger(folder, "data", "user").append([1], ROUND, ABOUT)


def test_removing_the_whole_folder_is_what_no_file_can_notice(folder: Path) -> None:
    """Said in the documentation; here so that nobody takes it for a promise."""
    fill(folder, 2)
    shutil.rmtree(folder)
    assert Ledger(folder, "data", "user").releases(1) == ()


def earlier(path: Path, *entries: dict[str, Any]) -> None:
    """A ledger as releases before wrote it: a line per round and a head that knows the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    last, lines = "0" * 64, []
    for entry in entries:
        fields = {"dataset": "data", "training": "old", "mechanism": "gaussian", "steps": 2}
        fields |= {"noise_multiplier": 4.0, "sampling_rate": 1.0, "previous": last, **entry}
        lines.append(json.dumps(fields, sort_keys=True))
        last = sha256(lines[-1].encode()).hexdigest()
    path.write_text("".join(f"{line}\n" for line in lines))
    path.with_suffix(".head").write_text(f"{len(lines)} {last}\n")


def test_a_ledger_of_an_earlier_release_is_imported_once(folder: Path) -> None:
    laplace = {"mechanism": "laplace", "noise_multiplier": 3.0, "steps": 1}
    first, second = folder / "data/bucket-01.jsonl", folder / "data/bucket-02.jsonl"
    earlier(first, {"users": ["1", "41"], "round": 1}, {"users": ["1"], "round": 2, **laplace})
    earlier(second, {"users": ["2"], "round": 1})
    with first.open("a") as file:
        file.write('{"previous": "')  # what a crash cut off was never released
    earlier(folder / "elsewhere/bucket-01.jsonl", {"users": ["1"], "dataset": "elsewhere"})
    for unit in ("user", "record"):  # it did not say which: it counts for either
        ledger = Ledger(folder, "data", unit)
        assert ledger.users() == [1, 2, 65]
        assert ledger.releases(1) == (ROUND, Release(3.0, mechanism="laplace"))
        both = epsilon_of([ROUND, Release(3.0, mechanism="laplace")], 1e-5)
        assert ledger.epsilon([1, 2], NO_LIMIT) == both
    assert sorted(p.name for p in (folder / "data").iterdir()) == [
        "bucket-01.head.imported", "bucket-01.jsonl.imported",
        "bucket-02.head.imported", "bucket-02.jsonl.imported",
    ]  # fmt: skip
    ledger.append([2], ROUND, ABOUT)
    assert Ledger(folder, "data", "record").releases(2) == (Release(4.0, 1.0, 4),)
    assert Ledger(folder, "data", "user").releases(2) == (ROUND,)


def test_the_servers_ledger_of_an_earlier_release_is_imported(folder: Path) -> None:
    earlier(folder / "data.jsonl", *({"users": ["0"], "round": n} for n in (1, 2)))
    assert Ledger(folder, "data", "user").releases(0) == (Release(4.0, 1.0, 4),)
    assert (folder / "data.jsonl.imported").is_file()


def test_an_import_that_was_cut_off_counts_nothing_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier(folder / "data.jsonl", {"users": ["0"]})
    for stage in ((os, "replace"), (Path, "rename")):

        def cut(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(*stage, cut)
            with pytest.raises(KeyboardInterrupt):
                Ledger(folder, "data", "user").users()
    assert (folder / "data.jsonl").is_file()
    assert Ledger(folder, "data", "user").releases(0) == (ROUND,)
    assert not (folder / "data.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cheaper", "line 2 of data.jsonl does not follow the one before"),
        ("the end removed", "data.jsonl has 1 entries, its head knows 2 with another end"),
        ("no json", "line 2 of data.jsonl cannot be read"),
        ("head removed", "data.head is missing"),
        ("head unreadable", "data.head cannot be read"),
        ("ledger removed", "data.jsonl has 0 entries, its head knows 2"),
        ("other data", "line 1 of data.jsonl is about other data"),
    ],
)
def test_a_touched_ledger_of_an_earlier_release_is_refused(
    folder: Path, change: str, message: str
) -> None:
    path = folder / "data.jsonl"
    about = {"dataset": "other"} if change == "other data" else {}
    earlier(path, *({"users": ["0"], **about} for _ in range(2)))
    lines = path.read_text().splitlines()
    match change:
        case "cheaper":
            lines[0] = lines[0].replace("4.0", "40.0")
        case "the end removed":
            del lines[-1]
        case "no json":
            lines[1] = "???"
        case "head removed":
            path.with_suffix(".head").unlink()
        case "head unreadable":
            path.with_suffix(".head").write_text("what?")
    path.write_text("".join(f"{line}\n" for line in lines))
    if change == "ledger removed":
        path.unlink()
    for _ in range(2):
        with pytest.raises(LedgerError, match=rf"cannot be trusted: {message}.*never begun anew"):
            Ledger(folder, "data", "user").releases(0)
