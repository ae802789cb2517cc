"""What a run learns: by the data, unless the configuration says it."""

from __future__ import annotations

from typing import get_args

import pytest

from mrff.config import LEARNED_OF, ConfigError, RunConfig
from mrff.data.schema import RowKind


def test_every_kind_of_rows_has_an_objective() -> None:
    assert set(LEARNED_OF) == set(get_args(RowKind))


@pytest.mark.parametrize(
    ("kind", "objective", "best_by", "gate", "mix"),
    [
        ("labelled", "click", "auc", "history", "concat"),
        ("events", "next", "ndcg10", "earlier", "sum"),
        ("both", "both", "auc_ndcg10", "earlier", "sum"),
    ],
)
def test_auto_follows_the_kind_and_what_depends_on_it_follows(
    kind: str, objective: str, best_by: str, gate: str, mix: str
) -> None:
    config = RunConfig.from_flat({}).for_data(kind)
    assert config.training.objective == config.objective == objective
    assert (config.best_by, config.gate_input, config.feature_mix) == (best_by, gate, mix)
    arguments = config.network_arguments()
    assert (arguments["objective"], arguments["gate_input"]) == (objective, gate)
    stored = RunConfig.from_flat(config.to_flat())
    assert stored == config == config.for_data(kind)  # a stored run needs no data to be read


@pytest.mark.parametrize("objective", ["click", "next", "both"])
@pytest.mark.parametrize("kind", ["labelled", "both"])
def test_what_is_said_is_not_decided_again(kind: str, objective: str) -> None:
    config = RunConfig.from_flat({"training.objective": objective})
    assert config.for_data(kind).objective == objective


@pytest.mark.parametrize("objective", ["click", "both"])
def test_events_have_no_click_to_learn(objective: str) -> None:
    config = RunConfig.from_flat({"training.objective": objective, "data.dataset": "plays"})
    with pytest.raises(ConfigError, match=r"choose training\.objective=next") as error:
        config.for_data("events")
    assert f"training.objective={objective} cannot go with data.dataset=plays" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_go_with_the_objective_is_refused_once_it_is_known() -> None:
    linear = RunConfig.from_flat({"training.linear-items": 10})
    assert linear.for_data("events").training.linear_items == 10
    with pytest.raises(ConfigError, match=r"linear-items=10 cannot go with training\.objective=cl"):
        linear.for_data("labelled")
    gate = RunConfig.from_flat({"network.gate-input": "history"})
    assert gate.for_data("labelled").gate_input == "history"
    with pytest.raises(ConfigError, match=r"gate-input=history cannot go with .*objective=next"):
        gate.for_data("events")
