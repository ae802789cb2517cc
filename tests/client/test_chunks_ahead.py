"""With a GPU the host prepares the next chunk meanwhile: same chunks, same order, same numbers.

No GPU is needed here: what is told apart is the kind of device.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from client_app.learners import chunks as chunks_module
from client_app.learners import cohort as cohort_learner
from client_app.learners import side_by_side
from client_app.learners.chunks import compute_ahead
from client_app.learners.cohort import CohortLearner
from tests.support.small_data import plain_client, small_config, small_dataset
from tests.support.small_training import EVERYBODY, SIZES, cohort_of, model_of, network_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def some_chunks(number: int = 4) -> list[np.ndarray]:
    return [np.array([2 * n, 2 * n + 1]) for n in range(number)]


def test_the_next_chunk_is_prepared_while_this_one_is_computed() -> None:
    prepared = {n: threading.Event() for n in (0, 2, 4, 6)}

    def prepare(rows: np.ndarray) -> int:
        prepared[int(rows[0])].set()
        return int(rows[0])

    def work(rows: np.ndarray, ready: int) -> bool:
        assert ready == rows[0]
        return ready == 6 or prepared[ready + 2].wait(timeout=20)

    found = list(compute_ahead(some_chunks(), prepare, work, GPU))
    assert [(rows.tolist(), done) for rows, done in found] == [
        ([0, 1], True), ([2, 3], True), ([4, 5], True), ([6, 7], True)
    ]  # fmt: skip


def test_a_cpu_does_one_thing_after_the_other() -> None:
    done: list[str] = []

    def prepare(rows: np.ndarray) -> int:
        assert threading.current_thread() is threading.main_thread()
        done.append(f"prepare {rows[0]}")
        return int(rows[0])

    def work(rows: np.ndarray, _: int) -> None:
        done.append(f"work {rows[0]}")

    list(compute_ahead(some_chunks(2), prepare, work, CPU))
    assert done == ["prepare 0", "work 0", "prepare 2", "work 2"]


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("where", ["prepare", "work"])
def test_a_chunk_that_does_not_fit_is_halved_and_the_next_one_is_not_lost(
    device: torch.device, where: str
) -> None:
    def fails(at: str, rows: np.ndarray) -> None:
        if at == where and len(rows) > 1 and rows[0] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def prepare(rows: np.ndarray) -> list[int]:
        fails("prepare", rows)
        return list(rows.tolist())

    def work(rows: np.ndarray, ready: list[int]) -> list[int]:
        fails("work", rows)
        return ready

    found = list(compute_ahead(some_chunks(), prepare, work, device))
    assert [done for _, done in found] == [[0, 1], [2], [3], [4, 5], [6, 7]]
    assert all(rows.tolist() == done for rows, done in found)


@pytest.mark.parametrize("device", [CPU, GPU])
def test_what_fails_on_the_host_is_said(device: torch.device) -> None:
    def prepare(rows: np.ndarray) -> None:
        if rows[0] == 4:
            raise ValueError("row 4 is damaged")

    with pytest.raises(ValueError, match="row 4 is damaged"):
        list(compute_ahead(some_chunks(), prepare, lambda rows, _: rows, device))
    assert not [t for t in threading.enumerate() if t.name.startswith("next-chunk")]


@pytest.mark.parametrize("objective", ["click", "next"])
def test_a_learner_finds_the_same_numbers(monkeypatch: pytest.MonkeyPatch, objective: str) -> None:
    settings: dict[str, Any] = {"objective": objective, "dropout": 0.3, "gate_input": "auto"}
    config, dataset = small_config(**settings), small_dataset(SIZES)
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, EVERYBODY)
    monkeypatch.setattr(cohort_learner, "CACHE_POSITIONS", 16)
    found = []
    for device in (CPU, GPU):
        told = partial(chunks_module.compute_ahead, device=device)

        def ahead(chunks: Any, prepare: Any, work: Any, _: Any, told: Any = told) -> Any:
            assert len(chunks) > 1 or prepare.__qualname__.startswith("CohortLearner.score")
            return told(chunks, prepare, work)

        for module in (cohort_learner, side_by_side):
            monkeypatch.setattr(module, "compute_ahead", ahead)
        learner = CohortLearner(network, config)
        trained = learner.train(model, cohort, plain_client(config, dataset))
        found.append((trained, learner.score(model, cohort, "test")))
    (trained, scored), (ahead_trained, ahead_scored) = found
    for name, total in trained.sums.updates.items():
        np.testing.assert_array_equal(total, ahead_trained.sums.updates[name])
    np.testing.assert_array_equal(scored.logits, ahead_scored.logits)
    assert trained.routes.tolist() == ahead_trained.routes.tolist()
