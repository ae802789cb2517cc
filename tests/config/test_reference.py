"""pyproject's table and docs/settings.md are what the declarations say."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import typer
from flwr.common.config import flatten_dict
from typer.testing import CliRunner

from mrff.cli.run import settings
from mrff.config import ConfigError, RunConfig, reference
from mrff.config.names import SETTINGS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", reference.written(ROOT), ids=lambda p: p.name)
def test_what_is_written_from_the_declarations_is_up_to_date(path: Path) -> None:
    assert path.read_text() == reference.written(ROOT)[path], f"run: {reference.COMMAND}"


def test_flower_reads_the_declared_defaults() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    written = flatten_dict(project["tool"]["flwr"]["app"]["config"])
    defaults = RunConfig.from_flat({}).to_flat()
    assert written == defaults
    assert {k: type(v) for k, v in written.items()} == {k: type(v) for k, v in defaults.items()}
    assert RunConfig.from_flat(written) == RunConfig.from_flat({})


def test_every_setting_has_a_reason_of_one_line() -> None:
    for setting in SETTINGS.values():
        assert 0 < len(setting.reason) <= 100, setting.key
        assert "\n" not in setting.reason


def test_writing_is_done_once(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(f"[a]\n\n{reference.BEGIN}old = 1\n{reference.END}\n[b]\n")
    (tmp_path / "docs").mkdir()
    assert len(reference.write(tmp_path)) == 2
    assert reference.write(tmp_path) == []
    read = tomllib.loads(project.read_text())
    assert read["tool"]["flwr"]["app"]["config"]["network"]["num-layers"] == 2
    assert read.keys() == {"a", "tool", "b"}
    project.write_text("[a]\n")
    with pytest.raises(ConfigError, match="has no lines"):
        reference.write(tmp_path)


def test_the_command_finds_by_words_of_name_and_reason() -> None:
    app = typer.Typer()
    app.command()(settings)
    found = json.loads(CliRunner().invoke(app, ["window-length", "--json"]).stdout)
    assert [entry["key"] for entry in found] == ["data.window-length"]
    assert found[0]["default"] == 65
    assert found[0]["limits"] == "2 to 4,096"
    assert "server.send-window" in CliRunner(env={"COLUMNS": "200"}).invoke(app, ["window"]).stdout
    assert "no setting has 'zzz'" in CliRunner().invoke(app, ["zzz"]).stdout
    assert len(json.loads(CliRunner().invoke(app, ["--json"]).stdout)) == len(SETTINGS)
