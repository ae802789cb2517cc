"""Times as nanoseconds, and one line where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrff.config import ConfigError, RunConfig, TimesRead
from mrff.data.clock import UNITS, nanoseconds
from mrff.data.dataset import load_dataset
from mrff.data.errors import DataError
from tests.support.small_folders import alternating, write

THEN = np.array([880_000_000, 880_000_000, 880_000_007, 1_700_000_000])


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_found_out_and_equal_times_stay_equal(unit: str) -> None:
    found = nanoseconds(THEN * int(UNITS[unit]))
    assert found is not None
    assert found.tolist() == (THEN * 1_000_000_000).tolist()


@pytest.mark.parametrize("times", [np.arange(50), np.arange(50) * 10**7, np.array([-5, 0])])
def test_counts_since_a_start_are_no_times(times: np.ndarray) -> None:
    assert nanoseconds(times) is None


def test_what_is_too_far_away_stays_in_order() -> None:
    """The year 100,000, by a wrong clock."""
    found = nanoseconds(np.array([-(10**12), *THEN, 3_093_527_980_800]))
    assert found is not None
    assert (np.diff(found) >= 0).all()
    assert found[1:5].tolist() == (THEN * 1_000_000_000).tolist()


def test_inputs_of_time_need_times(tmp_path: Path) -> None:
    """Rows that are numbered; without inputs of time they do."""
    write(tmp_path, alternating(5, 4))
    with pytest.raises(DataError, match=r"no real times, its last is 4: .*time-inputs=false"):
        load_dataset(tmp_path, TimesRead(inputs=True))
    assert load_dataset(tmp_path, TimesRead("unknown")).times is not None


def test_inputs_of_time_are_read_by_the_head_of_clicks() -> None:
    with pytest.raises(ConfigError, match=r"time-inputs=true cannot go with .*objective=next"):
        RunConfig.from_flat({"network.time-inputs": True, "training.objective": "next"})
    config = RunConfig.from_flat({"network.time-inputs": True, "training.objective": "both"})
    assert config.times_read == TimesRead("known", inputs=True)
