"""A private run through Flower's real simulation: noise on the nodes, ledgers on their disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.data.dataset import load_dataset
from mrff.privacy.accounting import Limit, Release, epsilon_of
from mrff.privacy.ledger import Ledger
from tests.support.command import mrff

pytestmark = pytest.mark.slow


def test_local_dp_sgd_with_mrff_run_and_its_report(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    settings = [
        "privacy.mode=local-dp-sgd", "noise-multiplier=2", "record-sampling-rate=0.5",
        "local-steps=2", "sampling-rate=1.0", "delta=1e-3", "num-server-rounds=2",
        "run.name=private", f"data-dir={small_data}", "window-length=16",
    ]  # fmt: skip
    changes = [argument for setting in settings for argument in ("-c", setting)]
    done = mrff("run", "--nodes", "2", *changes, home=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    epsilon = epsilon_of([Release(2.0, 0.5, 4), Release(4.0)], 1e-3)  # and the test
    dataset = load_dataset(small_data)
    ledger = Ledger(tmp_path / "state/privacy", dataset.schema.content_hash, "user")
    counted = set(ledger.users())
    assert all(ledger.epsilon([user], Limit(0.0, 1e-3)) == epsilon for user in counted)
    assert counted == {int(key) for key in dataset.user_keys}

    history = (tmp_path / "runs/private/history.jsonl").read_text().splitlines()
    rounds = [entry for entry in map(json.loads, history) if entry["kind"] == "round"]
    assert all(entry["privacy"]["signal_to_noise"] >= 0.0 for entry in rounds)
    assert main(["privacy", "report", "private"]) == 0
    assert f"Epsilon {epsilon:.4f} at delta 0.001" in capsys.readouterr().out

    again = [*changes, "-c", "run.name=again", "-c", f"epsilon-budget={1.05 * epsilon}"]
    refused = mrff("run", "--nodes", "2", *again, home=tmp_path)
    assert refused.returncode == 2
    assert "the privacy budget does not allow this round" in refused.stdout + refused.stderr
