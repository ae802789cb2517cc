"""``mrff privacy``: plan, report and audit, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.privacy.accounting import Release, epsilon_of
from tests.support.federation import run_federation

TEST_NOISE = 4.0  # of the one test after a private training
IN_DATA = ["--canaries-in", "data"]
PLAN = ["privacy", "plan", "--delta", "1e-5"]


def test_plan_prints_what_belongs_together(capsys: pytest.CaptureFixture[str]) -> None:
    wish = [*PLAN, "--noise-multiplier", "1.1", "--rounds", "40", "--sampling-rate", "0.2"]
    assert main([*wish, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    four = {"epsilon", "noise_multiplier", "rounds", "sampling_rate"}
    assert set(plan) == four | {"delta", "test_noise", "item_noise"}
    assert plan["epsilon"] == epsilon_of([Release(1.1, 0.2, 40), Release(TEST_NOISE)], 1e-5)
    assert main([*wish, "--local-steps", "3", "--test-noise", "0"]) == 0
    table = capsys.readouterr().out
    assert "Counted: the rounds.\n" in table
    assert "test-noise" not in table
    assert "<- solved" in next(line for line in table.splitlines() if line.startswith("epsilon"))
    assert f"{epsilon_of([Release(1.1, 0.2, 120)], 1e-5):.6g}" in table


def test_plan_solves_for_the_noise(capsys: pytest.CaptureFixture[str]) -> None:
    wish = ["--epsilon", "2", "--rounds", "10", "--sampling-rate", "1", "--accountant", "rdp"]
    assert main([*PLAN, *wish, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert 1.98 < plan["epsilon"] <= 2.0
    assert (plan["rounds"], plan["sampling_rate"], plan["delta"]) == (10, 1.0, 1e-5)


def test_plan_solves_for_the_noise_of_distributed_user(capsys: pytest.CaptureFixture[str]) -> None:
    wish = [
        *PLAN,
        "--epsilon",
        "8",
        "--rounds",
        "60",
        "--sampling-rate",
        "1",
        "--grid-steps",
        "4096",
    ]
    assert main([*wish, "--accountant", "rdp"]) == 0
    table = capsys.readouterr().out
    assert "noise-multiplier  5.0" in table
    assert "Counted: the rounds and the one test after them." in table
    assert "Not counted: rounds that are trained again" in table
    assert main(wish) == 2
    assert "accountant rdp, got 1.0 and prv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "leave exactly one of epsilon, noise-multiplier, rounds and sampling-rate out"),
        (
            ["--epsilon", "1", "--noise-multiplier", "1", "--sampling-rate", "1"],
            "epsilon=1 at delta=1e-05 cannot be solved: a single round already costs",
        ),
        (
            ["--epsilon", "0.5", "--noise-multiplier", "1", "--sampling-rate", "1"],
            "epsilon=0.5 at delta=1e-05 cannot be solved: the test alone costs epsilon 0.9305",
        ),
        (
            ["--noise-multiplier", "-1", "--rounds", "3", "--sampling-rate", "1"],
            "noise-multiplier must be greater than 0, got -1.0",
        ),
    ],
)
def test_plans_that_cannot_be(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PLAN, *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_report_of_a_central_run_counts_the_other_runs_too(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    for name in ("first", "second"):
        run_federation(
            small_data, tmp_path, nodes=2, name=name, mode="central-user", delta=1e-3,
            noise_multiplier=2.0, sampling_rate=0.5,
        )  # fmt: skip
    capsys.readouterr()
    assert main(["privacy", "report", "second"]) == 0
    said = capsys.readouterr().out
    one, both = (
        epsilon_of([Release(2.0, 0.5, 3 * runs), Release(TEST_NOISE, steps=runs)], 1e-3)
        for runs in (1, 2)
    )
    for part in (
        "3 rounds in privacy.mode=central-user",
        "Protected is one user",
        "the server itself is trusted",
        f"Epsilon {one:.4f} at delta 0.001, accountant prv: Gaussian noise of 2 times",
        f"With all other runs on the same data (ledger): epsilon {both:.4f}",
        "Covered as well: the one evaluation, a noised test of the last model.",
        "It is of 4 noisy sums",
        "Signal to noise",
    ):
        assert part in said
    assert main(["privacy", "report", str(tmp_path / "runs/second"), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["epsilon"] == one
    assert numbers["epsilon_of_all_runs"] == both
    assert numbers["private"] is True


def test_report_of_local_modes_reads_the_nodes_ledgers(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    run_federation(
        small_data, tmp_path, nodes=2, name="sgd", mode="local-dp-sgd", delta=1e-3,
        noise_multiplier=4.0, sampling_rate=1.0, local_steps=2,
    )  # fmt: skip
    run_federation(
        small_data, tmp_path, nodes=2, name="laplace", mode="laplace", delta=1e-3,
        noise_multiplier=30.0, sampling_rate=1.0,
    )  # fmt: skip
    capsys.readouterr()
    assert main(["privacy", "report", "sgd"]) == 0
    said = capsys.readouterr().out
    assert "Not trusted: the server and everyone after it" in said
    assert "2 steps a round" in said
    together = [
        Release(4.0, 1.0, 6), Release(30.0, steps=3, mechanism="laplace"),
        Release(TEST_NOISE, steps=2),
    ]  # fmt: skip
    assert f"(ledger): epsilon {epsilon_of(together, 1e-3):.4f}" in said
    assert main(["privacy", "report", "laplace"]) == 0
    assert "Pure epsilon (delta 0): 0.1000" in capsys.readouterr().out


def test_report_without_privacy_and_without_a_run(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    run_federation(small_data, tmp_path, nodes=1, name="plain", num_server_rounds=1)
    capsys.readouterr()
    assert main(["privacy", "report", "plain"]) == 0
    assert "Epsilon is unbounded" in capsys.readouterr().out
    assert main(["privacy", "report", "nowhere"]) == 2
    assert "there is no run 'nowhere'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["central-user", "local-dp-sgd", "laplace"])
def test_an_audit_stays_below_the_claim_and_finds_missing_noise(
    small_data: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    command = [
        "privacy", "audit", str(small_data), *IN_DATA, "--canaries", "200", "--users", "15",
        "--json",
        "-c", f"privacy.mode={mode}", "-c", "noise-multiplier=20", "-c", "delta=1e-4",
        "-c", "num-server-rounds=5", "-c", "sampling-rate=1.0", "-c", "feature-dim=4",
        "-c", "window-length=16",
    ]  # fmt: skip
    assert main(command) == 0
    private = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not private["refuted"]
    assert private["by_rounds"]["epsilon"] < private["claimed"] < 1.5
    assert main([*command, "--without-noise"]) == 0
    broken = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert broken["refuted"]
    assert broken["by_rounds"]["epsilon"] > 2.0 * broken["claimed"]
    assert broken["by_model"]["epsilon"] > broken["claimed"]


@pytest.mark.slow
def test_an_audit_of_weak_privacy_finds_something_but_not_more_than_there_is(
    small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([
        "privacy", "audit", str(small_data), *IN_DATA, "--canaries", "200", "--users", "15",
        "--json",
        "-c", "noise-multiplier=0.05", "-c", "delta=1e-4", "-c", "num-server-rounds=5",
        "-c", "sampling-rate=1.0", "-c", "feature-dim=4", "-c", "window-length=16",
        "-c", "clipping-weights=item_features=20", "-c", "clipping-norm=0.1",
    ]) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0.5 < found["by_rounds"]["epsilon"] < found["claimed"]


@pytest.mark.slow
def test_an_audit_without_privacy_shows_what_strong_privacy_hides(
    small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "privacy", "audit", str(small_data), *IN_DATA, "--canaries", "200", "--users", "15",
        "-c", "noise-multiplier=20", "-c", "delta=1e-4", "-c", "num-server-rounds=5",
        "-c", "sampling-rate=1.0", "-c", "feature-dim=4", "-c", "window-length=16",
    ]  # fmt: skip
    assert main([*command, "--json"]) == 0
    private = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main([*command, "--json", "-c", "privacy.mode=none"]) == 0
    plain = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (plain["mode"], plain["claimed"]) == ("none", None)
    assert (plain["noise"], plain["refuted"]) == (False, False)
    guesses = plain["by_rounds"]["guesses"]
    assert plain["by_rounds"]["right"] >= 0.98 * guesses >= 98  # who is there is drawn anew
    for looker in ("by_rounds", "by_model"):
        assert plain[looker]["epsilon"] > 2.0
        assert private[looker]["epsilon"] < private["claimed"] < 1.5


def test_an_audit_without_privacy_says_that_nothing_is_claimed(
    small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([
        "privacy", "audit", str(small_data), *IN_DATA, "--canaries", "10", "--users", "5",
        "-c", "privacy.mode=none", "-c", "num-server-rounds=1", "-c", "sampling-rate=0.01",
    ]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "There is no claim to check" in said
    assert "claimed epsilon" not in said
    assert "switched off" not in said


def test_an_audit_with_canaries_in_updates_says_what_it_rests_on(
    small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "privacy", "audit", str(small_data), "--canaries", "200", "-c", "sampling-rate=1",
        "-c", "num-server-rounds=2", "-c", "noise-multiplier=3", "-c", "feature-dim=4",
    ]  # fmt: skip
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "Who sees every round's release: " in said
    assert "If the noise is Gaussian and canaries do not depend on each other" in said
    assert "final model" not in said
    assert main([*command, "--json", "--without-noise"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["by_model"] is None
    assert found["refuted"]
    assert found["if_gaussian"] > found["claimed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--canaries", "3"], "canaries must be at least 10, got 3"),
        (["--confidence", "1"], "confidence must be between 0.5 and 1, got 1.0"),
        (["-c", "privacy.mode=none"], "clipped update, got none; use --canaries-in data"),
        (["-c", "privacy.mode=local-dp-sgd"], "clipped update, got local-dp-sgd"),
        (["-c", "privacy.mode=distributed-user"], "use privacy.secure-aggregation=true"),
        (
            [*IN_DATA, "-c", "privacy.mode=none", "--without-noise"],
            "there is no noise to switch off in privacy.mode=none",
        ),
        (
            [*IN_DATA, "-c", "privacy.mode=none", "-c", "clusters=2", "-c", "num-experts=1"],
            "use clusters=off, got 2",
        ),
        (
            [*IN_DATA, "-c", "privacy.mode=none", "-c", "private-parameters=all"],
            "private-parameters=user or head, got all",
        ),
        (
            [*IN_DATA, "-c", "privacy.mode=none", "-c", "item-ids=hashed"],
            "item-ids=hashed does not give them; use network.item-ids=full",
        ),
        (
            [*IN_DATA, "-c", "privacy.mode=distributed-user"],
            "trains one node without a secure sum",
        ),
        (["-c", "clusters=2", "-c", "num-experts=1"], "clusters"),
        (["-c", "private-parameters=all"], "private-parameters"),
        (["-c", "privacy.mode=secret"], "privacy.mode must be one of"),
    ],
)
def test_audits_that_cannot_be(
    small_data: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["privacy", "audit", str(small_data), *arguments]) == 2
    assert message in capsys.readouterr().err
