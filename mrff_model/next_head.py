"""Which item a user takes next: scores of items by a state, and the surprise of the one taken."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NEVER = -1e9  # a score without a chance; finite, so that gradients stay so


class NextHead(nn.Module):
    """score(i) = q . e_i + b_i, with q the state, mapped to the items' width where that differs.

    Args:
        dim: d, width of a state.
        item_width: width of an item's embedding.
        rows: of the catalogue, padding included.
    """

    def __init__(self, dim: int, item_width: int, rows: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, item_width, bias=False) if dim != item_width else None
        self.item_bias = nn.Embedding.from_pretrained(
            torch.zeros(rows, 1), freeze=False, padding_idx=0
        )

    def forward(self, states: Tensor) -> Tensor:
        """(..., d) -> queries (..., item width)."""
        return states if self.query is None else self.query(states)

    def bias(self, items: Tensor) -> Tensor:
        """(...) -> b_i (...)."""
        return self.item_bias(items).squeeze(-1)

    def scores_of_all(self, queries: Tensor, table: Tensor) -> Tensor:
        """Scores (..., items) of items 1, 2, ..., embedded in ``table`` (items, item width)."""
        return (queries @ table.T).add_(self.item_bias.weight[1:].squeeze(-1))

    def surprise(
        self, queries: Tensor, taken: tuple[Tensor, Tensor], drawn: tuple[Tensor, Tensor]
    ) -> Tensor:
        """(B, W, L) of the items taken, among drawn ones.

        Args:
            queries: (B, W, L, item width).
            taken: their embeddings (B, W, L, item width) and codes (B, W, L).
            drawn: the same of items drawn for each user, (B, N, item width) and (B, N).
        """
        score = (queries * taken[0]).sum(-1) + self.bias(taken[1])
        others = torch.einsum("bwld,bnd->bwln", queries, drawn[0])
        others = others + self.bias(drawn[1])[:, None, None]
        hits = taken[1].unsqueeze(-1) == drawn[1][:, None, None]
        return surprise_among_drawn(score, others, hits, len(self.item_bias.weight) - 1)


def surprise_among_all(scores: Tensor, targets: Tensor) -> Tensor:
    """-log softmax of ``targets`` (...) by scores (..., items) of items 1, 2, ..."""
    taken = scores.gather(-1, (targets - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.logsumexp(scores, -1) - taken


def surprise_among_drawn(taken: Tensor, drawn: Tensor, hits: Tensor, items: int) -> Tensor:
    """The same, estimated by items drawn uniformly with replacement from the whole catalogue.

    What a draw adds to the sum over the catalogue counts (items - 1) / n times, n draws being left
    when those that hit the target are dropped: sampled softmax with its correction for the
    proposal (Bengio and Senecal, 2008). Which items a user has met plays no part: a held-out item
    is drawn as often as any other.

    Args:
        taken: (B, W, L) score of the target.
        drawn: (B, W, L, N) scores of the drawn items.
        hits: (B, W, L, N) bool, where a drawn item is the target itself.
        items: size of the catalogue.
    """
    left = (~hits).sum(-1).clamp(min=1)  # (B, W, L)
    others = torch.logsumexp(drawn.masked_fill(hits, NEVER), -1)
    others = others + math.log(max(items - 1, 1)) - left.to(drawn.dtype).log()
    return torch.logaddexp(taken, others) - taken
