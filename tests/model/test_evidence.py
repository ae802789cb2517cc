"""Groups by evidence: by hand, drawn and mixed by their probability, without a held-out label."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from client_app.learners.base import training_batch
from client_app.learners.cohort import CohortLearner
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff_model.block import Block
from mrff_model.dropout import Dropout
from mrff_model.evidence import HALF_TRUSTED, Evidence, Routed, Weighed, history_as_targets
from mrff_model.experts_at_prediction import met, said
from mrff_model.network import MRFFNetwork
from tests.support.small_data import small_config, small_dataset, small_network
from tests.support.small_training import cohort_of, model_of


def two_rows(labels: list[float], known: list[bool]) -> Evidence:
    """One user and one layer; expert 0 says +1 and +1, expert 1 says -1 and -1."""
    said = torch.tensor([[1.0, -1.0], [1.0, -1.0]]).view(1, 1, 2, 1, 2)
    logits = torch.zeros(1, 1, 2)
    return Evidence(logits, said, torch.tensor([[labels]]), torch.tensor([[known]]))


def stirred_network(config: RunConfig, dataset: Dataset) -> MRFFNetwork:
    """Far from its start, so that groups differ."""
    network = small_network(config, dataset)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    return network


def prior(gates: Tensor, met: float = math.inf) -> Weighed:
    """By gates (B, layers, K) that saw so many items."""
    nothing = torch.zeros(gates.shape[:2], dtype=torch.int64)
    seen = torch.full(gates.shape[:1], min(met, 1e12))
    return Weighed.by_gates(Routed(nothing, gates, seen))


def likeliest(evidence: Evidence, gates: Tensor) -> list[list[int]]:
    groups: list[list[int]] = prior(gates).after(evidence).likeliest().tolist()
    return groups


def test_two_rows_by_hand() -> None:
    """A like speaks by log s(1) - log s(-1) = 1 nat for expert 0."""
    both = two_rows([1.0, 1.0], [True, True])
    for odds, group in ((1.9, 0), (2.1, 1)):  # what the gate says for expert 1, in nats
        gates = torch.softmax(torch.tensor([[[0.0, odds]]]), dim=-1)
        assert likeliest(both, gates) == [[group]]
    one = two_rows([1.0, 0.0], [True, False])
    for odds, group in ((0.9, 0), (1.1, 1)):
        gates = torch.softmax(torch.tensor([[[0.0, odds]]]), dim=-1)
        assert likeliest(one, gates) == [[group]]


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
    assert likeliest(evidence, gates) == [list(best)] == [[0, 1]]


def test_draws_follow_the_probability() -> None:
    users = 20_000
    one = two_rows([1.0, 1.0], [True, True])
    many = Evidence(*(field.expand(users, *field.shape[1:]) for field in one))
    gates = torch.full((users, 1, 2), 0.5)
    keys = torch.randint(-(2**62), 2**62, (users,), generator=torch.Generator().manual_seed(0))
    drawn = prior(gates).after(many).drawn(Dropout(0.0, keys))
    share = (drawn[:, 0] == 0).double().mean().item()
    expected = 1 / (1 + math.exp(-2.0))
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / users)


def test_every_group_counts_by_its_probability() -> None:
    """After a like, expert 0 has s(1) and expert 1 s(-1) = 1 - s(1) of the probability."""
    gates = torch.full((1, 1, 2), 0.5)
    rows = two_rows([1.0, 0.0], [True, False])
    nobody_knows = prior(gates).mixed(rows.logits, rows.said, None)
    assert nobody_knows.tolist() == [[[0.0, 0.0]]]  # half s(1) and half s(-1) is one half
    first = _sigmoid(1.0)
    chance = first * first + (1 - first) * (1 - first)
    mixed = prior(gates).after(rows).mixed(rows.logits, rows.said, None)[0, 0]
    assert torch.sigmoid(mixed).tolist() == pytest.approx([chance, chance])


def test_a_mix_of_layers_is_that_of_their_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    gates = torch.softmax(torch.randn(3, 2, 4, generator=generator).double(), dim=-1)
    logits = 30 * torch.randn(3, 1, 5, generator=generator)
    said = torch.randn(3, 1, 5, 2, 4, generator=generator)
    sums = logits[..., None, None] + said[..., 0, :, None] + said[..., 1, None, :]
    weights = (gates[:, 0, :, None] * gates[:, 1, None, :])[:, None, None]
    likes, dislikes = (
        (weights * torch.sigmoid(sign * sums.double())).sum((-1, -2)) for sign in (1, -1)
    )
    mixed = prior(gates).mixed(logits, said, None)
    assert torch.allclose(mixed, likes.log() - dislikes.log())


def test_a_target_speaks_as_one_item_more() -> None:
    """Odds of 64 count as 64 ** (1 / 6) = 2, whatever else is known: 1/2 to 2/3, 1/3 to 1/2."""
    assert HALF_TRUSTED == 5.0
    rows = two_rows([0.0, 0.0], [False, False])
    meets = torch.tensor([64.0, 1.0]).expand(1, 1, 2, 1, 2) / 65
    like = _sigmoid(1.0)
    for before, after in ((1 / 2, 2 / 3), (1 / 3, 1 / 2)):
        known = prior(torch.tensor([[[before, 1 - before]]]))
        chance = after * like + (1 - after) * (1 - like)
        mixed = known.mixed(rows.logits, rows.said, meets)[0, 0]
        assert torch.sigmoid(mixed).tolist() == pytest.approx([chance, chance])


@pytest.mark.parametrize("gate_input", ["history", "earlier"])
def test_gates_read_a_target_as_a_history_of_it_alone(gate_input: str) -> None:
    torch.manual_seed(0)
    config = small_config(gate_mode="evidence", gate_input=gate_input)
    dataset = small_dataset((9,) * 4)
    network = stirred_network(config, dataset)
    with torch.no_grad():
        network.user_embedding.zero_()
    items = torch.tensor([1, 3, 4])
    rows = training_batch(dataset, np.arange(3), config)
    alone = rows.map(lambda field: field[..., :1] if field.dim() == 3 else field)
    alone = alone._replace(items=items.view(3, 1, 1), earlier=(items.view(3, 1),))
    gates = network._through(alone, Dropout(0.0, None), False, None)[-1].probabilities
    meets = met(network.blocks, network.item_features.embed(items.view(3, 1, 1)))
    assert meets is not None
    assert torch.allclose(meets[:, 0, 0], gates)
    assert gates.std(0).min() > 1e-3  # items differ


def test_a_gate_of_hidden_states_says_nothing_of_a_target() -> None:
    network = small_network(
        small_config(gate_mode="evidence", gate_input="hidden", history_feedback=False),
        small_dataset((9,) * 2),
    )
    targets = network.item_features.embed(torch.tensor([[[1, 2]]]))
    assert met(network.blocks, targets) is None


def test_a_gate_that_saw_little_says_little() -> None:
    """After `HALF_TRUSTED` items the odds of 9 count as 3, after none as 1."""
    gates = torch.tensor([[[0.9, 0.1]]])
    chances = [prior(gates, met).logs.exp()[0, 0].item() for met in (0.0, HALF_TRUSTED, math.inf)]
    assert chances == pytest.approx([0.5, 0.75, 0.9])


def test_who_has_said_nothing_is_no_guess() -> None:
    """The groups of somebody new are unknown: what they are told lies between all groups'."""
    torch.manual_seed(0)
    config = small_config(gate_mode="evidence", num_layers=1, history_feedback=False)
    dataset = small_dataset((9,) * 2)
    network = stirred_network(config, dataset)
    rows = training_batch(dataset, np.arange(2), config)
    nothing = torch.zeros_like(rows.labels)
    start = rows.map(lambda field: field[..., :1] if field.dim() == 3 else field)
    start = start._replace(mask=nothing[..., :1] > 0, feedback=torch.zeros_like(start.feedback))
    items = torch.arange(1, 5)
    by_expert = said(network.blocks, network.item_features.embed(items))[:, 0]  # (N, K)
    found = network.score_items(start, items).logits
    blocks = [block for block in network.layers if isinstance(block, Block)]
    assert len(blocks) == 1
    with torch.no_grad():
        for parameter in (blocks[0].experts.down_weight, blocks[0].experts.down_bias):
            parameter.zero_()
    alone = network.score_items(start, items).logits
    assert ((found - alone) > by_expert.min(-1).values).all()
    assert ((found - alone) < by_expert.max(-1).values).all()


@pytest.mark.parametrize("part", ["valid", "test"])
def test_no_held_out_label_reaches_a_score(part: str) -> None:
    config = small_config(
        gate_mode="evidence", holdout=2, history_feedback=False, history_rates=False
    )
    dataset = small_dataset((12, 15, 9, 20))
    torch.manual_seed(0)
    network = stirred_network(config, dataset)
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
    network = stirred_network(config, dataset)
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


def test_memory_is_counted_for_every_combination_of_groups() -> None:
    few, many = (
        small_network(
            small_config(gate_mode="evidence", num_experts=experts, num_layers=2), small_dataset()
        ).floats_per_position()
        for experts in (2, 5)
    )
    assert many - few == 3 * (5**2 - 2**2)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))
