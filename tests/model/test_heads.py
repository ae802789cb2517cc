"""Heads: numbers worked by hand, nothing later is read, gradients per record, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, vmap

from client_app.learners.base import loss_weights, training_batch
from client_app.learners.cohort import CohortLearner
from client_app.learners.own_copies import loss_of_one
from mrff.config import ConfigError, RunConfig
from mrff.config.methods import overrides_of
from mrff.data.dataset import Dataset
from mrff_model.batch import Batch
from mrff_model.building import tensors_of
from mrff_model.heads import HEADS, HeadSizes, Seen
from mrff_model.heads.mlp import MlpHead
from mrff_model.heads.target_attention import TargetAttentionHead
from mrff_model.inputs import InputShape, starts_of
from mrff_model.network import MRFFNetwork
from mrff_model.own_rates import number_of_rates
from server_app.names import check_names
from tests.support.federation import run_federation, shared_arrays
from tests.support.small_data import at_times, small_config, small_dataset, small_network
from tests.support.small_training import cohort_of, model_of, train

WITHOUT_LAYERS = [name for name, head in HEADS.items() if not head.reads_states]
COMPARED = ("genres", "category")  # of small datasets


def config_of(head: str, **more: Any) -> RunConfig:
    return small_config(head=head, num_experts=1, **more)


def moved(head: str, dataset: Dataset, **more: Any) -> tuple[MRFFNetwork, Batch]:
    """A network away from its start, and the records of two users."""
    config = config_of(head, **more)
    network = small_network(config, dataset)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random))
        for table in network.item_features.children():
            table.weight[0] = 0.0  # padding
    return network, training_batch(dataset, np.arange(2), config)


def test_a_linear_head_starts_as_an_additive_model_by_hand() -> None:
    """Liked, not liked, liked: the user's rate before each is 1/2, 2/3, 2/4."""
    dataset = small_dataset((5, 9))
    labels = dataset.labels.copy()
    labels[:3] = [1, 0, 1]
    dataset = replace(dataset, labels=labels)
    config = config_of("linear")
    network = small_network(config, dataset)
    logits = network(training_batch(dataset, np.array([0]), config)).logits
    expected = [0.0, float(np.log(2.0)), 0.0]
    np.testing.assert_allclose(logits[0, 0].detach(), expected, atol=1e-6)

    config = config_of("linear", item_statistics=True, closed_form_factors=2)
    weights = dict(small_network(config, dataset).named_parameters())["head.down.weight"]
    rates = [0.0] * number_of_rates(COMPARED)
    assert weights.tolist()[0] == pytest.approx(
        [*rates, *starts_of(InputShape(COMPARED, 2, kinds=False))]
    )


@pytest.mark.parametrize("newest", [False, True])
def test_a_linear_head_is_a_weighted_sum_of_its_inputs(newest: bool) -> None:
    network, batch = moved("linear", small_dataset((10, 10)), user_bias=False)
    weights = dict(network.named_parameters())
    weight, bias = weights["head.down.weight"][0], weights["head.down.bias"]
    if newest:
        items = torch.arange(1, 13)
        inputs = network._rates(batch, items.expand(2, 1, -1), newest=True)
        logits = network.score_items(batch, items).logits[:, None]
    else:
        inputs, logits = network.rates_of(batch), network(batch).logits
    torch.testing.assert_close(logits, torch.cat(inputs, -1) @ weight + bias)


def test_a_linear_head_trains_and_sends_nothing_else() -> None:
    config = RunConfig.from_flat(overrides_of("federated-logistic"))
    network = small_network(config, small_dataset())
    assert set(tensors_of(network, "public")) == {"head.down.weight", "head.down.bias"}
    assert not tensors_of(network, "group")
    assert not tensors_of(network, "private")


def test_a_round_of_a_linear_head_is_a_step_of_logistic_regression_on_all_rows() -> None:
    """Its gradient is X^T (p - y), a sum: where the rows lie makes no difference."""
    dataset = small_dataset((9, 4, 14, 3))
    config = config_of("linear", user_weighting="targets", user_bias=False, local_learning_rate=0.5)
    network = small_network(config, dataset)
    users = np.arange(4)
    batch = training_batch(dataset, users, config)
    rows = torch.cat(network.rates_of(batch), dim=-1)[batch.mask].double().numpy()
    weight, bias = network.head.down.weight[0], network.head.down.bias  # type: ignore[union-attr]
    logits = rows @ weight.detach().double().numpy() + float(bias.detach())
    error = 1 / (1 + np.exp(-logits)) - batch.labels[batch.mask].numpy()
    cohort = cohort_of(dataset, network, users)
    trained = train(CohortLearner(network, config), config, model_of(network), cohort)
    sums = trained.sums.updates
    np.testing.assert_allclose(sums["head.down.weight"][0], -0.5 * rows.T @ error, atol=1e-5)
    np.testing.assert_allclose(sums["head.down.bias"], [-0.5 * error.sum()], atol=1e-5)


def head_by_hand(unit: list[float], labels: Any = None) -> TargetAttentionHead:
    """Items of one number; one unit of the inner layer counts."""
    sizes = HeadSizes(0, 1, 0, 3, (), has_path=False, has_feedback=labels is not None)
    head = TargetAttentionHead(sizes)
    with torch.no_grad():
        for parameter in (head.unit.weight, head.unit.bias, head.weigh.weight, head.weigh.bias):
            parameter.zero_()
        head.unit.weight[0] = torch.tensor(unit)
        head.weigh.weight[0, 0] = 1.0
        if head.feedback is not None:
            head.feedback.weight[:, 0] = torch.tensor(labels)
    return head


def seen_by_hand(targets: list[float], newest: bool) -> Seen:
    """After a start come items 1 and -1, the first liked, the second not."""
    history = torch.tensor([0.0, 1.0, -1.0]).view(1, 1, 3, 1)
    codes = torch.tensor([0, 2, 1]).view(1, 1, 3)
    nothing = torch.zeros(1, 1, len(targets), 0)
    asked = torch.tensor(targets).view(1, 1, -1, 1)
    return Seen(nothing, asked, nothing, [], history, codes, codes > 0, newest)


def test_interest_by_hand() -> None:
    """The unit is relu(t e) first, then relu(t - e), then relu(e) of items with labels."""

    def interest(head: TargetAttentionHead, targets: list[float], newest: bool) -> list[float]:
        return head.interest(seen_by_hand(targets, newest)).flatten().tolist()

    product = head_by_hand([0.0, 0.0, 0.0, 1.0])
    # Target 2 and item 1: weight 2; item -1: relu(-2) = 0. Target -3 and item -1: weight 3.
    assert interest(product, [2.0, -3.0], newest=True) == [2.0, -3.0]
    # The first target reads no item, the second item 1, the third both.
    assert interest(product, [2.0, 2.0, -3.0], newest=False) == [0.0, 2.0, -3.0]
    difference = head_by_hand([0.0, 0.0, 1.0, 0.0])
    # relu(2 - 1) * 1 + relu(2 + 1) * -1
    assert interest(difference, [2.0], newest=True) == [-2.0]
    labelled = head_by_hand([0.0, 1.0, 0.0, 0.0], labels=[9.0, 4.0, 1.0])
    # Liked: 1 + 1, not liked: -1 + 4; both squared, as the weight is the item itself.
    assert interest(labelled, [7.0], newest=True) == [4.0 + 9.0]


def test_the_unit_is_a_network_over_target_item_difference_and_product() -> None:
    """As the paper has it, pair by pair, with everything side by side."""
    torch.manual_seed(0)
    sizes = HeadSizes(0, 4, 0, 3, (), has_path=False, has_feedback=True)
    head = TargetAttentionHead(sizes)
    torch.nn.init.normal_(head.feedback.weight)  # type: ignore[union-attr]
    targets, items = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    codes = torch.randint(0, 3, (2, 3, 5))
    seen = Seen(targets[..., :0], targets, targets[..., :0], [], items, codes, codes > 0, False)
    found = head.interest(seen)
    known = items + head.feedback(codes)  # type: ignore[misc]
    for user, window, place in np.ndindex(2, 3, 5):
        expected, target = torch.zeros(4), targets[user, window, place]
        for before in range(place + 1):
            item = known[user, window, before]
            pair = torch.cat([target, item, target - item, target * item])
            weight = head.weigh(F.relu(head.unit(pair)))
            expected = expected + weight * item * (codes[user, window, before] > 0)
        torch.testing.assert_close(found[user, window, place], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", WITHOUT_LAYERS)
def test_nothing_later_reaches_a_logit(head: str) -> None:
    """Neither a later item nor a label of the target or later; a target reaches its own only."""
    network, batch = moved(
        head, small_dataset((10, 10)), item_statistics=True, kind_statistics=True
    )
    before = network(batch).logits
    for place in range(1, batch.items.shape[2]):
        items, feedback = batch.items.clone(), batch.feedback.clone()
        items[:, :, place:] = items[:, :, place:] % 12 + 1
        feedback[:, :, place:] = 3 - feedback[:, :, place:]
        later = batch._replace(items=items, feedback=feedback, labels=1 - batch.labels)
        counted = torch.zeros_like(batch.items).bool()  # as of rows in no public sum
        later = later._replace(counted=(counted, counted))
        plain = network(batch._replace(counted=(counted, counted))).logits
        after = network(later).logits
        torch.testing.assert_close(after[:, :, :place], plain[:, :, :place], atol=1e-6, rtol=0)
        assert not torch.equal(after[:, :, place:], plain[:, :, place:])
    targets = batch.targets.clone()
    targets[0, 0, 2] = targets[0, 0, 2] % 12 + 1
    differs = (network(batch._replace(targets=targets)).logits != before).nonzero().tolist()
    assert differs == [[0, 0, 2]]


def test_a_label_of_the_same_time_is_not_attended_to() -> None:
    dataset = at_times(small_dataset((10, 10)), [1, 2, 2, 2, 3, 4, 5, 6, 7, 8] * 2)
    network, batch = moved(
        "target-attention", dataset, same_time="unknown", history_rates=False, window_length=8
    )
    before = network(batch).logits
    feedback = batch.feedback.clone()
    feedback[:, :, 2] = 3 - feedback[:, :, 2]  # the label of target 1, at time 2 as targets 2 and 3
    after = network(batch._replace(feedback=feedback)).logits
    assert torch.equal(after[:, :, :4], before[:, :, :4])
    known = network(batch._replace(items=batch.items % 12 + 1)).logits
    assert not torch.equal(known[:, :, 2:4], before[:, :, 2:4])  # the items themselves are read


@pytest.mark.parametrize("head", WITHOUT_LAYERS)
def test_an_item_asked_about_after_the_history_has_the_logit_of_a_next_target(head: str) -> None:
    network, batch = moved(head, small_dataset((10, 10)))
    expected = network(batch).logits[:, 0, -1]
    scores = network.score_items(batch, torch.arange(1, 13)).logits
    found = scores.gather(1, batch.targets[:, 0, -1:] - 1)[:, 0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("head", WITHOUT_LAYERS)
def test_company_and_padding_change_nothing(head: str) -> None:
    dataset = small_dataset((10, 6, 12))
    network, _ = moved(head, dataset)
    config = config_of(head)
    together = network(training_batch(dataset, np.arange(3), config)).logits
    for user in range(3):
        alone = network(training_batch(dataset, np.array([user]), config)).logits
        length = alone.shape[2]
        torch.testing.assert_close(together[user, :, :length], alone[0])


@pytest.mark.parametrize("head", WITHOUT_LAYERS)
def test_gradients_per_record_are_those_of_one_record_after_the_other(head: str) -> None:
    network, batch = moved(head, small_dataset((10, 10)), max_windows_per_user="all")
    loss_of = loss_of_one(network, loss_weights(config_of(head)), None)
    shared = {n: p.detach() for n, p in tensors_of(network, "public").items()}
    own = {n: p.expand(2, *p.shape[1:]) for n, p in tensors_of(network, "private").items()}
    keys, rates = torch.zeros(2, dtype=torch.int64), network.rates_of(batch)
    many = vmap(grad(loss_of, has_aux=True), in_dims=(None, 0, 0, 0, 0))
    together, _ = many(shared, own, batch, keys, rates)
    parameters = dict(network.named_parameters())
    for user in range(2):
        network.zero_grad()
        record = batch.map(lambda field, user=user: field[user])
        mine = {name: rows[user] for name, rows in own.items()}
        trained = {name: parameters[name] for name in shared}
        loss, _ = loss_of(trained, mine, record, keys[user])
        alone = torch.autograd.grad(loss, list(trained.values()))
        for name, expected in zip(trained, alone, strict=True):
            torch.testing.assert_close(together[name][user], expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("federated-logistic", {"head.down.weight", "head.down.bias"}),
        ("din", {"head.unit.weight", "head.weigh.weight", "head.feedback.weight"}),
    ],
)
def test_a_federation_trains_them(
    method: str, names: set[str], small_data: Path, tmp_path: Path
) -> None:
    settings = {k.rpartition(".")[2].replace("-", "_"): v for k, v in overrides_of(method).items()}
    settings |= {"server_learning_rate": 0.1, "item_statistics": True}
    run_federation(small_data, tmp_path, nodes=2, name="run", num_server_rounds=3, **settings)
    arrays = shared_arrays(tmp_path, "run")
    assert names <= arrays.keys()
    assert not any(name.startswith(("layers.", "positions", "output_norm")) for name in arrays)
    if method == "federated-logistic":
        statistics = {name for name in arrays if name.startswith("item_statistics.")}
        assert arrays.keys() == names | statistics


def test_a_network_with_layers_is_as_it_was() -> None:
    network = small_network(small_config(), small_dataset())
    assert type(network.head) is MlpHead
    names = {name.split(".")[0] for name, _ in network.named_parameters()}
    assert {"positions", "feedback", "layers", "output_norm", "head"} <= names


@pytest.mark.parametrize(
    ("head", "more", "line"),
    [
        ("linear", {"objective": "both"}, "cannot go with training.objective=both"),
        ("target-attention", {"objective": "next"}, "cannot go with training.objective=next"),
        ("target-attention", {"num_experts": 4}, "no groups; use network.num-experts=1"),
        ("linear", {"history_rates": False}, "all are off; use network.history-rates=true"),
    ],
)
def test_what_cannot_go_together_is_one_line(head: str, more: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        small_network(small_config(**{"head": head, "num_experts": 1, **more}), small_dataset())


def test_an_unknown_head_is_refused_with_the_known_ones() -> None:
    line = "head must be one of linear, mlp, target-attention, got 'bert'"
    with pytest.raises(ConfigError, match=line):
        check_names(small_config(head="bert"))
