"""Chunks: everyone once, similar lengths together, within their limits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client_app.learners.base import training_batch
from client_app.learners.chunks import ChunkLimits, chunks_of, training_sizes
from tests.support.small_data import small_config, small_dataset

NO_LIMIT = ChunkLimits(
    positions=10**9, memory=10**9, memory_per_position=0, memory_per_user=1
)  # fmt: skip


def test_users_of_similar_length_come_together() -> None:
    sizes = np.array([[1, 9], [1, 2], [1, 8], [1, 2], [2, 10]])
    limits = ChunkLimits(positions=20, memory=10**9, memory_per_position=1, memory_per_user=1)
    chunks = [chunk.tolist() for chunk in chunks_of(sizes, limits)]
    assert chunks == [[1, 3], [2, 0], [4]]  # 2 x 2, then 2 x 9, then 1 x 20 padded positions
    assert [sorted(chunk.tolist()) for chunk in chunks_of(sizes, NO_LIMIT)] == [[0, 1, 2, 3, 4]]


def test_memory_counts_positions_and_users() -> None:
    sizes = np.full((10, 2), [1, 5])
    limits = ChunkLimits(positions=10**9, memory=90, memory_per_position=2, memory_per_user=20)
    assert [len(chunk) for chunk in chunks_of(sizes, limits)] == [3, 3, 3, 1]


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 30)), max_size=40),
    st.integers(1, 200), st.integers(1, 500), st.integers(0, 3), st.integers(0, 60),
)  # fmt: skip
def test_everyone_once_and_no_chunk_of_several_beyond_its_limits(
    sizes: list[tuple[int, int]], positions: int, memory: int, per_position: int, per_user: int
) -> None:
    array = np.array(sizes, dtype=np.int64).reshape(-1, 2)
    chunks = chunks_of(array, ChunkLimits(positions, memory, per_position, per_user))
    assert sorted(row for chunk in chunks for row in chunk.tolist()) == list(range(len(sizes)))
    for chunk in chunks:
        padded = len(chunk) * array[chunk].max(axis=0).prod()
        fits = padded <= positions and padded * per_position + len(chunk) * per_user <= memory
        assert fits or len(chunk) == 1


def test_the_sizes_are_those_of_the_records() -> None:
    dataset = small_dataset((3, 9, 10, 11, 30))
    for windows in ("all", 1, 2):
        config = small_config(max_windows_per_user=windows)
        sizes = training_sizes(dataset, np.arange(5), config.data)
        for user, expected in enumerate(sizes.tolist()):
            batch = training_batch(dataset, np.array([user]), config)
            assert list(batch.items.shape[1:]) == expected
