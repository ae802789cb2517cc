"""The network of matrix factorisation: a shared item table, and a vector for each user.

A user's score of item i is ``w . e_i + b``: the vector w and the number b are theirs alone. What
FedMF calls a user's factors, PFedRec calls their score function; the form is the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mrff_model.shared import Network


class FactorNetwork(Network):
    """Items embedded in a shared table, scored by what is a user's own.

    Args:
        rows: of the item table, padding included.
        dim: d, width of an item's embedding.
        scale: standard deviation of the table as it starts.
        bias: whether users have a number of their own beside their vector.
        personal: whether users first learn their vector and then fine-tune a copy of the items,
            which is what they are scored by; otherwise both move at once, and items are the same
            for everybody.
    """

    def __init__(self, rows: int, dim: int, *, scale: float, bias: bool, personal: bool) -> None:
        super().__init__()
        self.personal = personal
        self.item_table = nn.Embedding(rows, dim, padding_idx=0)
        with torch.no_grad():
            self.item_table.weight.normal_(std=scale)[0] = 0.0
        # As a linear layer begins: items can only learn where the vector is not zero.
        bound = 1.0 / math.sqrt(dim)
        self.user_vector = nn.Parameter(torch.empty(1, dim).uniform_(-bound, bound))
        self.user_bias = nn.Parameter(torch.zeros(1)) if bias else None

    @property
    def rows(self) -> int:
        """Rows of the item table, padding included."""
        return self.item_table.num_embeddings

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (B, d) of users -> scores (B, items) of items 1, 2, ... by the shared table."""
        return vectors @ self.item_table.weight[1:].T
