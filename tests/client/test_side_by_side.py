"""Chunks on threads of their own: the same bits, in the same order, within bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch.func import functional_call

from client_app.learners import Trained, side_by_side
from client_app.learners import cohort as cohort_learner
from client_app.learners.chunks import compute
from client_app.learners.cohort import CohortLearner
from client_app.learners.side_by_side import chunks_at_once, compute_at_once, replica
from mrff.config import PrivacySettings
from mrff_model.network import MRFFNetwork
from tests.support.private_rounds import private_round
from tests.support.small_data import plain_client, small_config, small_dataset
from tests.support.small_training import EVERYBODY, SIZES, cohort_of, model_of, network_of

SOME = [np.array([2 * n, 2 * n + 1]) for n in range(6)]


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def a_network() -> MRFFNetwork:
    config = small_config()
    return network_of(config, small_dataset(SIZES))


def nothing(rows: np.ndarray) -> None:
    return None


@pytest.mark.usefixtures("two_threads")
def test_two_chunks_are_computed_at_once_and_come_in_their_order() -> None:
    together = threading.Barrier(2, timeout=20)
    second_is_done = threading.Event()

    def work(network: MRFFNetwork, rows: np.ndarray, ready: int) -> int:
        if ready < 4:
            together.wait()
        if ready == 0:  # the later chunk is done first
            assert second_is_done.wait(timeout=20)
        second_is_done.set()
        return ready

    found = list(compute_at_once(SOME, a_network(), lambda rows: int(rows[0]), work))
    assert [(rows[0], done) for rows, done in found] == [(n, n) for n in range(0, 12, 2)]


@pytest.mark.usefixtures("two_threads")
def test_nobody_shares_a_network_and_all_share_its_parameters() -> None:
    whole, seen, lock = a_network(), dict[int, int](), threading.Lock()
    together = threading.Barrier(2, timeout=20)

    def work(network: MRFFNetwork, rows: np.ndarray, _: None) -> None:
        assert network is not whole
        mine = [parameter.data_ptr() for parameter in network.parameters()]
        assert mine == [parameter.data_ptr() for parameter in whole.parameters()]
        with lock:
            assert id(network) not in seen, "two threads at once have one network"
            seen[id(network)] = 1
        together.wait()
        with lock:
            del seen[id(network)]
        together.wait()

    list(compute_at_once(SOME, whole, nothing, work))


def test_a_replica_is_called_with_other_parameters_and_the_network_keeps_its_own() -> None:
    network = a_network()
    other = replica(network)
    name, own = next(iter(network.named_parameters()))
    inside: list[bool] = []
    other.forward = lambda: inside.append(dict(network.named_parameters())[name] is own)  # type: ignore[method-assign]
    functional_call(other, {name: torch.zeros_like(own)}, ())
    assert inside == [True]
    assert dict(other.named_parameters())[name] is own
    copied = [value for value in network.buffers() if value.data_ptr() not in {
        buffer.data_ptr() for buffer in other.buffers()
    }]  # fmt: skip
    assert not copied


@pytest.mark.usefixtures("two_threads")
def test_results_that_nobody_took_stop_the_computation() -> None:
    begun: list[int] = []

    def work(network: MRFFNetwork, rows: np.ndarray, _: None) -> None:
        begun.append(int(rows[0]))

    results = compute_at_once(SOME, a_network(), nothing, work)
    next(results)
    assert len(begun) <= 3  # one that was taken, and one that waits for each thread
    results.close()
    assert len(begun) <= 3


@pytest.mark.usefixtures("two_threads")
def test_a_chunk_that_does_not_fit_is_halved_on_its_thread() -> None:
    def work(network: MRFFNetwork, rows: np.ndarray, _: None) -> list[int]:
        if len(rows) > 1 and rows[0] == 2:
            raise MemoryError
        return list(rows.tolist())

    found = [done for _, done in compute_at_once(SOME[:3], a_network(), nothing, work)]
    assert found == [[0, 1], [2], [3], [4, 5]]


@pytest.mark.usefixtures("two_threads")
def test_what_fails_is_said_and_threads_are_as_many_as_before() -> None:
    def work(network: MRFFNetwork, rows: np.ndarray, _: None) -> None:
        assert torch.get_num_threads() == 1
        if rows[0] == 4:
            raise ValueError("row 4 is damaged")

    with pytest.raises(ValueError, match="row 4 is damaged"):
        list(compute_at_once(SOME, a_network(), nothing, work))
    counts = [torch.get_num_threads()]
    later = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert counts == [2, 2]
    assert not [t for t in threading.enumerate() if t.name.startswith("chunk")]


def test_one_thread_has_the_network_itself_and_a_gpu_one_chunk_at_once() -> None:
    network = a_network()

    def work(given: MRFFNetwork, rows: np.ndarray, _: None) -> bool:
        return given is network and threading.current_thread() is threading.main_thread()

    assert all(done for _, done in compute_at_once(SOME, network, nothing, work))
    torch.set_num_threads(3)
    try:
        assert chunks_at_once(torch.device("cpu")) == 3
        assert chunks_at_once(torch.device("cuda")) == 1
        few = list(compute_at_once(SOME[:1], network, nothing, work))  # all threads are its own
        assert few[0][1]
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"local_steps": 3, "local_optimizer": "adam", "local_learning_rate": 0.03},
        {"gate_mode": "evidence", "history_feedback": False, "history_rates": False},
        {"objective": "next"},
        {"item_statistics": True, "closed_form_factors": 2, "time_inputs": False},
    ],
)
def test_a_round_on_two_threads_has_the_bits_of_one(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_learner, "CACHE_POSITIONS", 16)
    config, dataset = small_config(dropout=0.3, **changes), small_dataset(SIZES)
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, EVERYBODY)

    def a_round() -> Trained:
        learner = CohortLearner(replica(network), config)
        return learner.train(model, cohort, plain_client(config, dataset))

    assert_same_bits(*on_one_and_two_threads(a_round))


def test_clipped_users_on_two_threads_have_the_bits_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort_learner, "CACHE_POSITIONS", 16)
    privacy = PrivacySettings(mode="central-user", clipping_norm=0.5)
    task = private_round(small_dataset(SIZES), EVERYBODY, privacy=privacy)
    assert_same_bits(*on_one_and_two_threads(task.train))


def on_one_and_two_threads(a_round: Callable[[], Trained]) -> list[Trained]:
    """The same round by both, the second one on threads of its own."""
    found = [a_round()]
    torch.set_num_threads(2)
    begun: set[str] = set()
    try:
        with patch.object(side_by_side, "compute", partial(noted, begun)):
            found.append(a_round())
    finally:
        torch.set_num_threads(1)
    assert begun
    assert begun <= {"chunk_0", "chunk_1"}
    return found


def noted(begun: set[str], chunks: list[np.ndarray], work: Callable[..., Any]) -> Any:
    begun.add(threading.current_thread().name)
    return compute(chunks, work)


def assert_same_bits(one: Trained, two: Trained) -> None:
    assert one.sums.updates
    assert one.sums.updates.keys() == two.sums.updates.keys()
    for name, total in one.sums.updates.items():
        np.testing.assert_array_equal(total, two.sums.updates[name])
    for name, rows in one.private.items():
        assert torch.equal(rows, two.private[name])
    assert one.routes.tolist() == two.routes.tolist()
    assert one.kept.tolist() == two.kept.tolist()
