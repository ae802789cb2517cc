"""``mrff compare --json``; what it does is tested with the comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.data.prepare import prepare


def test_json_holds_the_runs_and_the_differences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    prepare("synthetic", out=tmp_path / "data" / "synthetic", options={"users": 40, "items": 20})
    (tmp_path / "rates.toml").write_text(
        'methods = ["user-item-rate", "user-rate"]\ndatasets = ["synthetic"]\n'
        "[statistics]\nresamples = 300\n"
    )
    assert main(["compare", str(tmp_path / "rates.toml"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["folder"] == str(tmp_path / "comparisons" / "rates")
    assert [line["method"] for line in said["results"]] == ["user-item-rate", "user-rate"]
    assert {line["metric"] for line in said["comparisons"]} == {"auc", "log_loss"}
    assert said["undone"] == []
