"""``mrff run`` before Flower is started: settings from files and texts, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.config import ConfigError
from mrff.data.prepare import prepare
from mrff.ops.simulation import read_settings
from tests.support.events import plays
from tests.support.small_folders import alternating, write


def test_texts_win_over_the_file_and_are_typed(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('dropout = 0.5\ndataset = "kuaisar-r"\n')
    values = read_settings(
        file, ["dropout=0.25", "num-experts = 8", "tensorboard=false", "run.name=a1"]
    )
    assert values == {
        "network.dropout": 0.25,
        "data.dataset": "kuaisar-r",
        "network.num-experts": 8,
        "run.tensorboard": False,
        "run.name": "a1",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["num-experts"], "a setting is given as KEY=VALUE, got 'num-experts'"),
    ],
)
def test_a_text_without_a_value_is_refused(changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(None, changes)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("dropout = ")
    for name in ("bad.toml", "missing.toml"):
        with pytest.raises(ConfigError, match=f"cannot read the settings in .*{name}"):
            read_settings(tmp_path / name, [])


def refusal(command: str, change: str, home: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that ends before it has made anything in its home: one line."""
    assert main([command, "-c", change]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mrff: ")
    assert said.count("\n") == 1
    assert not home.exists()
    return said


@pytest.mark.parametrize("command", ["run", "demo"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("num-experts=0", "num-experts must be between 1 and 64, got 0"),
        (
            "num-expert=4",
            "unknown configuration key 'num-expert'; did you mean network.num-experts?",
        ),
        ("gate-input=hidden", "gate-input=hidden cannot go with network.history-feedback"),
        ("dropout=much", "dropout must be a number, got 'much' (str)"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_2_and_start_nothing(
    command: str,
    change: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path / "home"))
    assert message in refusal(command, change, tmp_path / "home", capsys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "dataset=shop",
            "dataset 'shop' is neither prepared (in HOME/data/shop) nor one of ml-100k",
        ),
        ("dataset=kuaisar-r", "first: mrff data prepare kuaisar-r --from PATH"),
        ("dataset=csv", "first: mrff data prepare csv --from PATH"),
        ("data-dir=HOME/nowhere", "'HOME/nowhere' holds no prepared dataset"),
    ],
)
def test_a_dataset_that_is_not_there_starts_nothing(
    change: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MRFF_HOME", str(home))
    said = refusal("run", change.replace("HOME", str(home)), home, capsys)
    assert message.replace("HOME", str(home)) in said


def test_a_dataset_that_cannot_teach_the_objective_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare("csv", source=plays(tmp_path, users=4), out=tmp_path / "d")
    settings = ("objective=click", f"data-dir={tmp_path}/d", f"home={tmp_path}/home")
    assert main(["run", *(word for change in settings for word in ("-c", change))]) == 2
    said = capsys.readouterr().err
    assert "choose training.objective=next" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_fewer_users_than_nodes_start_nothing(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("-c", f"data-dir={small_data}", "-c", f"home={tmp_path}/home")
    assert main(["run", "--nodes", "16", *settings]) == 2
    said = capsys.readouterr().err
    assert "number of nodes must be between 1 and 15 (the number of users), got 16" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_users_too_short_for_the_split_start_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "d", alternating(2, 4))
    settings = ("holdout=2", f"data-dir={tmp_path}/d", f"home={tmp_path}/home")
    changes = [word for change in settings for word in ("-c", change)]
    assert main(["run", "--nodes", "2", *changes]) == 2
    said = capsys.readouterr().err
    assert "no user has the 5 interactions that a holdout of 2 needs; use a smaller" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_a_home_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["run", "-c", f"home={tmp_path}/file/home"]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "cannot start Flower in" in said.err


def test_a_folder_without_an_app_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--app", str(tmp_path), "-c", f"home={tmp_path}"]) == 2
    assert "holds no Flower app (no pyproject.toml)" in capsys.readouterr().err
