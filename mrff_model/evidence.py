"""Routing by evidence: users take the experts that explain what they liked so far.

With ``gate-mode = "evidence"`` the experts of all layers stand at the prediction: each reads the
target and adds to the logit. A user's groups k = (k_1, ...) are hidden, and what is known of them
is a mixture of experts over whole users (Jacobs et al., "Adaptive mixtures of local experts", 1991)

    log p(k | y) = sum_l log gate_l(k_l) + sum_t log p(y_t | k) + a constant

over the targets t whose labels a route may read. While a user trains, these are their training
rows and k is drawn from it: stochastic EM (Celeux and Diebolt, 1985), whose draws leave the bad
groupings that the likeliest k would stay in. Otherwise every k counts by its probability,

    p(y | target) = sum_k p(k | y before, target) p(y | target, k)

and no label of a row that is to be predicted is read: of somebody who has said little the likeliest
group alone would be a guess. The target itself speaks as one more item that is met: who is shown it
is of groups that meet it.
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
HALF_TRUSTED = 5.0  # items after which a gate's log-probabilities count by half


class Routed(NamedTuple):
    """B users' groups, and what the gates make of all groups before any label is read."""

    groups: Tensor  # (B, layers) int64
    probabilities: Tensor  # (B, layers, K) of the gates
    met: Tensor  # (B,) how many items the gates saw

    @classmethod
    def by_gates(cls, choices: Sequence[Choice], met: Tensor) -> Routed:
        """The choices of all layers' gates."""
        groups = torch.stack([choice.expert for choice in choices], dim=-1)
        probabilities = torch.stack([choice.probabilities for choice in choices], dim=-2)
        return cls(groups, probabilities, met)

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


class Weighed(NamedTuple):
    """All combinations of groups of the layers, C of them, by what is known of B users."""

    groups: Tensor  # (C, layers) int64
    logs: Tensor  # (B, C) of their probabilities

    @classmethod
    def by_gates(cls, routed: Routed) -> Weighed:
        """Before any label is read: by the gates, the less the fewer items they saw.

        Gates learn from users with long histories and take a few items for as much.
        """
        gates = routed.probabilities
        layers, experts = gates.shape[1:]
        places = torch.arange(layers, device=gates.device)
        number = torch.arange(experts**layers, device=gates.device)
        groups = number[:, None] // experts**places % experts
        return cls(groups, _trusted(_logs_of(gates, groups), routed.met).log_softmax(-1))

    def after(self, evidence: Evidence) -> Weighed:
        """When the labels are known that count."""
        signs = (2.0 * evidence.labels - 1.0).unsqueeze(-1)
        logs = F.logsigmoid(signs * self._by_each(evidence.logits, evidence.said))
        logs = (logs * evidence.known.unsqueeze(-1)).sum((1, 2))  # (B, C)
        return self._replace(logs=(self.logs + logs).log_softmax(-1))

    def likeliest(self) -> Tensor:
        """The groups (B, layers) of each user."""
        return self.groups[self.logs.argmax(-1)]

    def drawn(self, draw: Dropout) -> Tensor:
        """Groups (B, layers) by their probability and the keys of ``draw``."""
        assert draw.key is not None
        noise = gumbel_of(draw.key, len(self.groups), draw.site)
        return self.groups[(self.logs + noise.to(self.logs)).argmax(-1)]

    def mixed(self, logits: Tensor, said: Tensor, meets: Tensor | None) -> Tensor:
        """(B, W, T) log-odds of the chance that all groups together give a like.

        Args:
            logits: (B, W, T) without experts.
            said: (B, W, T, layers, K), what each expert adds.
            meets: (B, W, T, layers, K) of the gates, had they seen the target and nothing else;
                None: they tell nothing of an item.
        """
        by_each = self._by_each(logits, said)  # (B, W, T, C)
        logs = self.logs[:, None, None]
        if meets is not None:
            met = meets.new_ones(meets.shape[:-2])
            logs = (logs + _trusted(_logs_of(meets, self.groups), met)).log_softmax(-1)
        likes, dislikes = (
            torch.logsumexp(logs + F.logsigmoid(sign * by_each), -1) for sign in (1.0, -1.0)
        )
        return likes - dislikes

    def _by_each(self, logits: Tensor, said: Tensor) -> Tensor:
        """(B, W, T, C) logits by each combination."""
        places = torch.arange(said.shape[-2], device=said.device)
        return logits.unsqueeze(-1) + said[..., places, self.groups].sum(-1)


def _trusted(logs: Tensor, met: Tensor) -> Tensor:
    """Logarithms (..., C) by gates that saw so many items (...)."""
    return logs * (met / (met + HALF_TRUSTED)).unsqueeze(-1)


def _logs_of(gates: Tensor, groups: Tensor) -> Tensor:
    """(..., C) of combinations (C, layers) by gates (..., layers, K)."""
    places = torch.arange(gates.shape[-2], device=gates.device)
    return gates.clamp(min=1e-12).log()[..., places, groups].sum(-1)


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
