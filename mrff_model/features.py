"""Embeds an item's or a user's features: one table per feature, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

INITIAL_STD = 0.1  # of embedding tables: small against the layer norms that follow


class FeatureEmbedding(nn.Module):
    """concat_f e_f(x): the embeddings of all features of an item (or user), concatenated.

    Code 0 is padding or unknown and embeds to zero. A feature with several values (genres) is the
    mean of its values' embeddings.

    Args:
        sizes: number of codes of each feature, 0 included, by feature name.
        dim: width of one feature's embedding.
    """

    def __init__(self, sizes: Mapping[str, int], *, dim: int) -> None:
        super().__init__()
        self.width = dim * len(sizes)
        self.tables = {name: f"{name}_table" for name in sizes}  # attribute that holds each table
        for name, size in sizes.items():
            table = nn.Embedding(size, dim, padding_idx=0)
            with torch.no_grad():
                table.weight.normal_(std=INITIAL_STD)[0] = 0.0
            self.add_module(self.tables[name], table)

    def forward(self, codes: Mapping[str, Tensor], several: frozenset[str]) -> Tensor:
        """Embeds codes (...) of every feature, (..., M) of those with ``several`` values.

        Returns:
            (..., width).
        """
        parts = []
        for name, attribute in self.tables.items():
            embedded = self.get_submodule(attribute)(codes[name])
            if name in several:
                present = (codes[name] > 0).sum(-1, keepdim=True).clamp(min=1)
                embedded = embedded.sum(-2) / present.to(embedded.dtype)
            parts.append(embedded)
        return torch.cat(parts, dim=-1)
