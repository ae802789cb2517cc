"""The network's promises: causality, no label leak, padding without effect, gates and scopes."""

import numpy as np
import pytest
import torch

from client_app.learners.base import as_batch, training_batch
from mrff.data.windows import train_records
from mrff_model.batch import Batch
from mrff_model.network import MRFFNetwork
from tests.support.small_data import small_config, small_dataset, small_network

GATES = [
    {"gate_mode": mode, "gate_input": given, "history_feedback": feedback}
    for mode in ("switch", "hard")
    for given, feedback in (("history", True), ("history", False), ("hidden", False))
]


def network_and_batch(**changes: object) -> tuple[MRFFNetwork, Batch]:
    config, dataset = small_config(**changes), small_dataset((10, 10))  # type: ignore[arg-type]
    network = small_network(config, dataset)
    with torch.no_grad():  # away from the zeros that new users start with
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for table in (*network.item_features.children(), *network.user_features.children()):
            table.weight[0] = 0.0  # padding
    return network, training_batch(dataset, np.arange(2), config)


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: "-".join(map(str, gate.values())))
def test_no_label_reaches_an_earlier_logit(gate: dict[str, object]) -> None:
    torch.manual_seed(0)
    network, batch = network_and_batch(**gate)
    before = network(batch).logits
    for place in range(1, batch.items.shape[2]):
        flipped = batch.feedback.clone()
        flipped[:, :, place] = 3 - flipped[:, :, place]  # the label of interaction `place - 1`
        after = network(batch._replace(feedback=flipped, labels=1 - batch.labels)).logits
        assert torch.equal(after[:, :, :place], before[:, :, :place])
        if gate["history_feedback"]:
            assert not torch.equal(after[:, :, place:], before[:, :, place:])


def test_a_target_reaches_only_its_own_logit() -> None:
    torch.manual_seed(0)
    network, batch = network_and_batch()
    before = network(batch).logits
    changed = batch.targets.clone()
    changed[0, 0, 2] = changed[0, 0, 2] % 12 + 1
    after = network(batch._replace(targets=changed)).logits
    differs = (after != before).nonzero().tolist()
    assert differs == [[0, 0, 2]]


def test_an_items_bias_moves_the_logits_of_that_target_and_no_others() -> None:
    torch.manual_seed(0)
    network, batch = network_and_batch(item_bias=True)
    assert network.item_bias is not None
    target = int(batch.targets[0, 0, 2])
    before = network(batch).logits
    with torch.no_grad():
        network.item_bias.weight[target] += 0.75
    after = network(batch).logits
    expected = torch.where(batch.targets == target, before + 0.75, before)
    torch.testing.assert_close(after, expected, atol=1e-6, rtol=0)
    history = batch.map(lambda field: field[:1, :1] if field.dim() == 3 else field[:1])
    scores = network.score_items(history, torch.arange(1, 13)).logits
    with torch.no_grad():
        network.item_bias.weight[target] -= 0.75
    lower = network.score_items(history, torch.arange(1, 13)).logits
    assert (scores - lower)[0, target - 1].item() == pytest.approx(0.75, abs=1e-6)
    assert (scores != lower).sum().item() == 1


def test_item_biases_start_at_zero_and_change_no_other_start_value() -> None:
    dataset = small_dataset()
    with_bias, without = (small_network(small_config(item_bias=b), dataset) for b in (True, False))
    assert with_bias.item_bias is not None
    assert with_bias.item_bias.weight.abs().sum() == 0
    others = dict(with_bias.named_parameters())
    for name, value in without.named_parameters():
        assert torch.equal(value, others[name]), name


def test_a_users_factors_add_their_product_with_the_targets_embedding() -> None:
    torch.manual_seed(0)
    network, batch = network_and_batch(user_factors=True)
    assert network.user_factors is not None
    factors = network.user_factors.detach().clone()
    history = batch.map(lambda field: field[:1, :1] if field.dim() == 3 else field[:1])
    items = torch.arange(1, 13)
    with_factors = network(batch).logits, network.score_items(history, items).logits
    with torch.no_grad():
        network.user_factors.zero_()
    without = network(batch).logits, network.score_items(history, items).logits
    embedded = network.item_features.embed(torch.arange(13))  # (items + 1, width)
    products = embedded @ factors[0]
    torch.testing.assert_close(
        with_factors[0] - without[0], products[batch.targets], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(with_factors[1] - without[1], products[None, 1:], atol=1e-5, rtol=0)


def test_without_a_history_gate_later_items_do_not_reach_earlier_logits() -> None:
    """Only the gate may read the whole window, and with one expert it has nothing to choose."""
    torch.manual_seed(0)
    network, batch = network_and_batch(num_experts=1)
    before = network(batch).logits
    changed = batch.items.clone()
    changed[:, :, 4:] = changed[:, :, 4:] % 12 + 1
    after = network(batch._replace(items=changed)).logits
    assert torch.equal(after[:, :, :4], before[:, :, :4])
    assert (after[:, :, 4:] != before[:, :, 4:]).all()


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: "-".join(map(str, gate.values())))
def test_padding_and_company_change_nothing(gate: dict[str, object]) -> None:
    """A short user alone, and padded beside a longer one, has the same logits and routes."""
    torch.manual_seed(0)
    config = small_config(dropout=0.5, max_windows_per_user="all", **gate)  # type: ignore[arg-type]
    dataset = small_dataset((5, 20))
    network = small_network(config, dataset)
    keys = torch.tensor([11, 12])
    alone = training_batch(dataset, np.array([0]), config)
    together = training_batch(dataset, np.array([0, 1]), config)
    length = alone.items.shape[2]
    assert together.items.shape[1] > alone.items.shape[1]
    assert together.items.shape[2] > length
    one, both = network(alone, keys[:1]), network(together, keys)
    torch.testing.assert_close(both.logits[:1, :1, :length], one.logits, atol=1e-6, rtol=0)
    assert torch.equal(both.routes[:1], one.routes)
    torch.testing.assert_close(both.chosen[:1], one.chosen, atol=1e-6, rtol=0)


def test_a_new_user_is_the_shared_model() -> None:
    dataset = small_dataset()
    config = small_config()
    with_private = small_network(config, dataset)
    without = small_network(
        small_config(user_network_dim="off", user_bias=False, seed=config.training.seed), dataset
    )
    state = {
        n: p for n, p in with_private.named_parameters() if n in dict(without.named_parameters())
    }
    without.load_state_dict(state)
    batch = training_batch(dataset, np.arange(4), config)
    assert torch.equal(with_private(batch).logits, without(batch).logits)


def test_only_the_chosen_expert_matters_and_is_trained() -> None:
    torch.manual_seed(0)
    network, batch = network_and_batch()
    one = batch.map(lambda field: field[:1])
    output = network(one)
    output.logits.sum().backward()
    for number, layer in enumerate(network.layers):
        trained = layer.experts.up_weight.grad.abs().sum((1, 2)) > 0
        assert trained.nonzero().flatten().tolist() == [output.routes[0, number].item()]


def test_switch_gives_the_gate_a_task_gradient_and_hard_does_not() -> None:
    for mode, expected in (("switch", True), ("hard", False)):
        torch.manual_seed(0)
        network, batch = network_and_batch(gate_mode=mode, num_layers=1)
        network(batch).logits.sum().backward()
        gradient = network.layers[0].gate.linear.weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) is expected


def test_the_gate_of_hidden_input_divides_by_real_positions_only() -> None:
    from mrff_model.gate import masked_mean

    x = torch.tensor([[[[1.0], [3.0], [100.0]]]])  # (1, 1, 3, 1)
    present = torch.tensor([[[True, True, False]]])
    assert masked_mean(x, present).item() == 2.0
    assert masked_mean(x, torch.zeros_like(present)).item() == 0.0


def test_several_values_of_a_feature_are_averaged() -> None:
    network, _ = network_and_batch()
    table = network.item_features.genres_table.weight
    codes = {
        "item_id": torch.tensor([0]),
        "genres": torch.tensor([[2, 3]]),
        "category": torch.tensor([0]),
    }
    embedded = network.item_features(codes)[0]
    torch.testing.assert_close(embedded[3:6], (table[2] + table[3]) / 2)
    codes["genres"] = torch.tensor([[2, 0]])
    torch.testing.assert_close(network.item_features(codes)[0][3:6], table[2])


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of num-heads=2"):
        small_network(small_config(num_heads=2, feature_dim=3), small_dataset())


def test_user_features_can_be_left_out() -> None:
    config = small_config(user_features=False)
    network = small_network(config, small_dataset())
    assert network.user_features is None
    records = train_records(small_dataset(), np.arange(2), length=8, max_windows=1, holdout=1)
    assert network(as_batch(records, small_dataset(), np.arange(2), config)).logits.shape[0] == 2
