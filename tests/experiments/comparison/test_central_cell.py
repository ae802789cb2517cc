"""A cell of a method that sees all data at once: what it records for a comparison."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from mrff.config.methods import overrides_of
from mrff.experiments.comparison.cells import Cell
from mrff.experiments.comparison.central_cell import main
from mrff.experiments.comparison.measures import measured


def cell_of(method: str, data: Path, home: Path, **more: str) -> Cell:
    base = {"data-dir": str(data), "holdout": 2, **more}
    return Cell(f"{method}-cell", method, False, overrides_of(method, base), home)


@pytest.mark.parametrize(
    ("method", "measures"),
    [("rules", {"hr10", "ndcg10"}), ("user-item-rate", {"auc", "log_loss"})],
)
def test_what_a_method_measures_is_what_is_kept_of_its_users(
    small_data: Path, tmp_path: Path, method: str, measures: set[str]
) -> None:
    cell = cell_of(method, small_data, tmp_path)
    cell.prepare()
    assert main(json.dumps(asdict(cell), default=str)) == 0
    outcome, scores = cell.outcome(), cell.scores()
    assert outcome.status == "finished"
    assert scores is not None
    kept = measured(scores)
    assert set(kept) == measures
    for name in ("auc", "log_loss", "hr10", "ndcg10"):
        told = getattr(outcome, name)
        if name in measures:
            assert told == pytest.approx(kept[name](np.ones(15)).item())
        else:
            assert told is None


def test_what_cannot_be_chosen_by_is_one_line(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = cell_of("rules", small_data, tmp_path, **{"select-best-by": "auc"})
    cell.prepare()
    assert main(json.dumps(asdict(cell), default=str)) == 2
    assert capsys.readouterr().err == (
        "mrff: evaluation.select-best-by=auc is not measured by this method; "
        "choose auto, or ndcg10\n"
    )
    assert cell.outcome().status == "missing"
