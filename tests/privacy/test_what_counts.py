"""Everything that was released is in what a run says of its epsilon; a node's limits are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mrff.cli.main import main
from mrff.data.schema import Schema
from mrff.privacy.accounting import Limit, Release, epsilon_of
from mrff.privacy.ledger import Ledger
from mrff.privacy.noise import predictable
from mrff.wire.aggregation import RoundFailedError
from server_app.run.history import read_history
from tests.support.federation import run_federation
from tests.support.local_grid import LocalGrid

DELTA = 1e-3
TEST = Release(4.0)  # of a run's last model, once it has done all rounds
PRIVATE: dict[str, dict[str, Any]] = {
    "central-user": {"noise_multiplier": 2.0, "sampling_rate": 0.5},
    "laplace": {"noise_multiplier": 30.0, "sampling_rate": 1.0},
}
RELEASES = {"central-user": Release(2.0, 0.5), "laplace": Release(30.0, mechanism="laplace")}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    return tmp_path


def run(data: Path, home: Path, mode: str, name: str, **changes: Any) -> None:
    settings = {"nodes": 2, "mode": mode, "delta": DELTA, **PRIVATE.get(mode, {}), **changes}
    run_federation(data, home, name=name, **settings)


def told(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
    """What ``mrff privacy report`` says, to people and to programs."""
    capsys.readouterr()
    assert main(["privacy", "report", name]) == 0
    said = capsys.readouterr().out
    assert main(["privacy", "report", name, "--json"]) == 0
    return said, json.loads(capsys.readouterr().out)


class Dying(LocalGrid):
    """The server dies as it sends round 3."""

    def push_messages(self, messages: Any) -> Any:
        messages = list(messages)
        if messages[0].metadata.group_id == "3":
            raise KeyboardInterrupt
        return super().push_messages(messages)


@pytest.mark.parametrize("mode", ["central-user", "laplace"])
def test_rounds_that_are_trained_again_count(
    small_data: Path, home: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    """Rounds 1 to 3 were paid for twice; the history has them once."""
    rarely = {"checkpoint_every": 10}
    with pytest.raises(KeyboardInterrupt):
        run(small_data, home, mode, "again", grid_type=Dying, **rarely)
    run(small_data, home, mode, "", resume="again", **rarely)
    rounds = [e for e in read_history(home / "runs/again/history.jsonl") if e["kind"] == "round"]
    assert [entry["round"] for entry in rounds] == [1, 2, 3]
    said, numbers = told("again", capsys)
    training, on_nodes = (RELEASES[mode].times(n) for n in (6, 5))  # round 3 was not sent at first
    true = epsilon_of([training, TEST], DELTA)
    assert (numbers["rounds"], numbers["epsilon"]) == (3, true)
    assert f"Epsilon {true:.4f}" in said
    assert "It is of 7 noisy sums: rounds that were trained again" in said
    if mode == "central-user":
        assert numbers["epsilon_of_all_runs"] == true
        assert rounds[-1]["privacy"]["epsilon"] == epsilon_of([training], DELTA)
    else:
        assert numbers["epsilon_of_all_runs"] == epsilon_of([on_nodes, TEST], DELTA)


def test_a_report_without_a_ledger_says_what_the_history_has(
    small_data: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(small_data, home, "laplace", "moved")
    (home / "state").rename(home / "elsewhere")
    said, numbers = told("moved", capsys)
    assert numbers["epsilon"] == epsilon_of([RELEASES["laplace"].times(3), TEST], DELTA)
    assert "nodes' ledgers are not on this machine" in said


@pytest.mark.parametrize("mode", ["central-user", "laplace"])
def test_predictable_noise_is_said_wherever_epsilon_is(
    small_data: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    with predictable(1):
        run(small_data, home, mode, "known")
    assert "NOT PRIVATE" in caplog.text
    for entry in read_history(home / "runs/known/history.jsonl"):
        if entry["kind"] == "round":
            assert entry["privacy"]["epsilon"] is None
            assert entry["privacy"]["predictable_noise"] == 1.0
    run(small_data, home, mode, "secret")
    for name in ("known", "secret"):
        said, numbers = told(name, capsys)
        assert numbers["epsilon_of_all_runs"] is None
        assert "(ledger): epsilon inf: a test made the noise predictable" in said
        assert numbers["predictable_noise"] == (name == "known") == ("NOT PRIVATE" in said)
        assert (numbers["epsilon"] is None) == (name == "known")
    folder = home / "state" / ("privacy-server" if mode == "central-user" else "privacy")
    ledger = Ledger(folder, Schema.load(small_data).known_as, "user")
    assert ledger.epsilon(ledger.users(), Limit(0.0, DELTA)) == float("inf")


def test_units_are_never_added_up_and_the_report_says_so(
    small_data: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = {"noise_multiplier": 4.0, "sampling_rate": 1.0, "max_windows_per_user": 1}
    run(small_data, home, "local-dp-sgd", "users", **shape)
    run(small_data, home, "local-dp-sgd", "records", unit="record", **shape)
    for name, other, noise in (("users", "record", 4.0), ("records", "user", 2.0)):
        said, numbers = told(name, capsys)
        one = epsilon_of([Release(4.0, steps=3), Release(noise)], DELTA)  # the test's noise
        assert numbers["epsilon"] == numbers["epsilon_of_all_runs"] == one
        assert numbers["units_not_added"] == [other]
        assert f"Releases of unit {other} are noted besides; units are never added up." in said
        moves = "one interaction more can change all windows of its user" in said
        assert moves == (name == "records")


def limited(**limits: Any) -> type[LocalGrid]:
    """Nodes with limits of their own."""
    named = {name.replace("_", "-"): value for name, value in limits.items()}

    class Limited(LocalGrid):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords, node_config=named)

    return Limited


def refusals(home: Path, name: str, caplog: pytest.LogCaptureFixture) -> str:
    assert not [
        entry
        for entry in read_history(home / "runs" / name / "history.jsonl")
        if entry["kind"] == "round"
    ]
    return caplog.text


def test_a_server_that_changes_the_unit_gets_no_second_budget(
    small_data: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shape = {"noise_multiplier": 4.0, "sampling_rate": 1.0, "max_windows_per_user": 1}
    own = limited(epsilon_budget=50.0)
    run(small_data, home, "local-dp-sgd", "users", grid_type=own, **shape)
    with pytest.raises(RoundFailedError):
        run(small_data, home, "local-dp-sgd", "records", grid_type=own, unit="record", **shape)
    assert "different units do not add up; use privacy.unit=user" in refusals(
        home, "records", caplog
    )


@pytest.mark.parametrize(("own", "counted"), [({}, 1e-5), ({"delta": 1e-7}, 1e-7)])
def test_a_run_with_a_huge_delta_does_not_get_past_a_nodes_budget(
    small_data: Path, home: Path, caplog: pytest.LogCaptureFixture, own: dict[str, float],
    counted: float,
) -> None:  # fmt: skip
    """At the run's delta one round is within the budget, at the node's it is far beyond."""
    budget, run_delta, one = 1.0, 0.066, [Release(1.5)]
    assert epsilon_of(one, run_delta) < budget < epsilon_of(one, counted)
    with pytest.raises(RoundFailedError):
        run(
            small_data, home, "local-dp-sgd", "greedy", delta=run_delta, noise_multiplier=1.5,
            sampling_rate=1.0, grid_type=limited(epsilon_budget=budget, **own),
        )  # fmt: skip
    said = refusals(home, "greedy", caplog)
    assert f"at delta={counted:g}, above epsilon-budget={budget:g}" in said


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"epsilon_budget": 0}, "this node's epsilon-budget must be greater than 0, got 0"),
        ({"epsilon_budget": "none"}, "epsilon-budget must be greater than 0, got 'none'"),
        ({"epsilon_budget": float("nan")}, "epsilon-budget must be greater than 0, got nan"),
        ({"epsilon_budget": 2.0, "delta": 1.0}, "delta must be greater than 0 and less than 1"),
        ({"delta": -1e-5}, "this node's delta must be greater than 0 and less than 1, got -1e-05"),
    ],
)
def test_limits_of_a_node_that_cannot_be_meant_stop_it(
    small_data: Path, home: Path, caplog: pytest.LogCaptureFixture, limits: dict[str, Any],
    message: str,
) -> None:  # fmt: skip
    """A budget that is read as none would protect nobody."""
    with pytest.raises(RoundFailedError):
        run(small_data, home, "laplace", "odd", grid_type=limited(**limits))
    assert message in refusals(home, "odd", caplog)
    assert "mend its --node-config" in caplog.text
