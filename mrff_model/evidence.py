"""Routing by evidence: users take the experts that explain what they liked so far.

With ``gate-mode = "evidence"`` the experts of all layers stand at the prediction: each reads the
target and adds to the logit. A user's groups k = (k_1, ...) are hidden, and what is known of them
is a mixture of experts over whole users (Jacobs et al., "Adaptive mixtures of local experts", 1991)

    log p(k | y) = sum_l log gate_l(k_l) + sum_t log p(y_t | k) + a constant

over the targets t whose labels a route may read. While a user trains, these are their training
rows and k is drawn from it: stochastic EM (Celeux and Diebolt, 1985), whose draws leave the bad
groupings that the likeliest k would stay in. Otherwise k is the likeliest, and no label of a row
that is to be predicted is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mrff_model.batch import Batch
from mrff_model.dropout import Dropout, gumbel_of
from mrff_model.gate import Choice

ROUTE_SITE = 1002  # of the draw, among the places of dropout


class Routed(NamedTuple):
    """B users' groups, and what the gates make of all groups before any label is read."""

    groups: Tensor  # (B, layers) int64
    probabilities: Tensor  # (B, layers, K) of the gates

    @classmethod
    def by_gates(cls, choices: Sequence[Choice]) -> Routed:
        """The choices of all layers' gates."""
        groups = torch.stack([choice.expert for choice in choices], dim=-1)
        return cls(groups, torch.stack([choice.probabilities for choice in choices], dim=-2))

    def to(self, groups: Tensor) -> Routed:
        """The same gates, but other groups."""
        return self._replace(groups=groups)

    @property
    def chosen(self) -> Tensor:
        """(B, layers), the gates' probability of the groups."""
        return self.probabilities.gather(-1, self.groups.unsqueeze(-1)).squeeze(-1)


class Evidence(NamedTuple):
    """What speaks for users' groups."""

    logits: Tensor  # (B, W, T) without experts
    said: Tensor  # (B, W, T, layers, K), what each expert would add
    labels: Tensor  # (B, W, T)
    known: Tensor  # (B, W, T) bool, whose labels count


def chosen_by(evidence: Evidence, gates: Tensor, draw: Dropout) -> Tensor:
    """The groups (B, layers) int64 of users.

    Args:
        gates: (B, layers, K) probabilities before any label is read.
        draw: with keys: groups are drawn by their probability; without: the likeliest.
    """
    layers, experts = gates.shape[1:]
    places = torch.arange(layers, device=gates.device)
    number = torch.arange(experts**layers, device=gates.device)
    groups = number[:, None] // experts**places % experts  # (C, layers), all combinations
    added = evidence.said[..., places, groups].sum(-1)  # (B, W, T, C)
    signs = (2.0 * evidence.labels - 1.0).unsqueeze(-1)
    logs = F.logsigmoid(signs * (evidence.logits.unsqueeze(-1) + added))
    logs = (logs * evidence.known.unsqueeze(-1)).sum((1, 2))  # (B, C)
    logs = logs + gates.clamp(min=1e-12).log()[:, places, groups].sum(-1)
    if draw.key is not None:
        logs = logs + gumbel_of(draw.key, len(groups), draw.site).to(logs)
    return groups[logs.argmax(-1)]


def history_as_targets(history: Batch) -> Batch:
    """A history (B, 1, L), newest item last, as a record of what was liked in it."""

    def next_of(field: Tensor) -> Tensor:
        return torch.cat([field[..., 1:], torch.zeros_like(field[..., :1])], dim=-1)

    feedback = next_of(history.feedback)
    return history._replace(
        targets=next_of(history.items),
        labels=(feedback == 2).float(),
        mask=feedback > 0,
        counted=tuple(field for c in history.counted[:1] for field in (c, next_of(c))),
    )
