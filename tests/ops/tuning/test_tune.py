"""What a search varies on which data, and beside which settings. No run is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from mrff.ops.simulation import Values
from mrff.ops.tuning.space import ITEM_SUMS
from mrff.ops.tuning.trials import Standing, StoppedError, Workshop
from mrff.ops.tuning.tune import Found, tune
from tests.support.tied_data import tied

CLOCK = "network.time-inputs"


@dataclass
class MadeUp:
    """Answers as three runs would; the fourth one ends with the budget."""

    home: Path
    seen: list[Values] = field(default_factory=list)

    def run(self, name: str, values: Values, watch: Callable[[Standing], bool]) -> float | None:
        self.seen.append(values)
        if len(self.seen) == 4:
            raise StoppedError
        return 0.5


def searched(data: Path, home: Path, values: Values) -> tuple[Found, list[Values]]:
    """A search of four runs, and their settings."""
    made_up = MadeUp(home)
    found = tune(data, values, cast("Workshop", made_up), 60.0, lambda told: None)
    assert len(made_up.seen) == 4
    return found, made_up.seen


def test_the_clock_is_read_only_where_times_are_times(small_data: Path, tmp_path: Path) -> None:
    _, numbered = searched(small_data, tmp_path / "numbered", {})
    assert not any(CLOCK in values for values in numbered)
    _, dated = searched(tied(small_data, tmp_path / "tied"), tmp_path / "dated", {})
    assert all(CLOCK in values for values in dated)


def test_item_sums_are_tried_first_unless_something_excludes_them(
    small_data: Path, tmp_path: Path
) -> None:
    _, seen = searched(small_data, tmp_path / "open", {})
    assert [one["network.item-statistics"] for one in seen[:2]] == [True, False]
    assert seen[0]["network.item-bias"] is False
    excluding: list[Values] = [{"network.item-bias": True}, {"network.private-parameters": "all"}]
    for number, values in enumerate(excluding):
        _, seen = searched(small_data, tmp_path / str(number), values)
        assert not any(key in one for one in seen for key in ITEM_SUMS)


@pytest.mark.parametrize("said", [True, False])
def test_what_is_said_is_not_varied(small_data: Path, tmp_path: Path, said: bool) -> None:
    _, seen = searched(small_data, tmp_path, {"network.item-statistics": said})
    assert {values["network.item-statistics"] for values in seen} == {said}
