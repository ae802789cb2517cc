"""Experts are picked by a product: the same rows, and the same gradients, as by indexing."""

from __future__ import annotations

import pytest
import torch
from torch.func import grad, vmap

from mrff_model.dropout import Dropout
from mrff_model.experts import ExpertBank, rows_by_product


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("shape", [(3,), (3, 4)])
def test_a_product_picks_what_indexing_does(number: int, shape: tuple[int, ...]) -> None:
    table = torch.randn(number, *shape, dtype=torch.float64, requires_grad=True)
    rows = torch.arange(7) % number
    weights = torch.randn(7, *shape, dtype=torch.float64)

    picked = rows_by_product(table, rows)

    assert torch.equal(picked, table[rows])
    (gradient,) = torch.autograd.grad((weights * picked).sum(), table)
    (expected,) = torch.autograd.grad((weights * table[rows]).sum(), table)
    torch.testing.assert_close(gradient, expected)


def test_users_with_tables_of_their_own_get_gradients_of_their_own() -> None:
    tables = torch.randn(6, 3, 2, dtype=torch.float64)
    rows = torch.tensor([2, 0, 1, 1, 0, 2])

    gradients = vmap(grad(lambda table, row: rows_by_product(table, row[None]).square().sum()))(
        tables, rows
    )

    expected = torch.zeros_like(tables)
    users = torch.arange(6)
    expected[users, rows] = 2.0 * tables[users, rows]
    assert torch.equal(gradients, expected)


def test_a_user_goes_through_the_expert_of_the_route() -> None:
    bank = ExpertBank(3, 4, 5)
    h = torch.randn(2, 1, 6, 4)
    both = bank(h, torch.tensor([2, 0]), Dropout(0.0, None))
    for user, expert in ((0, 2), (1, 0)):
        inner = torch.relu(h[user] @ bank.up_weight[expert] + bank.up_bias[expert])
        alone = inner @ bank.down_weight[expert] + bank.down_bias[expert]
        torch.testing.assert_close(both[user], alone)
