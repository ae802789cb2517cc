"""``mrff compare`` on methods that need no Flower: real runs, real files, a real crash."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mrff.cli.main import main
from mrff.data.dataset import load_dataset
from mrff.data.floors import floors
from mrff.data.prepare import prepare
from mrff.experiments.comparison.files import RESULTS
from mrff.ops import processes

COMPARISONS = (
    "dataset", "method", "reference", "metric", "difference", "low", "high", "p_value",
    "p_holm", "users", "seeds", "note",
)  # fmt: skip


def make_shop(folder: Path, home: Path) -> Path:
    """Prepares data whose items have an id and nothing else; returns its folder."""
    random = np.random.default_rng(0)
    rows = [
        f"u{user},i{random.integers(12)},{time},{int(random.random() < (user % 3 + 1) / 5)}"
        for user in range(60)
        for time in range(8)
    ]
    (folder / "events.csv").write_text("user,item,time,liked\n" + "\n".join(rows) + "\n")
    (folder / "shop.toml").write_text(
        'name = "shop"\n[interactions]\nfile = "events.csv"\nuser = "user"\nitem = "item"\n'
        'time = "time"\nlabel = "liked"\n'
    )
    out = home / "data" / "shop"
    prepare("csv", source=folder / "shop.toml", out=out)
    return out


def test_a_crash_is_reported_the_rest_goes_on_and_only_the_crash_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MRFF_HOME", str(home))
    shop = make_shop(tmp_path, home)
    (tmp_path / "grid.toml").write_text(
        'methods = ["user-item-rate", "user-feature-rate", "user-rate"]\ndatasets = ["shop"]\n'
        "[statistics]\nresamples = 300\n"
    )
    arguments = ["compare", str(tmp_path / "grid.toml"), "--jobs", "2"]
    assert main(arguments) == 1
    said = capsys.readouterr()
    reason = "method user-feature-rate needs item features beside the id"
    assert f"mrff: not finished: shop: user-feature-rate: {reason}" in said.err
    assert "no run of user-feature-rate left test scores" in said.out

    folder = home / "comparisons" / "grid"
    results = pd.read_csv(folder / "results.csv")
    assert tuple(results.columns) == RESULTS
    assert results["status"].tolist() == ["finished", "crashed", "finished"]
    assert reason in results["error"][1]
    lowest = floors(load_dataset(shop), holdout=1, part="test")
    assert results["auc"].tolist()[::2] == pytest.approx([lowest.user_item.auc, lowest.user.auc])
    assert results["log_loss"][2] == pytest.approx(lowest.user.log_loss)
    typed = pd.read_parquet(folder / "results.parquet")
    assert tuple(typed.columns) == RESULTS
    assert typed["status"].tolist() == results["status"].tolist()
    assert typed["auc"].tolist()[::2] == results["auc"].tolist()[::2]
    found = pd.read_csv(folder / "comparisons.csv")
    assert tuple(found.columns) == COMPARISONS
    tested = found[(found["method"] == "user-rate") & (found["metric"] == "auc")].iloc[0]
    assert tested["reference"] == "user-item-rate"
    assert tested["difference"] == pytest.approx(lowest.user.auc - lowest.user_item.auc)
    assert tested["low"] <= tested["difference"] <= tested["high"]
    assert tested["p_value"] <= tested["p_holm"] <= 1
    assert tested["users"] == 60
    assert found[found["method"] == "user-feature-rate"]["p_value"].isna().all()
    page = (folder / "tables.md").read_text()
    assert "| user-item-rate (reference) | floor | 1 |" in page
    assert "## Not finished" in page

    records = sorted((home / "comparisons" / "cells" / "records").glob("shop-*.json"))
    before = {path: path.stat().st_mtime_ns for path in records}
    status = {path: json.loads(path.read_text())["outcome"]["status"] for path in records}
    assert sorted(status.values()) == ["crashed", "finished", "finished"]
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert "grid: 3 runs, 2 of them finished before" in told
    assert "testing differences on shop, 300 resamples" in told
    for path in records:
        done_again = path.stat().st_mtime_ns != before[path]
        assert done_again == (status[path] == "crashed")


def test_a_changed_setting_is_another_run_and_the_old_one_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MRFF_HOME", str(home))
    make_shop(tmp_path, home)
    grid = 'methods = ["user-rate"]\ndatasets = ["shop"]\n'
    said = []
    for holdout in (1, 2, 1):
        (tmp_path / "grid.toml").write_text(f"{grid}[settings]\nholdout = {holdout}\n")
        assert main(["compare", str(tmp_path / "grid.toml")]) == 0
        said.append(capsys.readouterr().err.splitlines()[0])
    assert said == [
        "grid: 1 runs, 0 of them finished before",
        "grid: 1 runs, 0 of them finished before",
        "grid: 1 runs, 1 of them finished before",
    ]


def test_a_checkout_that_is_not_installed_writes_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setenv("MRFF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(importlib.metadata, "version", nobody)
    make_shop(tmp_path, tmp_path / "home")
    (tmp_path / "grid.toml").write_text('methods = ["user-rate"]\ndatasets = ["shop"]\n')
    assert main(["compare", str(tmp_path / "grid.toml")]) == 0
    about = json.loads((tmp_path / "home" / "comparisons" / "grid" / "comparison.json").read_text())
    assert "not installed" in about["version"]


def test_a_part_of_a_comparison_has_its_own_results_and_shares_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MRFF_HOME", str(home))
    make_shop(tmp_path, home)
    grid = tmp_path / "grid.toml"
    grid.write_text(
        'methods = ["user-item-rate", "user-rate"]\ndatasets = ["shop", "elsewhere"]\n'
        "[dataset.elsewhere]\nholdout = 2\n"
    )
    part = ["compare", str(grid), "--datasets", "shop", "--methods", "user-rate"]
    assert main(part) == 0
    assert main([*part, "user-item-rate", "--name", "both"]) == 0
    assert main([*part, "--set", "holdout=2"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "finished before" in line]
    assert said == [
        "grid-part: 1 runs, 0 of them finished before",
        "both: 2 runs, 1 of them finished before",
        "grid-part: 1 runs, 0 of them finished before",
    ]
    found = pd.read_csv(home / "comparisons" / "both" / "results.csv")
    assert found["method"].tolist() == ["user-rate", "user-item-rate"]


def test_a_run_whose_scores_are_gone_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MRFF_HOME", str(home))
    make_shop(tmp_path, home)
    (tmp_path / "grid.toml").write_text(
        'methods = ["user-rate", "user-item-rate"]\ndatasets = ["shop"]\n'
    )
    arguments = ["compare", str(tmp_path / "grid.toml")]
    assert main(arguments) == 0
    kept = sorted((home / "comparisons" / "cells" / "state").glob("*/*/kept-scores.*"))
    assert len(kept) == 2
    kept[0].unlink()
    capsys.readouterr()
    assert main(arguments) == 0
    assert "grid: 2 runs, 1 of them finished before" in capsys.readouterr().err
    assert kept[0].is_file()


def test_a_central_cell_that_outlived_its_comparison_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MRFF_HOME", str(home))
    make_shop(tmp_path, home)
    (tmp_path / "grid.toml").write_text(
        'methods = ["user-item-rate", "user-rate"]\ndatasets = ["shop"]\n'
        "[statistics]\nresamples = 300\n"
    )
    mark = str(home / "comparisons" / "cells")
    orphan = subprocess.Popen(["sleep", "600"], env={**os.environ, processes.MARK: mark})
    try:
        assert main(["compare", str(tmp_path / "grid.toml"), "--jobs", "1"]) == 0
        assert orphan.wait(timeout=10) != 0
    finally:
        orphan.kill()
