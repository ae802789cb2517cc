"""Results of another protocol than the usual one say so in tables and on pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.config import TimesRead
from mrff.data.dataset import load_dataset
from mrff.data.floors import floors
from mrff.experiments.comparison.plan import read_plan
from mrff.experiments.comparison.tables import marks_of
from tests.support.federation import run_federation
from tests.support.reports import report, write_comparison
from tests.support.small_folders import alternating, write
from tests.support.tied_data import tied

MARK = "labels of the same time unknown"
GRID = 'methods = ["mrff", "user-rate"]\ndatasets = ["a", "b"]\n'


@pytest.mark.parametrize(
    ("changes", "marks"),
    [
        ("", ([], [])),
        ('[settings]\nsame-time = "unknown"\n', ([f"all methods: {MARK}"],) * 2),
        ('[dataset.b]\nsame-time = "unknown"\n', ([], [f"all methods: {MARK}"])),
        ('[method.mrff]\nsame-time = "unknown"\n', ([f"mrff: {MARK}"],) * 2),
    ],
)
def test_a_table_says_which_methods_follow_another_protocol(
    changes: str, marks: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "grid.toml").write_text(GRID + changes)
    plan = read_plan(tmp_path / "grid.toml", presets=tmp_path)
    assert tuple(marks_of(plan, dataset) for dataset in "ab") == marks


def test_so_do_the_files_of_a_comparison_and_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MRFF_HOME", str(home))
    write(home / "data" / "small", alternating(9, 7, 8))
    (tmp_path / "grid.toml").write_text(
        'methods = ["user-rate", "user-item-rate"]\ndatasets = ["small"]\n'
        '[settings]\nsame-time = "unknown"\n'
    )
    assert main(["compare", str(tmp_path / "grid.toml")]) == 0
    assert f"all methods: {MARK}" in capsys.readouterr().out
    folder = home / "comparisons" / "grid"
    assert f"* all methods: {MARK}" in (folder / "tables.md").read_text()
    page = report(str(folder), tmp_path / "c.html")
    assert f"<p>all methods: {MARK}</p>" in page
    assert "<td>marks</td>" not in page
    assert MARK not in report(str(write_comparison(tmp_path / "usual")), tmp_path / "u.html")


def test_so_does_the_page_of_a_run_whose_floors_follow_it(small_data: Path, tmp_path: Path) -> None:
    data = tied(small_data, tmp_path / "data")
    run_federation(data, tmp_path, nodes=1, name="run", same_time="unknown")
    page = report(str(tmp_path / "runs" / "run"), tmp_path / "r.html")
    assert MARK in page
    lowest = floors(load_dataset(data, TimesRead("unknown")), holdout=1, part="test")
    usual = floors(load_dataset(data), holdout=1, part="test")
    assert lowest.user_item.log_loss != usual.user_item.log_loss
    assert f"{lowest.user_item.log_loss:.4f}" in page
