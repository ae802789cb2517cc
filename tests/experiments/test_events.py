"""Comparisons on events without labels: what needs labels says so, and what a run depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.config import ConfigError, RunConfig
from mrff.config.methods import METHODS
from mrff.data.errors import DataError
from mrff.data.prepare import prepare
from mrff.data.schema import Schema
from mrff.experiments.audits.audit import AuditSetup, audit
from mrff.experiments.central.methods import run_central
from mrff.experiments.comparison.cells import Cell, outcome_of_run
from mrff.experiments.comparison.comparing import content_of
from tests.support.events import plays

OF_LABELS = [name for name in METHODS if name.endswith("-rate") or name.startswith("boosted")]


@pytest.mark.parametrize("method", OF_LABELS)
def test_methods_that_predict_labels_say_that_there_are_none(tmp_path: Path, method: str) -> None:
    prepare("csv", source=plays(tmp_path, users=6), out=tmp_path / "d")
    config = RunConfig.from_flat({"data.data-dir": str(tmp_path / "d")})
    with pytest.raises(DataError, match="plays has events without labels") as error:
        run_central(method, config)
    assert "\n" not in str(error.value)


def test_a_comparison_names_the_method_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path / "home"))
    prepare("csv", source=plays(tmp_path, users=6), out=tmp_path / "home/data/plays")
    (tmp_path / "grid.toml").write_text('methods = ["user-rate"]\ndatasets = ["plays"]\n')
    assert main(["compare", str(tmp_path / "grid.toml")]) == 1
    told = "mrff: not finished: plays: user-rate: plays has events without labels"
    assert told in capsys.readouterr().err


def test_an_audit_trains_what_a_run_would(tmp_path: Path) -> None:
    prepare("csv", source=plays(tmp_path, users=6), out=tmp_path / "d")
    setup = AuditSetup(canaries=10, users=6, canaries_in="data")
    with pytest.raises(ConfigError, match=r"choose training\.objective=next"):
        audit(tmp_path / "d", {"training.objective": "click"}, setup)


def test_the_same_rows_as_another_kind_are_another_run() -> None:
    rows = Schema("plays", "y", (), (), 3, "hash", content_hash="abc")
    assert content_of(rows) == "abc"  # cells from before there were kinds stay done
    kinds = {content_of(replace(rows, kind=kind)) for kind in ("labelled", "events", "both")}
    assert len(kinds) == 3


def test_a_run_without_clicks_has_an_outcome_without_auc(tmp_path: Path) -> None:
    settings = {"privacy.mode": "central-user", "privacy.noise-multiplier": 1.0}
    cell = Cell("plays-1", "mrff", True, dict(settings), tmp_path)
    about = {"best_round": 7, "seconds": 1.0, "bytes_up": 2, "bytes_down": 3}
    outcome = outcome_of_run(cell, {**about, "test": {"hr10": 0.25, "ndcg10": 0.125}})
    assert (outcome.auc, outcome.log_loss) == (None, None)
    assert (outcome.hr10, outcome.ndcg10, outcome.best_round) == (0.25, 0.125, 7)
