"""Labels of the same time: numbers worked by hand, and no flipped label where it is not known."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.learners.base import training_batch
from mrff.data.dataset import Dataset
from mrff_model.batch import Batch
from mrff_model.network import MRFFNetwork
from mrff_model.own_rates import own_rates
from mrff_model.same_time import SAME_TIME
from tests.support.small_data import at_times, small_config, small_dataset, small_network

EVERYTHING = {"item_bias": True, "user_features": True, "history_rates": True, "num_layers": 2}
SWITCHES: list[dict[str, object]] = [
    {**EVERYTHING, "user_factors": True},
    {**EVERYTHING, "user_factors": False, "objective": "both"},
    {**EVERYTHING, "backbone": "hstu", "gate_mode": "hard"},
    {"history_rates": False, "backbone": "linear"},
    {"history_feedback": False, "gate_input": "hidden"},
]


def window(feedback: list[int], times: list[int]) -> Batch:
    """One user's only window."""
    codes = torch.tensor([[feedback]])
    zeros = torch.zeros_like(codes)
    clock = (torch.tensor([[times]]),)
    return Batch(zeros, codes, zeros, zeros.float(), zeros > 0, zeros == 0, {}, times=clock)


def test_five_rows_by_hand() -> None:
    """Rows at 10, 10, 10, 20, 20; the first three liked, not, liked, the fourth not."""
    batch = window([0, 2, 1, 2, 1], [10, 10, 10, 20, 20])
    rule = SAME_TIME["unknown"]
    # Position 3 holds row 2, at 10, and its target is at 20: that label alone may be shown.
    assert rule.feedback(batch).tolist() == [[[0, 0, 0, 2, 0]]]
    assert rule.known_until(batch).tolist() == [[[0, 0, 0, 3, 3]]]
    kinds = {"kind": torch.tensor([[[0, 1, 1, 2, 1]]])}
    targets = {"kind": torch.tensor([[[1, 1, 2, 1, 1]]])}
    found = own_rates(batch.feedback, kinds, targets, until=rule.known_until(batch))[0, 0]
    nothing = [0.0] * 6
    # At 20 rows 0 to 2 are known, 2 of 3 liked: r = 3/5; of kind 1 one of two: (1 + 6/5) / 4.
    logit = math.log(0.6 / 0.4)
    of_kind = math.log(0.55 / 0.45) - logit
    known = [logit, math.log(4) / 4, 0.0, 0.5, of_kind, math.log(3) / 4]
    torch.testing.assert_close(found, torch.tensor([nothing] * 3 + [known] * 2))

    rule = SAME_TIME["known"]
    assert rule.feedback(batch) is batch.feedback
    assert rule.known_until(batch).tolist() == [0, 1, 2, 3, 4]


def dataset_at(gaps: list[int]) -> Dataset:
    """Two users with as many rows, whose times have these gaps; the second user's are doubled."""
    times = np.cumsum(gaps)
    return at_times(small_dataset((len(gaps), len(gaps))), np.concatenate([times, 2 * times]))


def moved(network: MRFFNetwork) -> MRFFNetwork:
    """Away from the zeros that new users start with."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network


gaps = st.lists(st.sampled_from([0, 0, 1, 7, 100_000]), min_size=3, max_size=14)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(map(str, s.values())))
@settings(max_examples=25, deadline=None)
@given(gaps=gaps, data=st.data())
def test_a_label_reaches_no_logit_of_its_own_time_or_of_an_earlier_one(
    switches: dict[str, object], gaps: list[int], data: st.DataObject
) -> None:
    """Through records, batch and network; of two windows where there are so many rows."""
    dataset = dataset_at(gaps)
    config = small_config(same_time="unknown", max_windows_per_user="all", **switches)  # type: ignore[arg-type]
    network = moved(small_network(config, dataset))
    users, row = np.arange(2), data.draw(st.integers(0, len(gaps) - 1))
    labels = dataset.labels.copy()
    labels[row] = 1 - labels[row]
    with torch.no_grad():
        batches = [
            training_batch(data, users, config)
            for data in (dataset, replace(dataset, labels=labels))
        ]
        before, after = (network(batch).logits for batch in batches)
    (times,), real = batches[0].times, batches[0].real
    assert dataset.times is not None
    is_known = times > dataset.times[row]
    is_known[1] = False  # the other user
    assert torch.equal(before[real & ~is_known], after[real & ~is_known])
    if not switches.get("history_rates", True):
        return  # a label within a run of one time is then shown to nobody
    for number, rows in enumerate(_rows_of_windows(len(gaps) - 2, config.data.window_length)):
        follows = is_known[0, number] & real[0, number] & (row in rows)
        assert (before[0, number] != after[0, number])[follows].all()


def _rows_of_windows(size: int, length: int) -> list[list[int]]:
    """Rows of a training part of ``size`` that each window has, the earliest window first."""
    bounds = sorted({0, *range(size, 0, -length)})
    return [list(range(first, last)) for first, last in pairwise(bounds)]


@pytest.mark.parametrize("switches", SWITCHES[:3])
def test_rows_of_different_times_are_computed_as_if_all_were_known(
    switches: dict[str, object],
) -> None:
    """Bit for bit; where nobody reads times, a batch has none."""
    dataset = dataset_at([1] * 9)
    unknown = small_config(same_time="unknown", **switches)  # type: ignore[arg-type]
    known = small_config(**switches)  # type: ignore[arg-type]
    users = np.arange(2)
    usual = training_batch(replace(dataset, times=None, knows_same_time=True), users, known)
    assert usual.times == ()
    batch = training_batch(dataset, users, unknown)
    with torch.no_grad():
        one = moved(small_network(unknown, dataset))(batch)
        other = moved(small_network(known, dataset))(usual)
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.surprise, other.surprise)


def test_after_the_whole_window_every_label_is_known() -> None:
    """Somebody asks now: the last row's label counts, though the one before has its time."""
    dataset, config = dataset_at([0] * 6), small_config(same_time="unknown")
    network = moved(small_network(config, dataset))
    batch = training_batch(dataset, np.arange(2), config)
    flipped = batch.feedback.clone()
    flipped[:, :, -2:] = 3 - flipped[:, :, -2:]
    clock = batch.times[0].clone()
    clock[:, :, -1] += 1
    with torch.no_grad():
        one, other = (
            network.score_items(batch._replace(feedback=f, times=(clock,)), torch.arange(1, 5))
            for f in (batch.feedback, flipped)
        )
    assert (one.logits != other.logits).all()


def test_a_batch_without_times_is_refused() -> None:
    dataset = small_dataset()
    network = small_network(small_config(same_time="unknown"), dataset)
    batch = training_batch(dataset, np.arange(2), small_config())
    with pytest.raises(ValueError, match="same-time=unknown needs the times of the targets"):
        network(batch)
