"""The run configuration: every mistake has its own sentence, and every name leads somewhere."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from flwr.common.config import flatten_dict, fuse_dicts, parse_config_args

from mrff.config import ConfigError, RunConfig, full_names
from mrff.config.names import DROPPED, RENAMED, SETTINGS
from server_app.names import check_names

ROOT = Path(__file__).parents[2]
Values = dict[str, bool | int | float | str]
SHIPPED = sorted(p for p in (ROOT / "conf").glob("*.toml") if not p.stem.startswith("compare-"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid_for_us_and_for_flower(path: Path) -> None:
    config = RunConfig.from_flat(full_names(tomllib.loads(path.read_text())))
    assert RunConfig.from_flat(parse_config_args([str(path)])) == config
    check_names(config)  # its settings keep the promise of its privacy mode


def test_values_survive_the_round_trip() -> None:
    values = RunConfig.from_flat(
        {"network.num-experts": 7, "network.dropout": 0, "run.name": "a.b"}
    ).to_flat()
    assert RunConfig.from_flat(values).to_flat() == values
    assert values.keys() == SETTINGS.keys()
    assert values["network.num-experts"] == 7
    assert values["network.dropout"] == 0.0


def test_a_word_is_none_in_code_and_itself_in_the_configuration() -> None:
    words: Values = {
        "data.max-windows-per-user": "all",
        "network.user-network-dim": "off",
        "network.hidden-dim": "auto",
        "privacy.epsilon-budget": "off",
        "run.resume": "off",
    }
    config = RunConfig.from_flat(words)
    assert config.data.max_windows_per_user is None
    assert config.network.user_network_dim is None
    assert config.privacy.epsilon_budget is None
    assert config.network_arguments()["user_network_dim"] == 0
    assert config.to_flat().items() >= words.items()


def test_leaves_full_names_and_tables_name_the_same_settings() -> None:
    wanted = {"network.num-experts": 2, "privacy.mode": "laplace"}
    assert full_names({"num-experts": 2, "mode": "laplace"}) == wanted
    assert full_names(wanted) == wanted
    assert full_names({"network": {"num-experts": 2}, "privacy": {"mode": "laplace"}}) == wanted
    assert flatten_dict({"network": {"num-experts": 2}, "privacy": {"mode": "laplace"}}) == wanted


def test_flower_merges_options_over_the_declared_defaults_by_full_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    defaults = flatten_dict(project["tool"]["flwr"]["app"]["config"])
    given = parse_config_args(["network.num-experts=8 server.expected-nodes=4", 'run.name="b"'])
    config = RunConfig.from_flat(fuse_dicts(defaults, given))
    assert (config.network.num_experts, config.server.expected_nodes) == (8, 4)
    assert config.run.name == "b"
    with pytest.raises(ValueError, match="Key 'num-experts' is not present"):
        fuse_dicts(defaults, parse_config_args(["num-experts=8"]))


def test_of_several_options_flower_keeps_one_per_group_so_ours_are_one() -> None:
    both = {"network.num-experts": 8, "network.dropout": 0.1}
    assert parse_config_args(["network.num-experts=8 network.dropout=0.1"]) == both
    assert parse_config_args(["network.num-experts=8", "network.dropout=0.1"]) != both


def test_leaves_are_unique_over_all_groups() -> None:
    leaves = [setting.leaf for setting in SETTINGS.values()]
    assert len(set(leaves)) == len(leaves)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zzz": 4}, "unknown configuration key 'zzz'; `mrff settings` lists them all"),
        ({"num-expert": 4}, "unknown configuration key 'num-expert'; did you mean network.num-"),
        ({"privacy-mode": "laplace"}, "privacy-mode is now privacy.mode"),
        ({"own-parameters": "free"}, "own-parameters is now privacy.private-training"),
        ({"privacy": {"num-experts": 4}}, "privacy.num-experts is now network.num-experts"),
        ({"trainer": "serial"}, "trainer is no setting any more: nodes train many users at once"),
        ({"noise-seed": 1}, "noise-seed is no setting any more: noise is always fresh"),
        ({"dropout": 0.1, "network": {"dropout": 0.2}}, "network.dropout is set twice"),
    ],
)
def test_names_that_lead_nowhere(values: Values, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        full_names(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("old", [*RENAMED, *DROPPED])
def test_old_names_are_refused_and_lead_to_the_new(old: str) -> None:
    assert RENAMED.get(old, "run.name") in SETTINGS
    for refusing in (full_names, RunConfig.from_flat):
        with pytest.raises(ConfigError, match=RENAMED.get(old, "is no setting any more")):
            refusing({old: 1})


def test_flower_is_told_the_full_name_of_a_leaf() -> None:
    with pytest.raises(ConfigError, match=r"^num-experts is now network\.num-experts$"):
        RunConfig.from_flat({"num-experts": 4})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num-experts": 0}, "network.num-experts must be between 1 and 64, got 0"),
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
        (
            {"gate-mode": "soft"},
            "gate-mode must be one of switch, hard, evidence or \"auto\", got 'soft'",
        ),
        (
            {"max-windows-per-user": 0},
            'data.max-windows-per-user must be at least 1 or "all", got 0',
        ),
        ({"hidden-dim": 0}, 'hidden-dim must be between 1 and 4096 or "auto", got 0'),
        ({"hidden-dim": "off"}, "hidden-dim must be a whole number or \"auto\", got 'off' (str)"),
        ({"resume": ""}, "run.resume must be a text or \"off\", got '' (str)"),
        (
            {"gate-input": "hidden"},
            "gate-input=hidden cannot go with network.history-feedback=true: the gate would carry "
            "later labels back to earlier predictions",
        ),
        (
            {"hidden-dim": 10, "num-heads": 4},
            "hidden-dim must be a multiple of network.num-heads=4, got 10",
        ),
        (
            {"run.name": "a", "resume": "b"},
            "run.name='a' cannot go with run.resume='b'",
        ),
        (
            {"gate-mode": "evidence", "num-experts": 8, "num-layers": 3},
            "gate-mode=evidence compares num-experts ** num-layers groups, at most 256, got 8 ** 3",
        ),
        (
            {"gate-mode": "evidence", "objective": "both"},
            "gate-mode=evidence cannot go with training.objective=both",
        ),
        (
            {"gate-mode": "evidence", "private-parameters": "head"},
            "gate-mode=evidence cannot go with network.private-parameters=head",
        ),
        (
            {"gate-mode": "evidence", "head": "target-attention"},
            "gate-mode=evidence cannot go with network.head=target-attention",
        ),
        ({"run.name": "a/b"}, "run.name may hold letters, digits, '.', '_' and '-' only"),
        ({"run.name": ".."}, "run.name may hold letters"),
        ({"run.name": "off"}, "and is not off, got 'off'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes(values: Values, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_flat(full_names(values))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


NO_LABELS: Values = {"history-feedback": False, "history-rates": False}


@pytest.mark.parametrize(
    ("changes", "mode"),
    [
        ({}, "switch"),
        (NO_LABELS, "evidence"),
        ({"history-feedback": False}, "switch"),
        ({"history-rates": False}, "switch"),
        ({**NO_LABELS, "item-statistics": True}, "switch"),
        ({**NO_LABELS, "num-experts": 1}, "switch"),
        ({**NO_LABELS, "num-experts": 4, "num-layers": 4}, "evidence"),
        ({**NO_LABELS, "num-experts": 4, "num-layers": 5}, "switch"),
        ({**NO_LABELS, "private-parameters": "head"}, "switch"),
        ({**NO_LABELS, "head": "target-attention", "num-layers": 1}, "switch"),
        ({**NO_LABELS, "objective": "both"}, "switch"),
        ({**NO_LABELS, "gate-mode": "hard"}, "hard"),
        ({"gate-mode": "evidence"}, "evidence"),
    ],
)
def test_labels_choose_groups_where_nothing_else_shows_them(changes: Values, mode: str) -> None:
    config = RunConfig.from_flat(full_names(changes))
    assert config.gate_mode == mode
    assert config.network_arguments()["gate_mode"] == mode


def test_hidden_gate_input_without_feedback_is_fine() -> None:
    config = RunConfig.from_flat(full_names({"gate-input": "hidden", "history-feedback": False}))
    assert config.network.gate_input == "hidden"


def test_folders_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRFF_HOME", "/somewhere")
    assert RunConfig.from_flat({}).dataset_path == Path("/somewhere/data/ml-100k")
    assert RunConfig.from_flat({"data.home": "/other"}).home == Path("/other")
    monkeypatch.delenv("MRFF_HOME")
    assert RunConfig.from_flat({}).home == Path.home() / ".mrff"
    here = RunConfig.from_flat({"data.data-dir": "here"})
    assert here.dataset_path == Path.cwd() / "here"
