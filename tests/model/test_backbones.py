"""Every backbone: causal, blind to padding, equal to its formula, gradients per record."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from client_app.learners.base import loss_weights, training_batch
from client_app.learners.own_copies import loss_of_one
from mrff_model.backbones import BACKBONES, build_backbone
from mrff_model.backbones.hstu import PointwiseAttention
from mrff_model.backbones.linear import LinearAttention, causal_linear_attention
from mrff_model.backbones.sasrec import CausalSelfAttention
from mrff_model.building import initial_shared, tensors_of
from mrff_model.scopes import scope_of
from tests.support.small_data import small_config, small_dataset, small_network

NAMES = tuple(BACKBONES)
Score = Callable[[Tensor, Tensor], Tensor]
DIM, HEADS, LONGEST = 6, 2, 70


def backbone(name: str, *, heads: int = HEADS) -> nn.Module:
    torch.manual_seed(1)
    built = cast("nn.Module", build_backbone(name, DIM, heads, LONGEST))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built.double()


def history(length: int, *, records: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(records, length, DIM, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 7, LONGEST])
@pytest.mark.parametrize("name", NAMES)
def test_no_later_position_is_seen_not_even_in_the_last_bit(name: str, length: int) -> None:
    attention, x = backbone(name), history(length)
    before = attention(x)
    assert before.shape == x.shape
    for place in {0, length // 2, length - 1}:
        changed = x.clone()
        changed[:, place:] = 3.0 - changed[:, place:]
        after = attention(changed)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place], before[:, place])


@pytest.mark.parametrize("name", NAMES)
def test_padding_at_the_right_and_other_records_change_nothing(name: str) -> None:
    attention, x = backbone(name), history(5, records=3)
    padded = torch.cat([x, 7.0 * torch.ones(3, 40, DIM, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(attention(padded)[:, :5], attention(x))
    torch.testing.assert_close(attention(x[1:2]), attention(x)[1:2])


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_formula_written_out(name: str, heads: int) -> None:
    attention, x = backbone(name, heads=heads), history(LONGEST)
    written_out = {"sasrec": softmax_formula, "hstu": hstu_formula, "linear": linear_formula}[name]
    torch.testing.assert_close(attention(x), written_out(attention, x))


def softmax_formula(attention: nn.Module, x: Tensor) -> Tensor:
    own = cast("CausalSelfAttention", attention)

    def score(query: Tensor, key: Tensor) -> Tensor:
        return torch.exp(query @ key / math.sqrt(len(query)))

    return own.out(weighted_means(own.query(x), own.key(x), own.value(x), score, own.num_heads))


def linear_formula(attention: nn.Module, x: Tensor) -> Tensor:
    own = cast("LinearAttention", attention)

    def phi(z: Tensor) -> Tensor:
        return torch.where(z > 0, z + 1, torch.exp(z))

    def score(query: Tensor, key: Tensor) -> Tensor:
        return phi(query) @ phi(key)

    parts = own.query(x), own.key(x), own.value(x)
    return own.out(weighted_means(*parts, score, own.num_heads, more=1e-6))


def weighted_means(
    query: Tensor, key: Tensor, value: Tensor, score: Score, heads: int, *, more: float = 0.0
) -> Tensor:
    """Position by position, head by head: the mean of values up to it, weighted by the score."""
    mixed, width = torch.zeros_like(query), query.shape[-1] // heads
    for record, place, head in np.ndindex(len(query), query.shape[1], heads):
        part = slice(head * width, (head + 1) * width)
        asks = query[record, place, part]
        weights = torch.stack([score(asks, k) for k in key[record, : place + 1, part]])
        mixed[record, place, part] = weights @ value[record, : place + 1, part]
        mixed[record, place, part] /= weights.sum() + more
    return mixed


def hstu_formula(attention: nn.Module, x: Tensor) -> Tensor:
    own = cast("PointwiseAttention", attention)

    def silu(z: Tensor) -> Tensor:
        return z / (1 + torch.exp(-z))

    gate, value, query, key = silu(x @ own.input.weight.T).split(DIM, dim=-1)
    mixed, width = torch.zeros_like(x), DIM // own.num_heads
    for record, place, head in np.ndindex(len(x), x.shape[1], own.num_heads):
        part = slice(head * width, (head + 1) * width)
        for seen in range(place + 1):
            score = query[record, place, part] @ key[record, seen, part]
            weight = silu(score + own.distance_bias[place - seen]) / LONGEST
            mixed[record, place, part] += weight * value[record, seen, part]
    centred = mixed - mixed.mean(-1, keepdim=True)
    normed = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-6)
    normed = normed * own.norm.weight + own.norm.bias
    return (normed * gate) @ own.out.weight.T + own.out.bias


@pytest.mark.parametrize("chunk", [1, 3, 8, 64])
def test_linear_attention_does_not_depend_on_its_chunks(chunk: int) -> None:
    query, key, value = (history(n).view(2, 1, n, DIM)[:, :, :20] for n in (20, 21, 22))
    whole = causal_linear_attention(query, key, value, chunk=20)
    torch.testing.assert_close(causal_linear_attention(query, key, value, chunk=chunk), whole)


@pytest.mark.parametrize("name", NAMES)
def test_all_its_parameters_are_public_and_learn(name: str) -> None:
    config, dataset = small_config(backbone=name), small_dataset()
    network = small_network(config, dataset)
    public, _ = initial_shared(network)
    own = [n for n, _ in network.named_parameters() if ".attention." in n]
    assert own
    assert {scope_of(n) for n in own} == {"public"}
    assert set(own) <= public.keys()
    network(training_batch(dataset, np.arange(4), config)).logits.sum().backward()
    for parameter in network.layers[0].attention.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.abs().sum() > 0)


@pytest.mark.parametrize("name", NAMES)
def test_per_record_gradients_are_those_of_each_record_alone(name: str) -> None:
    """What local-dp-sgd clips."""
    config, dataset = small_config(backbone=name), small_dataset()
    network = small_network(config, dataset)
    batch = training_batch(dataset, np.arange(4), config)
    own = {n: v.expand(4, *v.shape[1:]) for n, v in tensors_of(network, "private").items()}
    shared = tensors_of(network, "public") | tensors_of(network, "group")
    keys = torch.arange(4)
    loss = loss_of_one(network, loss_weights(config), None)
    together, _ = vmap(grad(loss, has_aux=True), in_dims=(None, 0, 0, 0))(shared, own, batch, keys)
    for user in range(4):
        mine = {n: v[user] for n, v in own.items()}
        alone, _ = grad(loss, has_aux=True)(shared, mine, batch.map(lambda f: f[user]), keys[user])  # noqa: B023
        for parameter, value in alone.items():
            torch.testing.assert_close(together[parameter][user], value, atol=1e-6, rtol=1e-4)


def test_the_whole_network_is_causal_and_blind_to_padding_with_every_backbone() -> None:
    for name in NAMES:
        config, dataset = small_config(backbone=name, num_experts=1), small_dataset((9, 9))
        network = small_network(config, dataset)
        batch = training_batch(dataset, np.arange(2), config)
        before = network(batch).logits
        flipped = batch.feedback.clone()
        flipped[:, :, 4:] = 3 - flipped[:, :, 4:]
        after = network(batch._replace(feedback=flipped)).logits
        assert torch.equal(after[:, :, :4], before[:, :, :4]), name
        assert not torch.equal(after[:, :, 4:], before[:, :, 4:]), name
        longer = batch.map(lambda field: field if field.dim() < 3 else pad(field))
        parameters = dict(network.named_parameters())
        padded = functional_call(network, parameters, (longer,)).logits[:, :, : before.shape[2]]
        torch.testing.assert_close(padded, before, atol=1e-6, rtol=0)


def pad(field: Tensor) -> Tensor:
    return torch.nn.functional.pad(field, (0, 1))


class RunningMean(nn.Module):
    """A backbone of a few lines."""

    def __init__(self, dim: int, num_heads: int, max_length: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1).view(-1, 1)

    def floats_per_position(self, length: int) -> int:
        return 2


def test_a_further_backbone_costs_one_line_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "mean", RunningMean)
    config, dataset = small_config(backbone="mean"), small_dataset()
    network = small_network(config, dataset)
    assert isinstance(network.layers[0].attention, RunningMean)
    assert bool(network(training_batch(dataset, np.arange(2), config)).logits.isfinite().all())


def test_an_unknown_backbone_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError) as caught:
        small_network(small_config(backbone="bert"), small_dataset())
    assert str(caught.value) == "backbone must be one of hstu, linear, sasrec, got 'bert'"


def test_more_positions_than_distances_are_refused() -> None:
    with pytest.raises(ValueError, match="hstu knows distances below 70, got 71 positions"):
        backbone("hstu")(history(71))
    for name in NAMES:
        with pytest.raises(ValueError, match="hidden width 6 must be a multiple of num-heads=4"):
            backbone(name, heads=4)
