"""The group gate: which expert of a layer a user goes through (MRFF, equations of section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """One linear map from what is known of a user to K groups; the likeliest is chosen.

    Args:
        inputs: width of ``z``.
        num_experts: K.
    """

    def __init__(self, inputs: int, num_experts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, num_experts)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs) -> the chosen groups (B,) and the probabilities of all (B, K)."""
        probabilities = torch.softmax(self.linear(z), dim=-1)
        return probabilities.argmax(dim=-1), probabilities


def masked_mean(x: Tensor, present: Tensor) -> Tensor:
    """Mean of ``x`` (B, W, L, D) over the positions that are ``present`` (B, W, L); (B, D).

    Divides by the number of present positions, not by the padded length; zero where there is none.
    """
    weights = present.to(x.dtype)
    total = (x * weights.unsqueeze(-1)).sum((1, 2))
    return total / weights.sum((1, 2)).clamp(min=1.0).unsqueeze(-1)
