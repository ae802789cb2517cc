"""What the clock says: columns by hand, order of buckets, finite whatever the times are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.learners.base import training_batch
from mrff_model.batch import Batch
from mrff_model.time_columns import GAP_EDGES, TICKS, TIME_COLUMNS, time_columns
from tests.support.small_data import at_times, small_config, small_dataset, small_network

SPANS = slice(0, len(GAP_EDGES) + 1)


def columns_of(times: list[int], *, newest: bool = False) -> torch.Tensor:
    """(T, C) of one window at these nanoseconds."""
    zeros = torch.zeros(1, 1, len(times), dtype=torch.int64)
    clock = (torch.tensor([[times]]),)
    batch = Batch(zeros, zeros, zeros, zeros.float(), zeros > 0, zeros == 0, {}, times=clock)
    return time_columns(batch, newest=newest)[0, 0]


def test_a_window_by_hand() -> None:
    """At midnight, again, 59 seconds later, at 6 in the morning, and 31 days after that."""
    seconds = [0, 0, 59, 6 * 3600, 31 * 86_400 + 6 * 3600]
    day = 15_000 * 86_400
    found = columns_of([(day + second) * TICKS for second in seconds])
    assert found.shape == (5, TIME_COLUMNS)
    assert found[:, SPANS].argmax(-1)[1:].tolist() == [0, 1, 3, 5]
    assert found[:, SPANS].sum(-1).tolist() == [0, 1, 1, 1, 1]  # a window's first has no gap
    gaps = [0, 0, 59, 6 * 3600 - 59, 31 * 86_400]
    expected = [
        [math.log1p(gap) / 16, math.log1p(since) / 16, math.sin(angle), math.cos(angle)]
        for gap, since, angle in zip(
            gaps, seconds, [2 * math.pi * (s % 86_400) / 86_400 for s in seconds], strict=True
        )
    ]
    torch.testing.assert_close(found[:, -4:], torch.tensor(expected))
    newest = columns_of([(day + second) * TICKS for second in seconds], newest=True)
    assert torch.equal(newest, found[-1:])


def test_longer_gaps_are_never_in_an_earlier_bucket() -> None:
    gaps = [0, 1, TICKS - 1, *(edge * TICKS + more for edge in GAP_EDGES for more in (-1, 0, 1))]
    found = torch.stack([columns_of([5, 5 + gap])[1] for gap in sorted(gaps)])
    buckets = found[:, SPANS].argmax(-1)
    assert buckets.tolist() == sorted(buckets.tolist())
    assert set(buckets.tolist()) == set(range(len(GAP_EDGES) + 1))
    assert (found[1:, -4] >= found[:-1, -4]).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**62) + 1, 2**62 - 1), min_size=1, max_size=6), st.booleans())
def test_no_times_make_a_number_that_is_none(times: list[int], newest: bool) -> None:
    """Before 1970, in the far future, backwards, all equal."""
    found = columns_of(times, newest=newest)
    assert found.shape == (1 if newest else len(times), TIME_COLUMNS)
    assert torch.isfinite(found).all()
    assert found.abs().max() < 2
    assert torch.equal(columns_of([*times, times[-1]])[-1, SPANS].nonzero()[0], torch.tensor([0]))


def test_a_gap_below_zero_is_none() -> None:
    assert columns_of([5 * TICKS, 2 * TICKS])[1, SPANS].argmax() == 0


@pytest.mark.parametrize("changes", [{}, {"history_rates": False}, {"objective": "both"}])
@pytest.mark.parametrize("same_time", ["known", "unknown"])
def test_the_head_reads_the_clock_of_its_target(same_time: str, changes: dict[str, Any]) -> None:
    """A later row moves its own logit; in what is read after it, only the gap and what follows."""
    config = small_config(time_inputs=True, same_time=same_time, **changes)
    sizes = (9, 9)
    times = np.tile(np.arange(9) * 100, 2) * TICKS
    later = times.copy()
    later[3] += 50 * TICKS
    network = small_network(config, at_times(small_dataset(sizes), times))
    logits = []
    for clock in (times, later):
        batch = training_batch(at_times(small_dataset(sizes), clock), np.arange(2), config)
        with torch.no_grad():
            logits.append(network(batch).logits)
    moved = (logits[0] != logits[1]).nonzero().tolist()
    assert moved == [[0, 0, 3], [0, 0, 4]]
