"""How long after one another past items came: by hand, and never of what is yet to come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from client_app.learners.base import training_batch
from mrff.config import ConfigError, RunConfig
from mrff_model.batch import Batch
from mrff_model.history_times import EDGES, gap_codes
from mrff_model.network import MRFFNetwork
from mrff_model.time_columns import DAY, TICKS
from tests.support.small_data import at_times, small_config, small_dataset, small_network

START = 15_000 * DAY * TICKS  # a day of 2011


def codes_of(times: list[int]) -> list[int]:
    """Of one window without padding whose targets come at these nanoseconds."""
    items = torch.arange(len(times))[None, None]
    clock = (torch.tensor([[times]]),)
    batch = Batch(items, items, items, items.float(), items > 0, items >= 0, {}, times=clock)
    found: list[int] = gap_codes(batch)[0, 0].tolist()
    return found


def test_gaps_by_hand() -> None:
    """The start, an item without one before it, one of the same second, 59 s later, 200 days."""
    seconds = [0, 0, 59, 59 + 200 * DAY, 7]
    times = [START + second * TICKS for second in seconds]
    assert codes_of(times) == [0, 0, 1, 4, 1 + len(EDGES)]
    assert codes_of([*times, 0]) == [0, 0, 1, 4, 1 + len(EDGES), 1]  # a clock that went back
    assert codes_of(times[:1]) == [0]
    assert codes_of(times[:2]) == [0, 0]


def test_every_edge_begins_a_span() -> None:
    for number, edge in enumerate(EDGES):
        for more, code in ((-1, number + 1), (0, number + 2)):
            assert codes_of([START, START + edge * TICKS + more, START * 2])[2] == code


def test_items_of_nobody_knows_when_have_no_gap() -> None:
    assert codes_of([0, 1, 2, 3]) == [0, 0, 0, 0]


def moved(**changes: Any) -> tuple[MRFFNetwork, Batch]:
    """A network whose table of gaps is not 0, and users with times of all spans."""
    config = small_config(history_times=True, sampling_rate=1.0, **changes)
    spans = np.resize([0, 5, 90 * DAY, 40, 3_600], 18)
    dataset = at_times(small_dataset((9, 9)), START + np.cumsum(spans) * TICKS)
    network = small_network(config, dataset)
    assert network.history_times is not None
    torch.manual_seed(0)
    with torch.no_grad():
        network.history_times.table.weight[1:].normal_()
    return network, training_batch(dataset, np.arange(2), config)


@pytest.mark.parametrize("objective", ["next", "both", "click"])
def test_no_state_depends_on_when_its_answer_came_bit_for_bit(objective: str) -> None:
    network, batch = moved(objective=objective)
    before, (times,) = network(batch), batch.times
    for place in range(1, times.shape[-1] - 1):
        later = times.clone()
        later[..., place:] += 365 * DAY * TICKS
        after = network(batch._replace(times=(later,)))
        for one, other in ((before.surprise, after.surprise), (before.logits, after.logits)):
            assert torch.equal(one[..., : place + 1], other[..., : place + 1])
        moves = before.surprise if objective == "next" else before.logits
        again = after.surprise if objective == "next" else after.logits
        assert not torch.equal(moves[..., place + 1 :], again[..., place + 1 :])


def test_an_answer_is_that_of_the_last_position_whenever_it_is_asked_for() -> None:
    network, batch = moved(objective="next")
    batch = batch.map(lambda field: field[:, :1] if field.dim() == 3 else field)
    last = torch.full((2, 1), batch.items.shape[-1] - 1)
    whole = network(batch, rank_at=last).scores[:, 0]
    items = torch.arange(1, whole.shape[1] + 1)
    now = torch.eye(batch.items.shape[-1])[-1].long()
    later = batch._replace(times=(batch.times[0] + now * 10**17,))
    for asked in (batch, later):
        torch.testing.assert_close(network.score_items(asked, items).scores[:, 0], whole)


def test_a_batch_without_times_is_refused() -> None:
    network, batch = moved()
    with pytest.raises(ValueError, match=r"history-times=true needs the times"):
        network(batch._replace(times=()))


def test_a_head_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"history-times=true cannot go with .*head=linear"):
        RunConfig.from_flat({"network.history-times": True, "network.head": "linear"})
