"""GPFedRec: the graph of users by hand, a user's step by hand, and what its server sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from client_app.learners.negatives import samples_of
from mrff.experiments.rivals.graph_guided import (
    LAYERS,
    WIDTH,
    GraphGuided,
    Rates,
    neighbour_weights,
    scores_of,
)
from tests.support.small_data import small_config, small_dataset

CONFIG = small_config(objective="next", algorithm="fedmf", local_batch="all", negatives=1)


def test_users_are_joined_with_those_more_alike_than_the_mean_pair() -> None:
    """Cosines are 1, 0.6, 0 / 0.6, 1, 0.8 / 0, 0.8, 1, their mean is 0.644."""
    tables = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]], [[0.0, 2.0]]])
    expected = [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.5, 0.5]]
    assert neighbour_weights(tables).tolist() == expected


def test_equal_tables_leave_everybody_with_their_own() -> None:
    weights = neighbour_weights(torch.ones(3, 2, 2))
    torch.testing.assert_close(weights @ torch.ones(3, 4), torch.ones(3, 4))


def test_a_users_network_is_an_ordinary_one() -> None:
    rounds = GraphGuided(small_dataset(), CONFIG)
    own = {name: values[:1] for name, values in rounds.own.items()}
    layers: list[nn.Module] = []
    for number in range(len(LAYERS) - 1):
        linear = nn.Linear(LAYERS[number], LAYERS[number + 1])
        linear.weight.data = own[f"weight.{number}"][0].T
        linear.bias.data = own[f"bias.{number}"][0]
        layers += [linear, nn.ReLU()]
    items = rounds.shared[1:4]
    expected = nn.Sequential(*layers[:-1])(torch.cat([own["user"].expand(3, -1), items], 1))
    torch.testing.assert_close(scores_of(own, items[None])[0], expected.squeeze(1))


def test_rows_without_a_sample_are_only_pulled() -> None:
    """By 2 * 0.1 * (80 N - 1) / (N d) of the way to the neighbours' average, N = 12, d = 32."""
    dataset, config = small_dataset((9, 4, 6)), small_config(objective="next", negatives=0)
    rounds = GraphGuided(dataset, config)
    rounds.averages = rounds.averages + 1.0
    begin = rounds.shared.clone()
    samples = samples_of(dataset, rounds.users, config, 1)
    rounds.train()
    share = 2 * 0.1 * (80 * 12 - 1) / (12 * WIDTH)
    for user in range(len(rounds.users)):
        free = np.setdiff1d(np.arange(1, 13), samples.items[user])
        assert len(free)
        found = rounds.tables[user][free] - begin[free]
        torch.testing.assert_close(found, torch.full_like(found, share), atol=1e-5, rtol=1e-5)


def test_a_round_begins_at_the_mean_and_learns() -> None:
    gentle = Rates(network=0.01, factor=20.0)
    rounds = GraphGuided(small_dataset((20, 30, 25)), CONFIG, rates=gentle)
    losses = [rounds.train() for _ in range(12)]
    assert losses[-1] < losses[0]
    expected = (neighbour_weights(rounds.tables) @ rounds.tables.flatten(1)).mean(0)
    torch.testing.assert_close(rounds.shared.flatten(), expected)


def test_its_server_sees_which_items_a_user_met_or_drew() -> None:
    """The attack: in the table that a user sends, only their samples' rows differ."""
    dataset = small_dataset()
    rounds = GraphGuided(dataset, CONFIG, rates=replace(Rates(), pull=0.0))
    begin = rounds.shared.clone()
    samples = samples_of(dataset, rounds.users, CONFIG, 1)
    rounds.train()
    for user in range(len(rounds.users)):
        moved = torch.nonzero((rounds.tables[user] != begin).any(1)).squeeze(1).tolist()
        assert moved == np.unique(samples.items[user][samples.real[user]]).tolist()


@pytest.mark.parametrize("met", ["training", "all"])
def test_scores_are_of_the_users_own_tables(met: str) -> None:
    rounds = GraphGuided(small_dataset(), CONFIG, "all" if met == "all" else "training")
    rounds.train()
    ((rows, scores),) = rounds.scores()
    assert rows.tolist() == [0, 1, 2, 3]
    own = {name: values[2:3] for name, values in rounds.own.items()}
    torch.testing.assert_close(scores[2], scores_of(own, rounds.tables[2:3, 1:])[0])


def test_users_too_short_for_the_split_train_and_are_not_scored() -> None:
    rounds = GraphGuided(small_dataset((9, 2, 6, 1)), CONFIG)
    assert rounds.users.tolist() == [0, 2]
    assert sorted(rounds.everybody) == [0, 1, 2, 3]
    begin = rounds.shared.clone()
    rounds.train()
    assert all((table != begin).any() for table in rounds.tables)
    scored = [(row, len(scores)) for rows, scores in rounds.scores() for row in [rows.tolist()]]
    assert scored == [([0, 1], 2)]
