"""Every parameter has exactly one scope; experts are arrays of their own outside the network."""

import re

import numpy as np
import pytest
import torch

from mrff_model.building import initial_shared, load_shared, tensors_of
from mrff_model.scopes import (
    expert_of,
    names_by_scope,
    network_name,
    rate_kind,
    scope_of,
    split_bank,
)
from tests.support.small_data import small_config, small_dataset, small_network


def test_every_parameter_is_in_exactly_one_scope() -> None:
    network = small_network(small_config(hidden_dim=6), small_dataset())
    names = [name for name, _ in network.named_parameters()]
    split = names_by_scope(names)
    assert sorted(name for part in split.values() for name in part) == sorted(names)
    assert set(split["private"]) >= {"user_embedding", "user_bias"}
    assert all("experts" in name for name in split["group"])


@pytest.mark.parametrize(
    "name",
    ["layers.0.attention", "user_embeddings", "layers.0.adapter.weight", " user_bias", "head"],
)
def test_an_unknown_name_fails(name: str) -> None:
    with pytest.raises(KeyError, match="belongs to no scope"):
        scope_of(name)


def test_gates_item_biases_and_the_body_learn_at_rates_of_their_own_in_any_copy() -> None:
    network = small_network(small_config(item_bias=True), small_dataset())
    names = [name for name, _ in network.named_parameters()]
    experts = [f"layers.0.experts.1.{name}" for name in ("up_weight", "down_bias")]
    for prefix in ("", "clusters.1."):
        kinds = {name: rate_kind(prefix + name) for name in [*names, *experts]}
        gates = {name for name, kind in kinds.items() if kind == "gate"}
        assert gates == {name for name in names if re.match(r"layers\.\d+\.gate\.", name)}
        assert len(gates) == 2 * len(network.layers)
        assert [name for name, kind in kinds.items() if kind == "item_bias"] == ["item_bias.weight"]
        others = {name.partition(".")[0] for name, kind in kinds.items() if kind == "other"}
        assert others == {"head", "user_bias", "user_embedding"}  # the last two are not shared
        assert all(kinds[name] == "body" for name in experts)


def test_experts_are_split_by_name() -> None:
    bank = {"layers.1.experts.up_bias": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    experts = split_bank(bank)
    assert experts["layers.1.experts.0.up_bias"].tolist() == [1.0, 2.0]
    assert experts["layers.1.experts.1.up_bias"].tolist() == [3.0, 4.0]
    experts["layers.1.experts.1.up_bias"].zero_()  # a view
    assert bank["layers.1.experts.up_bias"].tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert expert_of("layers.1.experts.10.up_bias") == (1, 10)


def test_experts_start_as_distinct_networks_with_storage_of_their_own() -> None:
    network = small_network(small_config(), small_dataset())
    _, group = initial_shared(network)
    first, second = (group[f"layers.0.experts.{k}.up_weight"] for k in (0, 1))
    assert (first != second).all()
    bank = tensors_of(network, "group")["layers.0.experts.up_weight"]
    untouched = bank[1].clone()
    bank[0] += 1.0
    assert torch.equal(bank[1], untouched)


def test_experts_that_start_alike_are_copies_of_the_first() -> None:
    network = small_network(small_config(), small_dataset())
    public, apart = initial_shared(network)
    same_public, alike = initial_shared(network, experts_alike=True)
    assert alike.keys() == apart.keys()
    for name, array in alike.items():
        first = apart[re.sub(r"experts\.\d+", "experts.0", name)]
        np.testing.assert_array_equal(array, first, err_msg=name)
    alike["layers.0.experts.0.up_weight"] += 1.0
    assert (alike["layers.0.experts.1.up_weight"] != alike["layers.0.experts.0.up_weight"]).all()
    assert all((same_public[name] == value).all() for name, value in public.items())


def test_loading_is_the_inverse_of_taking_apart() -> None:
    config, dataset = small_config(), small_dataset()
    public, group = initial_shared(small_network(small_config(seed=5), dataset))
    network = small_network(config, dataset)
    load_shared(network, public, group)
    loaded_public, loaded_group = initial_shared(network)
    assert all((loaded_public[name] == value).all() for name, value in public.items())
    assert all((loaded_group[name] == value).all() for name, value in group.items())


def test_loading_names_what_does_not_fit() -> None:
    network = small_network(small_config(), small_dataset())
    public, group = initial_shared(network)
    with pytest.raises(ValueError, match=r"missing \['head.up.bias'\]"):
        load_shared(network, {n: v for n, v in public.items() if n != "head.up.bias"}, group)
    with pytest.raises(ValueError, match=r"shape \(5,\), got \(1,\)"):
        load_shared(network, public | {"head.up.bias": public["head.up.bias"][:1]}, group)


def test_the_same_seed_gives_the_same_network_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = initial_shared(small_network(small_config(), small_dataset()))
    second = initial_shared(small_network(small_config(), small_dataset()))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all((first[0][name] == second[0][name]).all() for name in first[0])


def test_an_experts_array_is_part_of_a_bank_in_the_network() -> None:
    assert network_name("layers.1.experts.3.up_bias") == "layers.1.experts.up_bias"
    assert network_name("layers.1.experts.up_bias") == "layers.1.experts.up_bias"
    assert network_name("head.up.bias") == "head.up.bias"
