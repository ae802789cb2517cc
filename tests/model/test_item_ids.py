"""Items without a row of their own: two hashed rows, or features alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mrff_model.item_ids import HASHES, hashes_of
from tests.support.small_data import NUM_ITEMS, small_config, small_dataset, small_network


def test_padding_has_no_row_and_items_have_one_in_each_half() -> None:
    table = hashes_of(torch.arange(1001), 16)
    assert table[0].tolist() == [0, 0]
    assert table.shape == (1001, HASHES)
    assert table[1:].min(0).values.tolist() == [1, 17]
    assert table[1:].max(0).values.tolist() == [16, 32]


def test_by_hand() -> None:
    """0x9E3779B1 is 0.618 of 2**32, twice that 0.236 of it; 0x85EBCA6B is 0.523, twice 0.046."""
    assert hashes_of(torch.tensor([0, 1, 2]), 100).tolist() == [[0, 0], [62, 153], [24, 105]]


@given(st.integers(1, 2**20), st.integers(1, 2**24))
def test_rows_lie_in_the_table_whatever_its_size(item: int, rows: int) -> None:
    first, second = hashes_of(torch.tensor([item]), rows)[0].tolist()
    assert 1 <= first <= rows < second <= 2 * rows


@pytest.mark.parametrize("items", [4000, 70_000])
def test_nearly_every_two_items_are_told_apart_and_rows_are_shared_evenly(items: int) -> None:
    rows = items // 8
    table = hashes_of(torch.arange(items + 1), rows)[1:]
    pairs = len(torch.unique(table, dim=0))
    # n items in m**2 places: n * n / 2 / m**2 of them expected to meet, 32 where m = n / 8
    assert items - pairs < 64
    for half in table.T:
        assert torch.bincount(half).max() <= 16  # 8 on average


def test_a_catalogue_that_grows_moves_no_item() -> None:
    tables = [hashes_of(torch.arange(items), 512) for items in (100, 1000, 10_000)]
    for before, after in pairwise(tables):
        assert torch.equal(before, after[: len(before)])


def test_an_item_is_the_mean_of_its_two_rows() -> None:
    config = small_config(item_ids="hashed", hash_rows=5, feature_mix="concat")
    network = small_network(config, small_dataset())
    table = network.item_features.item_id_table.weight
    assert table.shape == (11, 3)
    embedded = network.item_features.embed_all()
    rows = hashes_of(torch.arange(NUM_ITEMS + 1), 5)[1:]
    torch.testing.assert_close(embedded[:, :3], (table[rows[:, 0]] + table[rows[:, 1]]) / 2)
    assert not network.item_features.embed(torch.tensor([0])).any()


def test_features_alone_are_as_the_features_were() -> None:
    """Items of the same features are the same, but for an item's one number in the heads."""
    config = small_config(item_ids="features", feature_mix="concat", objective="both")
    dataset = small_dataset()
    network = small_network(config, dataset)
    assert "item_id" not in network.item_features.tables
    embedded = network.item_features.embed_all()
    codes = torch.from_numpy(
        dataset.item_features["genres"][1:] * 10 + dataset.item_features["category"][1:, None]
    )
    same = (codes[:, None] == codes[None]).all(-1)
    alike = (embedded[:, None] == embedded[None]).all(-1)
    assert same.sum() > NUM_ITEMS
    assert alike[same].all()
    assert network.next_head is not None
    assert len(network.next_head.item_bias.weight) == NUM_ITEMS + 1


def test_embedded_once_and_for_all_items_are_what_they_were() -> None:
    network = small_network(small_config(item_ids="hashed", hash_rows=5), small_dataset())
    items = torch.tensor([[0, 3], [NUM_ITEMS, 1]])
    before, everything = network.item_features.embed(items), network.item_features.embed_all()
    with network.item_features.fixed():
        assert torch.equal(network.item_features.embed(items), before)
        assert torch.equal(network.item_features.embed_all(), everything)
        with torch.no_grad():
            network.item_features.item_id_table.weight.add_(1.0)
    assert not torch.equal(network.item_features.embed(items), before)  # it learns on
