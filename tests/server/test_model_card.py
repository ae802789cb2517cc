"""The card beside the best model says what the run published, and of a private run no more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mrff.cli.main import main
from mrff.data.schema import Schema
from tests.support.federation import run_federation


def card(data: Path, home: Path, **changes: Any) -> tuple[str, dict[str, Any]]:
    run_federation(data, home, nodes=2, name="n", **changes)
    summary = json.loads((home / "runs/n/summary.json").read_text())
    return (home / "runs/n/best/model_card.md").read_text(), summary


def test_data_quality_settings_and_that_nothing_was_promised(
    small_data: Path, tmp_path: Path
) -> None:
    text, summary = card(small_data, tmp_path, num_experts=3)
    schema = Schema.load(small_data)
    assert "# Model card: n\n" in text
    assert f"round {summary['best_round']} is kept" in text
    assert (tmp_path / f"runs/n/best/model-round-{summary['best_round']}.safetensors").is_file()
    assert f"15 users, 20 items, {schema.counts['interactions']:,} interactions" in text
    assert schema.schema_hash in text
    assert schema.content_hash in text
    assert f"Test AUC {summary['test']['auc']:.4f}." in text
    assert f"Validation AUC {summary['validation_auc']:.4f}" in text
    assert "Mode `none`: no differential privacy" in text
    assert '* `network.num-experts = 3` (default "auto")' in text
    assert "network.num-heads" not in text  # a default
    assert str(tmp_path) not in text


def test_a_run_without_a_test_says_so(small_data: Path, tmp_path: Path) -> None:
    text, _ = card(small_data, tmp_path, holdout=0, validation_users=0.3)
    assert "No test: nothing is tested with data.holdout=0" in text
    assert "Test AUC" not in text


@pytest.mark.parametrize("mode", ["central-user", "laplace"])
def test_the_card_of_a_private_run_tells_what_is_public_and_what_it_cost(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], mode: str,
) -> None:  # fmt: skip
    """No count of users or rows, no hash that confirms whoever guesses the data, no time."""
    text, summary = card(small_data, tmp_path, mode=mode, delta=1e-3)
    schema = Schema.load(small_data)
    assert schema.content_hash not in text
    assert not re.search(r"\d (users|interactions|targets)\b", text)
    assert str(schema.counts["interactions"]) not in text
    assert f"{summary['seconds']:g}" not in text
    assert not re.search(r"second|byte|MB", text)
    assert "20 items" in text
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    assert main(["privacy", "report", "n", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert f"Mode `{mode}`: epsilon {report['epsilon']:.4f} at delta 0.001" in text
