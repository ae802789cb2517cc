from __future__ import annotations

import pytest

from server_app.nodes import MissingNodesError, wait_for_nodes


class Registering:
    """Nodes by time; time passes by sleeping."""

    def __init__(self, times: list[float]) -> None:
        self.now = 0.0
        self.times = times

    def get_node_ids(self) -> list[int]:
        return [i for i, time in enumerate(self.times) if time <= self.now]

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait(grid: Registering, expected: int, timeout: float = 30.0) -> int:
    return wait_for_nodes(
        grid,
        expected,
        timeout=timeout,
        clock=lambda: grid.now,
        sleep=grid.sleep,  # type: ignore[arg-type]
    )


def test_it_waits_until_the_expected_nodes_are_there() -> None:
    grid = Registering([0.0, 1.0, 7.0])
    assert wait(grid, 3) == 3
    assert 7.0 <= grid.now < 8.0


def test_it_does_not_wait_when_all_are_there() -> None:
    grid = Registering([0.0] * 4)
    assert wait(grid, 4) == 4
    assert grid.now == 0.0


def test_an_unknown_number_is_settled_when_no_more_come() -> None:
    grid = Registering([0.01 * i for i in range(300)])
    assert wait(grid, 0) == 300
    assert 5.0 <= grid.now < 6.0


def test_too_few_in_time_is_an_error_with_both_numbers() -> None:
    grid = Registering([0.0, 1.0])
    with pytest.raises(MissingNodesError, match=r"2 of 5 expected nodes .* node-wait-seconds=30"):
        wait(grid, 5)
    with pytest.raises(MissingNodesError, match="0 of at least 1 expected nodes"):
        wait(Registering([]), 0)
