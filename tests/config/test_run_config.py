"""The run configuration: defaults in two places agree, and every mistake has its own sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from mrff.config import ConfigError, RunConfig
from mrff.config.run_config import known_keys

ROOT = Path(__file__).parents[2]


def test_pyproject_holds_every_key_with_the_same_default_and_type() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    written = project["tool"]["flwr"]["app"]["config"]
    defaults = RunConfig.from_flat({}).to_flat()
    assert written == defaults
    assert {k: type(v) for k, v in written.items()} == {k: type(v) for k, v in defaults.items()}
    assert sorted(known_keys()) == sorted(defaults)


SHIPPED = sorted(p for p in (ROOT / "conf").glob("*.toml") if not p.stem.startswith("compare-"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    RunConfig.from_flat(tomllib.loads(path.read_text()))


def test_flat_values_survive_the_round_trip() -> None:
    values = RunConfig.from_flat({"num-experts": 7, "dropout": 0, "run-name": "a.b"}).to_flat()
    assert RunConfig.from_flat(values).to_flat() == values
    assert values["num-experts"] == 7
    assert values["dropout"] == 0.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num-experts": 0}, "num-experts must be between 1 and 64, got 0"),
        ({"num-expert": 4}, "unknown configuration key 'num-expert'; did you mean num-experts?"),
        ({"zzz": 4}, "unknown configuration key 'zzz'; known keys: dataset, "),
        ({"num-experts": "four"}, "num-experts must be a whole number, got 'four' (str)"),
        ({"num-experts": True}, "num-experts must be a whole number, got True (bool)"),
        ({"num-experts": 2.5}, "num-experts must be a whole number, got 2.5 (float)"),
        ({"tensorboard": 1}, "tensorboard must be true or false, got 1 (int)"),
        ({"dropout": "0.1"}, "dropout must be a number, got '0.1' (str)"),
        ({"dataset": 100}, "dataset must be a text, got 100 (int)"),
        ({"dropout": 0.99}, "dropout must be between 0 and 0.95, got 0.99"),
        ({"dropout": float("nan")}, "dropout must be a finite number, got nan"),
        ({"sampling-rate": 0.0}, "sampling-rate must be greater than 0 and at most 1, got 0.0"),
        ({"local-learning-rate": 0}, "local-learning-rate must be greater than 0, got 0.0"),
        ({"private-weight-decay": -1}, "private-weight-decay must be at least 0, got -1.0"),
        ({"gate-mode": "soft"}, "gate-mode must be one of switch, hard, got 'soft'"),
        ({"backbone": "bert"}, "backbone must be one of sasrec, hstu, linear, got 'bert'"),
        (
            {"gate-input": "hidden"},
            "gate-input=hidden cannot go with history-feedback=true: the gate would carry later "
            "labels back to earlier predictions",
        ),
        (
            {"hidden-dim": 10, "num-heads": 4},
            "hidden-dim must be a multiple of num-heads=4, got 10",
        ),
        (
            {"run-name": "a", "resume": "b"},
            "run-name='a' cannot go with resume='b'",
        ),
        (
            {"keep-test-scores": True, "privacy-mode": "central-user"},
            "keep-test-scores=true cannot go with privacy-mode=central-user",
        ),
        (
            {"user-factors": True, "privacy-mode": "local-dp-sgd", "own-parameters": "noised"},
            "user-factors=true cannot go with own-parameters=noised: how far factors move tells "
            "how many targets a user has; use user-factors=false, or own-parameters=free or frozen",
        ),
        (
            {"privacy-mode": "central-user", "max-update-norm": 5.0},
            "max-update-norm=5 cannot go with privacy-mode=central-user",
        ),
        ({"run-name": "a/b"}, "run-name may hold letters, digits, '.', '_' and '-' only"),
        ({"run-name": ".."}, "run-name may hold letters"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes(values: dict[str, bool | int | float | str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_flat(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hidden_gate_input_without_feedback_is_fine() -> None:
    config = RunConfig.from_flat({"gate-input": "hidden", "history-feedback": False})
    assert config.network.gate_input == "hidden"


def test_folders_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRFF_HOME", "/somewhere")
    assert RunConfig.from_flat({}).dataset_path == Path("/somewhere/data/ml-100k")
    assert RunConfig.from_flat({"home": "/other"}).home == Path("/other")
    monkeypatch.delenv("MRFF_HOME")
    assert RunConfig.from_flat({}).home == Path.home() / ".mrff"
    assert RunConfig.from_flat({"data-dir": "here"}).dataset_path == Path.cwd() / "here"
