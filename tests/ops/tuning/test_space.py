"""The axes of a search: every one holds the default and what the rules may choose."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrff.config import LEARNED_OF, RunConfig
from mrff.config.derived import Objective
from mrff.config.fitting import DataFacts, fitting
from mrff.config.names import SETTINGS
from mrff.ops.tuning.space import SPACES, OneOf, agreeing


@pytest.mark.parametrize("objective", get_args(Objective))
def test_the_defaults_are_in_the_space(objective: Objective) -> None:
    for key, axis in SPACES[objective].items():
        assert axis.holds(SETTINGS[key].plain), key


@pytest.mark.parametrize("kind", LEARNED_OF)
@given(
    facts=st.builds(
        DataFacts,
        users=st.integers(1, 10**6),
        items=st.integers(1, 10**6),
        rows=st.integers(1, 10**8),
        median=st.floats(1, 500),
        longest=st.integers(1, 5000),
        items_have_ids=st.booleans(),
        real_times=st.booleans(),
    )
)
def test_what_fits_is_in_the_space(kind: str, facts: DataFacts) -> None:
    space = SPACES[LEARNED_OF[kind]]
    for one in fitting(RunConfig.from_flat({}).for_data(kind), facts):
        assert one.key not in space or space[one.key].holds(one.value), one


@pytest.mark.parametrize("objective", get_args(Objective))
@given(data=st.data())
def test_no_trial_is_refused_for_what_it_combines(
    objective: Objective, data: st.DataObject
) -> None:
    chosen = {
        key: data.draw(
            st.sampled_from(axis.values) if isinstance(axis, OneOf) else st.just(axis.low)
        )
        for key, axis in SPACES[objective].items()
    }
    settings = agreeing({"training.objective": objective, **chosen})
    RunConfig.from_flat(settings)
    for key in ("network.item-statistics", "network.dropout"):
        assert settings.get(key) == chosen.get(key)


def test_items_statistics_go_without_items_biases() -> None:
    assert agreeing({"network.item-statistics": True, "network.item-bias": True}) == {
        "network.item-statistics": True, "network.item-bias": False,
    }  # fmt: skip
    assert agreeing({"network.item-bias": True}) == {"network.item-bias": True}
