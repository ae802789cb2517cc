"""One layer of the network: attention, then a mixture of the group's expert and the user's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrff_model.backbones.base import Backbone
from mrff_model.dropout import Dropout
from mrff_model.experts import ExpertBank, UserNetwork
from mrff_model.gate import Choice, Gate, GateHistory

_PLACES = 4  # of dropout, from a layer's first one to that of the next


def place_of(layer: int) -> int:
    """The first place of dropout in a layer, the first of which is 0."""
    return 1 + _PLACES * layer


class Block(nn.Module):
    """Pre-norm attention, then one expert and the user's own network in parallel.

        a = x + Attention(LN(x));  h = LN(a);  x = a + s Expert_k(h) + UserFFN(h)

    Args:
        dim: d.
        gate: its mode is "switch": s is the probability of the chosen expert, so that the gate
            learns from the task; "hard": s is 1, and it does not; "evidence": the experts stand at
            the prediction (`mrff_model.evidence`) and add nothing here.
        experts: K of them; the gate chooses k.
        user_network: None: users have none of their own.
    """

    def __init__(
        self,
        dim: int,
        attention: Backbone,
        gate: Gate,
        experts: ExpertBank,
        user_network: UserNetwork | None,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = attention
        self.expert_norm = nn.LayerNorm(dim)
        self.gate = gate
        self.experts = experts
        self.user_network = user_network

    def forward(
        self, x: Tensor, history: GateHistory, below: Tensor, dropout: Dropout
    ) -> tuple[Tensor, Choice]:
        """(B, W, L, d) -> (B, W, L, d) and the gate's choice.

        Args:
            below: (B, K) probabilities of the gate below.
            dropout: at the first of three places of this block's own.
        """
        flat = self.attention_norm(x).flatten(0, 1)  # (B W, L, d)
        attended = self.attention(flat).unflatten(0, x.shape[:2])  # (B, W, L, d)
        a = x + dropout(attended)
        h = self.expert_norm(a)
        choice = self.gate(h, history, below)
        x = a
        if self.gate.mode != "evidence":
            expert = self.experts(h, choice.expert, dropout.at(1))  # (B, W, L, d)
            if self.gate.mode == "switch":
                expert = choice.probability.view(-1, 1, 1, 1) * expert
            x = a + expert
        if self.user_network is not None:
            x = x + self.user_network(h, dropout.at(2))
        return x, choice

    def floats_per_position(self, length: int) -> int:
        """See `Backbone.floats_per_position`."""
        inner = self.experts.inner + (self.user_network.inner if self.user_network else 0)
        return 22 * self.experts.dim + 4 * inner + self.attention.floats_per_position(length)


class NoBlock(nn.Module):
    """A layer of a network whose head reads no states: everybody is in group 0, nothing is done."""

    def forward(
        self, x: Tensor, history: GateHistory, below: Tensor, dropout: Dropout
    ) -> tuple[Tensor, Choice]:
        """See `Block.forward`."""
        return x, Choice(
            expert=torch.zeros_like(below[:, 0], dtype=torch.int64),
            probability=torch.ones_like(below[:, 0]),
            probabilities=below,
        )

    def floats_per_position(self, length: int) -> int:
        """See `Block.floats_per_position`."""
        return 0
