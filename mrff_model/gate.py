"""The group gate: which expert of a layer a user goes through (MRFF, equations of section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class GateHistory(NamedTuple):
    """Users' windows as the gates of all layers see them."""

    items: Tensor  # (B, W, L, item width), embedded
    known: Tensor  # (B, W, L) bool, where there is an item
    real: Tensor  # (B, W, L) bool, where the position exists
    user: Tensor  # (B, E)
    earlier: Tensor  # (B, item width), mean of the items before the window, 0 where there are none


class Choice(NamedTuple):
    """What a gate chose."""

    expert: Tensor  # (B,) int64
    probability: Tensor  # (B,), of that expert
    probabilities: Tensor  # (B, K), of all


Sees = Callable[[Tensor, GateHistory, Tensor], Tensor]
"""(B, W, L, d) hidden states, the history, (B, K) the gate below -> what a gate reads, (B, D)."""


def mean_hidden(h: Tensor, history: GateHistory, below: Tensor) -> Tensor:
    """The paper's ``gate-input = "hidden"``; labels in the history would reach earlier logits."""
    return masked_mean(h, history.real)


def mean_item_and_below(h: Tensor, history: GateHistory, below: Tensor) -> Tensor:
    """``gate-input = "history"``: of a label it knows nothing."""
    return torch.cat([masked_mean(history.items, history.known), below], dim=-1)


def mean_earlier_and_below(h: Tensor, history: GateHistory, below: Tensor) -> Tensor:
    """``gate-input = "earlier"``: of an item in the window it knows nothing."""
    return torch.cat([history.earlier, below], dim=-1)


SEES: dict[str, Sees] = {
    "hidden": mean_hidden,
    "history": mean_item_and_below,
    "earlier": mean_earlier_and_below,
}


class Gate(nn.Module):
    """One linear map from what is known of a user to K groups; the likeliest is chosen.

    Args:
        sees: one of `SEES`.
        inputs: width of what it sees, the user embedding included.
        num_experts: K.
        mode: what the choice means, see `mrff_model.block.Block`.
    """

    def __init__(self, sees: Sees, inputs: int, num_experts: int, mode: str) -> None:
        super().__init__()
        self.sees, self.mode = sees, mode
        self.linear = nn.Linear(inputs, num_experts)

    def forward(self, h: Tensor, history: GateHistory, below: Tensor) -> Choice:
        """Chooses for B users by ``h`` (B, W, L, d) and the probabilities ``below`` (B, K)."""
        z = torch.cat([self.sees(h, history, below), history.user], dim=-1)  # (B, inputs)
        probabilities = torch.softmax(self.linear(z), dim=-1)  # (B, K)
        expert = probabilities.argmax(dim=-1)  # (B,)
        probability = probabilities.gather(-1, expert.unsqueeze(-1)).squeeze(-1)  # (B,)
        return Choice(expert, probability, probabilities)

    @property
    def reads_items(self) -> bool:
        """Whether an item by itself tells it something."""
        return self.sees is not mean_hidden

    def of_items(self, items: Tensor, below: Tensor) -> Tensor:
        """Probabilities (..., K) for somebody new who has met one item and nothing else.

        Args:
            items: (..., item width), embedded; the gate has to be one that reads items.
            below: (..., K) probabilities of the gate below.
        """
        read = torch.cat([items, below], dim=-1)
        of_nobody = read.new_zeros(*read.shape[:-1], self.linear.in_features - read.shape[-1])
        return torch.softmax(self.linear(torch.cat([read, of_nobody], dim=-1)), dim=-1)


def masked_mean(x: Tensor, present: Tensor) -> Tensor:
    """Mean of ``x`` (B, W, L, D) over the positions that are ``present`` (B, W, L); (B, D).

    Divides by the number of present positions, not by the padded length; zero where there is none.
    """
    weights = present.to(x.dtype)
    total = (x * weights.unsqueeze(-1)).sum((1, 2))
    return total / weights.sum((1, 2)).clamp(min=1.0).unsqueeze(-1)
