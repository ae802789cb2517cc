"""The registry of methods."""

from __future__ import annotations

import pytest

from mrff.config import ConfigError, RunConfig
from mrff.config.methods import METHODS, method_named, overrides_of
from mrff.config.names import SETTINGS


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_configuration_that_can_run(name: str) -> None:
    method = method_named(name)
    assert method.name == name
    assert method.overrides.keys() <= SETTINGS.keys()
    config = RunConfig.from_flat(overrides_of(name, {"seed": 3}))
    assert config.training.seed == 3
    flat = config.to_flat()
    assert all(flat[key] == value for key, value in method.overrides.items())


def test_no_two_methods_are_the_same() -> None:
    told = [(m.kind, tuple(sorted(m.overrides.items()))) for m in METHODS.values()]
    federated = [entry for entry in told if entry[0] not in ("pooled", "floor")]
    assert len(set(federated)) == len(federated)


def test_an_ablation_changes_what_it_says_and_wins_over_the_dataset() -> None:
    base = {"num-experts": 8, "dropout": 0.1}
    kept = {"network.num-experts": 8, "network.dropout": 0.1}
    assert overrides_of("one-group", base) == {**kept, "network.num-experts": 1}
    assert overrides_of("mrff", base) == kept
    assert base["num-experts"] == 8


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'one-grup'; did you mean one-group\?"):
        method_named("one-grup")
    with pytest.raises(ConfigError, match="known methods: mrff, "):
        overrides_of("zzz")
