"""The axes of a search: every one holds the default and what the rules may choose."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrff.config import LEARNED_OF, RunConfig
from mrff.config.fitting import DataFacts, fitting
from mrff.config.names import SETTINGS
from mrff.config.run_config import Objective
from mrff.ops.tuning.space import SPACES


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
    )
)
def test_what_fits_is_in_the_space(kind: str, facts: DataFacts) -> None:
    space = SPACES[LEARNED_OF[kind]]
    for one in fitting(RunConfig.from_flat({}).for_data(kind), facts):
        assert one.key not in space or space[one.key].holds(one.value), one
