"""Which item comes next: the surprise of a target, full and estimated, and what may be read."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.learners.base import training_batch
from mrff_model.batch import Batch
from mrff_model.losses import LossWeights, user_losses
from mrff_model.network import MRFFNetwork
from mrff_model.next_head import surprise_among_all, surprise_among_drawn
from tests.support.small_data import NUM_ITEMS, small_config, small_dataset, small_network

BACKBONES = ["sasrec", "hstu", "linear"]


def moved_network(**changes: object) -> tuple[MRFFNetwork, Batch]:
    """A network away from its zeros, and records with items before the window."""
    torch.manual_seed(0)
    config, dataset = small_config(window_length=4, **changes), small_dataset((14, 9))  # type: ignore[arg-type]
    network = small_network(config, dataset)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return network, training_batch(dataset, np.arange(2), config)


def test_surprise_among_all_worked_by_hand() -> None:
    scores = torch.log(torch.tensor([[1.0, 2.0, 5.0]]))  # of items 1, 2, 3
    surprise = surprise_among_all(scores, torch.tensor([2]))
    assert surprise.item() == pytest.approx(-math.log(2.0 / 8.0))


def test_surprise_among_drawn_worked_by_hand() -> None:
    """4 items; drawn are one of weight 3, and the target itself, which does not count."""
    taken = torch.zeros(1, 1, 1)
    drawn = torch.log(torch.tensor([3.0, 1.0])).view(1, 1, 1, 2)
    hits = torch.tensor([False, True]).view(1, 1, 1, 2)
    surprise = surprise_among_drawn(taken, drawn, hits, items=4)
    assert surprise.item() == pytest.approx(math.log(1.0 + 3 * 3.0))  # three others, like the one


def test_nothing_but_hits_is_no_surprise_and_has_a_gradient() -> None:
    taken = torch.zeros(1, 1, 1, requires_grad=True)
    drawn = torch.zeros(1, 1, 1, 2, requires_grad=True)
    surprise = surprise_among_drawn(taken, drawn, torch.ones(1, 1, 1, 2, dtype=torch.bool), 4)
    surprise.sum().backward()
    assert surprise.item() == pytest.approx(0.0, abs=1e-6)
    assert taken.grad is not None
    assert bool(taken.grad.isfinite().all())


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_every_other_item_drawn_once_gives_the_whole_softmax(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    scores = 2.0 * torch.randn(6, generator=random, dtype=torch.float64)
    target = int(torch.randint(1, 7, (1,), generator=random))
    every = torch.arange(1, 7)
    estimated = surprise_among_drawn(
        scores[target - 1].view(1, 1, 1),
        scores.view(1, 1, 1, 6),
        (every == target).view(1, 1, 1, 6),
        6,
    )
    torch.testing.assert_close(
        estimated.flatten(), surprise_among_all(scores[None], torch.tensor([target]))
    )


def test_a_score_is_the_state_times_the_item_plus_its_bias() -> None:
    network, batch = moved_network(objective="next", hidden_dim=6)
    places = torch.tensor([[0, 3], [1, 2]])
    scores = network(batch, rank_at=places).scores  # (2, 2, items)
    surprise = network(batch).surprise[:, 0]
    assert scores.shape == (2, 2, NUM_ITEMS)
    for user in range(2):
        for column, place in enumerate(places[user]):
            chance = torch.softmax(scores[user, column], -1)[batch.targets[user, 0, place] - 1]
            assert surprise[user, place].item() == pytest.approx(-chance.log().item(), abs=1e-5)


@pytest.mark.parametrize("objective", ["next", "both"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_no_score_depends_on_a_later_item_or_label_bit_for_bit(
    objective: str, backbone: str
) -> None:
    network, batch = moved_network(objective=objective, backbone=backbone)
    before = network(batch)
    for place in range(1, 4):  # items[place] is the target of the position before
        items, targets = batch.items.clone(), batch.targets.clone()
        items[..., place:] = items[..., place:] % NUM_ITEMS + 1
        targets[..., place - 1 :] = targets[..., place - 1 :] % NUM_ITEMS + 1
        feedback = torch.where(batch.feedback > 0, 3 - batch.feedback, 0)
        feedback[..., :place] = batch.feedback[..., :place]
        changed = batch._replace(
            items=items, targets=targets, feedback=feedback, labels=1 - batch.labels
        )
        places = torch.arange(place).expand(2, -1)
        one, other = (network(b, rank_at=places) for b in (batch, changed))
        assert torch.equal(one.scores, other.scores)
        assert torch.equal(one.routes, other.routes)
        after = network(changed)
        kept = slice(0, place - 1)
        assert torch.equal(before.surprise[..., kept], after.surprise[..., kept])
        assert torch.equal(before.logits[..., kept], after.logits[..., kept])


def test_the_gate_reads_the_items_before_the_window() -> None:
    network, batch = moved_network(objective="next")
    assert batch.earlier[0].shape[1] == 4  # no more than a window's length
    probabilities = network(batch).chosen
    other = batch._replace(earlier=(batch.earlier[0] % NUM_ITEMS + 1,))
    assert not torch.equal(probabilities, network(other).chosen)


@pytest.mark.parametrize("objective", ["next", "both"])
def test_candidates_of_a_history_score_as_the_whole_catalogue_does(objective: str) -> None:
    """The same for all users, or each with their own, in any order."""
    network, batch = moved_network(objective=objective, hidden_dim=6, user_factors=True)
    batch = batch.map(lambda field: field[:, :1] if field.dim() == 3 else field)
    whole = network(batch, rank_at=torch.tensor([[3], [3]])).scores[:, 0]
    items = torch.tensor([[5, 1, 12], [2, 2, 7]])
    each = network.score_items(batch, items)
    torch.testing.assert_close(each.scores[:, 0], whole.gather(1, items - 1))
    shared = network.score_items(batch, items[0])
    torch.testing.assert_close(shared.scores[:, 0], whole[:, items[0] - 1])
    torch.testing.assert_close(shared.logits[0], each.logits[0])
    one = batch.map(lambda field: field[1:])
    torch.testing.assert_close(network.score_items(one, items[1]).logits[0], each.logits[1])
    assert each.logits.abs().max() > 0 or objective == "next"


def test_each_objective_has_its_heads_and_no_other() -> None:
    names = {
        objective: {
            n.split(".")[0] for n, _ in moved_network(objective=objective)[0].named_parameters()
        }
        for objective in ("click", "next", "both")
    }
    assert "next_head" not in names["click"]
    assert "head" in names["click"]
    assert "next_head" in names["next"]
    assert not {"head", "user_bias", "user_features"} & names["next"]
    assert {"head", "next_head", "user_bias"} <= names["both"]


def test_both_adds_the_weighted_surprise_and_liked_only_leaves_the_others_out() -> None:
    network, batch = moved_network(objective="both")
    output = network(batch)
    click, _ = user_losses(output, batch, LossWeights(0.0))
    following, _ = user_losses(output, batch, LossWeights(0.0, click=0.0, next=1.0))
    both, _ = user_losses(output, batch, LossWeights(0.0, next=0.5))
    torch.testing.assert_close(both, click + 0.5 * following)
    liked, _ = user_losses(output, batch, LossWeights(0.0, click=0.0, next=1.0, liked_only=True))
    wanted = batch.mask & (batch.labels > 0.5)
    by_hand = (output.surprise * wanted).sum((1, 2)) / wanted.sum((1, 2))
    torch.testing.assert_close(liked, by_hand)
