"""The ledger: composed over runs and restarts, safe against crashes, refused when touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mrff.privacy.accounting import Release, epsilon_of
from mrff.privacy.ledger import BudgetExceededError, Ledger, LedgerError, Limit

ROUND = Release(4.0, 1.0, 2)
NO_LIMIT = Limit(0.0, 1e-5)
ABOUT = {"training": "run", "round": 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "privacy" / "data.jsonl"


def fill(path: Path, entries: int, users: tuple[int, ...] = (1, 2)) -> None:
    for number in range(1, entries + 1):
        Ledger(path, "data").append(users, ROUND, {"training": "run", "round": number})


def test_composes_over_three_runs_and_a_restart_as_one(path: Path) -> None:
    for run in ("a", "b", "c"):
        ledger = Ledger(path, "data")  # a new process each
        for number in range(1, 6):
            ledger.append([1, 2], ROUND, {"training": run, "round": number})
    restarted = Ledger(path, "data")
    assert restarted.releases(1) == (Release(4.0, 1.0, 30),)
    assert restarted.epsilon([1], NO_LIMIT) == epsilon_of([Release(4.0, 1.0, 30)], 1e-5)
    assert restarted.epsilon([3], NO_LIMIT) == 0.0


def test_users_are_counted_apart_and_the_dearest_one_decides(path: Path) -> None:
    ledger = Ledger(path, "data")
    ledger.append([1, 2], ROUND, ABOUT)
    ledger.append([2], Release(1.0, 0.1, 5), ABOUT)
    ledger.append([3], Release(3.0, mechanism="laplace"), ABOUT)
    assert ledger.releases(1) == (ROUND,)
    assert ledger.releases(2) == (Release(1.0, 0.1, 5), ROUND)
    both = epsilon_of([ROUND, Release(1.0, 0.1, 5)], 1e-5)
    assert ledger.epsilon([1, 2, 3], NO_LIMIT) == both


def test_a_round_beyond_the_budget_is_refused_with_the_numbers(path: Path) -> None:
    fill(path, 3)
    spent, after = (epsilon_of([Release(4.0, 1.0, n)], 1e-5) for n in (6, 8))
    ledger = Ledger(path, "data")
    limit = Limit(0.5 * (spent + after), 1e-5)
    with pytest.raises(BudgetExceededError) as refused:
        ledger.check([1], ROUND, limit)
    for number in (f"{spent:.4f}", f"{after:.4f}", f"epsilon-budget={limit.epsilon:g}", "1e-05"):
        assert number in str(refused.value)
    ledger.check([1], ROUND, Limit(after, 1e-5))
    ledger.check([9], ROUND, limit)  # nothing was ever released of user 9
    ledger.check([1], ROUND, NO_LIMIT)


def test_two_runs_cannot_both_take_the_last_of_a_budget(path: Path) -> None:
    limit = Limit(epsilon_of([ROUND], 1e-5), 1e-5)
    one, other = Ledger(path, "data"), Ledger(path, "data")
    for ledger in (one, other):
        ledger.check([1], ROUND, limit)  # each sees that there is enough
    one.append([1], ROUND, ABOUT, limit)
    with pytest.raises(BudgetExceededError):
        other.append([1], ROUND, ABOUT, limit)
    assert Ledger(path, "data").releases(1) == (ROUND,)


def test_a_crash_at_any_byte_of_an_append_loses_nothing_that_was_released(
    path: Path, tmp_path: Path
) -> None:
    fill(path, 3)
    before, head = path.read_bytes(), path.with_suffix(".head").read_bytes()
    fill(path, 1)
    after = path.read_bytes()
    line = len(after) - len(before)
    for cut in range(line + 1):  # what the disk may hold: part of the line, the head before it
        copy = tmp_path / f"cut-{cut}" / "data.jsonl"
        copy.parent.mkdir()
        copy.write_bytes(after[: len(before) + cut])
        copy.with_suffix(".head").write_bytes(head)
        crashed = Ledger(copy, "data")
        # Whole lines count, even though the round may never have been released.
        assert crashed.releases(1) == (Release(4.0, 1.0, 8 if cut == line else 6),)
        crashed.append([1], ROUND, ABOUT)
        assert Ledger(copy, "data").releases(1) == (Release(4.0, 1.0, 10 if cut == line else 8),)


def _edit(path: Path, change: str) -> None:
    lines = path.read_text().splitlines()
    head = path.with_suffix(".head")
    match change:
        case "cheaper":
            lines[0] = lines[0].replace('"noise_multiplier": 4.0', '"noise_multiplier": 40.0')
        case "fewer users in the last line":
            entry = json.loads(lines[-1])
            lines[-1] = json.dumps({**entry, "users": entry["users"][:1]}, sort_keys=True)
        case "a line removed":
            del lines[1]
        case "the end removed":
            del lines[-1]
        case "lines swapped":
            lines[1], lines[2] = lines[2], lines[1]
        case "no json":
            lines[1] = "???"
        case "negative steps":
            lines[-1] = lines[-1].replace('"steps": 2', '"steps": -2')
        case "head removed":
            head.unlink()
        case "head unreadable":
            head.write_text("what?")
        case "head of another end":
            head.write_text("3 " + "0" * 64 + "\n")
        case "ledger removed":
            path.unlink()
            return
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    "change",
    [
        "cheaper", "fewer users in the last line", "a line removed", "the end removed",
        "lines swapped", "no json", "negative steps", "head removed", "head unreadable",
        "head of another end", "ledger removed",
    ],
)  # fmt: skip
def test_a_ledger_that_was_touched_stops_everything(path: Path, change: str) -> None:
    fill(path, 3)
    honest = Ledger(path, "data")
    _edit(path, change)
    with pytest.raises(LedgerError, match=r"cannot be trusted: .*it is never begun anew"):
        Ledger(path, "data")
    if path.exists():
        with pytest.raises(LedgerError):
            honest.append([1], ROUND, ABOUT)  # whoever had it open already notices too


def test_an_unreadable_ledger_stops_everything(path: Path) -> None:
    fill(path, 2)
    path.unlink()
    path.mkdir()
    with pytest.raises(LedgerError, match="it cannot be read"):
        Ledger(path, "data")


def test_a_ledger_of_other_data_is_not_taken(path: Path) -> None:
    fill(path, 1)
    with pytest.raises(LedgerError, match="line 1 is about other data"):
        Ledger(path, "other data")


def test_what_cannot_be_written_is_not_released(path: Path, tmp_path: Path) -> None:
    (tmp_path / "privacy").write_text("a file where the folder should be")
    with pytest.raises(LedgerError, match="cannot be written"):
        Ledger(path, "data").append([1], ROUND, ABOUT)


def test_removing_the_whole_folder_is_what_no_file_can_notice(path: Path) -> None:
    """Said in the documentation; here so that nobody takes it for a promise."""
    fill(path, 2)
    shutil.rmtree(path.parent)
    assert Ledger(path, "data").releases(1) == ()
