"""Groups by evidence: worked by hand, drawn by their probability, without a held-out label."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from client_app.learners.base import training_batch
from client_app.learners.cohort import CohortLearner
from mrff_model.dropout import Dropout
from mrff_model.evidence import Evidence, chosen_by, history_as_targets
from tests.support.small_data import small_config, small_dataset, small_network
from tests.support.small_training import cohort_of, model_of

KEYLESS = Dropout(0.0, None)


def two_rows(labels: list[float], known: list[bool]) -> Evidence:
    """One user and one layer; expert 0 says +1 and +1, expert 1 says -1 and -1."""
    said = torch.tensor([[1.0, -1.0], [1.0, -1.0]]).view(1, 1, 2, 1, 2)
    logits = torch.zeros(1, 1, 2)
    return Evidence(logits, said, torch.tensor([[labels]]), torch.tensor([[known]]))


def test_two_rows_by_hand() -> None:
    """A like speaks by log s(1) - log s(-1) = 1 nat for expert 0."""
    both = two_rows([1.0, 1.0], [True, True])
    for odds, group in ((1.9, 0), (2.1, 1)):  # what the gate says for expert 1, in nats
        gates = torch.softmax(torch.tensor([[[0.0, odds]]]), dim=-1)
        assert chosen_by(both, gates, KEYLESS).tolist() == [[group]]
    one = two_rows([1.0, 0.0], [True, False])
    for odds, group in ((0.9, 0), (1.1, 1)):
        gates = torch.softmax(torch.tensor([[[0.0, odds]]]), dim=-1)
        assert chosen_by(one, gates, KEYLESS).tolist() == [[group]]


def test_layers_are_chosen_together() -> None:
    """Each layer's first expert is the better one alone; of both layers only one may be it."""
    said = torch.tensor([[[2.0, 0.0], [2.0, 0.0]]]).view(1, 1, 1, 2, 2)
    evidence = Evidence(
        torch.full((1, 1, 1), -2.0), said, torch.zeros(1, 1, 1), said[..., 0, 0] > 0
    )
    gates = torch.softmax(torch.tensor([[[2.0, 0.0], [1.0, 0.0]]]), dim=-1)
    chances = {
        (a, b): gates[0, 0, a] * gates[0, 1, b] * _sigmoid(2.0 - 2.0 * (2 - a - b))
        for a in (0, 1)
        for b in (0, 1)
    }
    best = max(chances, key=lambda pair: float(chances[pair]))
    assert chosen_by(evidence, gates, KEYLESS).tolist() == [list(best)] == [[0, 1]]


def test_draws_follow_the_probability() -> None:
    users = 20_000
    one = two_rows([1.0, 1.0], [True, True])
    many = Evidence(*(field.expand(users, *field.shape[1:]) for field in one))
    gates = torch.full((users, 1, 2), 0.5)
    keys = torch.randint(-(2**62), 2**62, (users,), generator=torch.Generator().manual_seed(0))
    share = (chosen_by(many, gates, Dropout(0.0, keys))[:, 0] == 0).double().mean().item()
    expected = 1 / (1 + math.exp(-2.0))
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / users)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_no_held_out_label_reaches_a_score(part: str) -> None:
    config = small_config(
        gate_mode="evidence", holdout=2, history_feedback=False, history_rates=False
    )
    dataset = small_dataset((12, 15, 9, 20))
    torch.manual_seed(0)
    network = small_network(config, dataset)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    users = np.arange(dataset.num_users)
    ends = dataset.offsets[1:]
    held_out = np.concatenate([np.arange(end - 4, end) for end in ends])
    rest = np.setdiff1d(np.arange(len(dataset.labels)), held_out)

    def flipped(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = dataset.labels.copy()
        labels[rows] = 1 - labels[rows]
        changed = replace(dataset, labels=labels)
        cohort = cohort_of(changed, network, users)
        scored = CohortLearner(network, config).score(model_of(network), cohort, part)  # type: ignore[arg-type]
        return scored.logits, scored.routes

    logits, routes = flipped(held_out[:0])
    for found, same in zip(flipped(held_out), (logits, routes), strict=True):
        assert np.array_equal(found, same)
    assert not np.array_equal(flipped(rest)[1], routes)  # what was trained on does speak


def test_without_a_key_and_evidence_no_label_is_read() -> None:
    config, dataset = small_config(gate_mode="evidence"), small_dataset((12, 15))
    network = small_network(config, dataset)
    batch = training_batch(dataset, np.arange(2), config)
    other = batch._replace(labels=1 - batch.labels)
    assert torch.equal(network(batch).logits, network(other).logits)


def test_a_historys_labels_choose_groups_for_what_is_asked() -> None:
    torch.manual_seed(0)
    config = small_config(gate_mode="evidence")
    dataset = small_dataset((9,) * 8)
    network = small_network(config, dataset)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    rows = training_batch(dataset, np.arange(8), config)
    nothing = torch.zeros_like(rows.labels)
    history = rows._replace(targets=rows.items, labels=nothing, mask=nothing > 0)
    shown = history_as_targets(history)
    assert torch.equal(shown.targets[..., :-1], rows.targets[..., :-1])
    assert torch.equal(shown.labels[..., :-1], rows.labels[..., :-1])
    assert shown.mask[..., :-1].all()
    assert not shown.mask[..., -1].any()
    other = history._replace(feedback=torch.where(rows.feedback > 0, 3 - rows.feedback, 0))
    items = torch.arange(1, 5)
    chosen, changed = network.score_items(history, items), network.score_items(other, items)
    assert not torch.equal(chosen.routes, changed.routes)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))
