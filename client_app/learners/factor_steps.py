"""The local steps of matrix factorisation, for many users at once, with gradients by hand.

The loss of a user's batch of m samples is the mean binary cross-entropy of ``s_i = w . e_i + b``.
With ``g_i = (sigmoid(s_i) - y_i) / m`` its gradients are ``sum_i g_i e_i`` for w, ``sum_i g_i`` for
b and ``g_i w`` for the item of sample i. A user's copy of the item table holds only the rows that
their samples move; nobody's copy is ever whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from client_app.learners.negatives import Samples
from mrff.config import TrainingSettings


@dataclass
class Local:
    """B users while they learn; changed in place."""

    keys: Tensor  # (D,) int64, rising: user * rows of the table + item, of every copied row
    items: Tensor  # (D, d) the copies
    vector: Tensor  # (B, d)
    bias: Tensor | None  # (B,)
    loss: Tensor  # (B,) of the first pass, a mean over the samples, each before its step
    rows: int  # of the item table

    @classmethod
    def begun(cls, table: Tensor, samples: Samples, vector: Tensor, bias: Tensor | None) -> Local:
        """Before the first step, with copies of ``table`` (rows, d)."""
        rows, loss = len(table), vector.new_zeros(len(vector))
        held = np.zeros(len(vector) * rows, dtype=bool)  # faster than to sort all samples
        held[_keys(samples, rows)[samples.real]] = True
        keys = torch.from_numpy(np.flatnonzero(held)).to(table.device)
        own = None if bias is None else bias.clone()
        return cls(keys, table[keys % rows], vector.clone(), own, loss, rows)

    @property
    def owners(self) -> Tensor:
        """(D,) whose copy each row is."""
        return self.keys // self.rows

    @property
    def codes(self) -> Tensor:
        """(D,) the item that each row is."""
        return self.keys % self.rows

    def finite(self) -> Tensor:
        """(B,) users all of whose numbers are finite."""
        finite = self.vector.isfinite().all(1) & self.loss.isfinite()
        if self.bias is not None:
            finite &= self.bias.isfinite()
        spoilt = ~self.items.isfinite().all(1)
        finite[self.owners[spoilt]] = False
        return finite


def one_pass(
    local: Local, samples: Samples, training: TrainingSettings, *, apart: bool, first: bool
) -> None:
    """Takes every user once through their samples, in batches and in the order given.

    Args:
        apart: the user's own step first, then, by what came of it, the items'; else both at once.
        first: whether it is the pass whose loss counts.
    """
    device = local.items.device
    places = torch.searchsorted(local.keys, torch.from_numpy(_keys(samples, local.rows)).to(device))
    labels = torch.from_numpy(samples.labels).to(local.items)
    real = torch.from_numpy(samples.real).to(device)
    size = training.local_batch or max(1, samples.items.shape[1])
    for begin in range(0, samples.items.shape[1], size):
        some = torch.nonzero(real[:, begin]).squeeze(1)  # users who have samples left
        batch = (some, slice(begin, begin + size))
        loss = _step(local, some, (places[batch], labels[batch], real[batch]), training, apart)
        if first:
            local.loss[some] += loss / real[some].sum(1)


def _step(
    local: Local,
    users: Tensor,
    batch: tuple[Tensor, Tensor, Tensor],
    training: TrainingSettings,
    apart: bool,
) -> Tensor:
    """One batch (b, m) of ``users`` (b,): places in the copies, labels, which are real.

    Returns:
        The loss (b,), summed over the batch, before the step.
    """
    places, labels, real = batch
    places = torch.where(real, places, places[:, :1])  # padding stays the user's own, by 0
    before, number = local.vector[users], real.sum(1, keepdim=True)  # (b, d), (b, 1)
    bias = None if local.bias is None else local.bias[users]
    embedded = local.items[places]  # (b, m, d)
    scores = _scores(embedded, before, bias)  # (b, m)
    loss = (binary_cross_entropy_with_logits(scores, labels, reduction="none") * real).sum(1)
    error = (torch.sigmoid(scores) - labels) * real / number
    rate, decay = training.private_learning_rate, training.private_weight_decay
    gradient = torch.einsum("bm,bmd->bd", error, embedded)
    vector = before - rate * (gradient + decay * before)
    local.vector[users] = vector
    if local.bias is not None and bias is not None:
        bias = bias - rate * error.sum(1)
        local.bias[users] = bias
    if apart:
        error = (torch.sigmoid(_scores(embedded, vector, bias)) - labels) * real / number
    by = vector if apart else before
    moves = (-training.local_learning_rate * error).unsqueeze(-1) * by.unsqueeze(1)  # (b, m, d)
    local.items.index_add_(0, places.flatten(), moves.flatten(0, 1))
    return loss


def _scores(embedded: Tensor, vector: Tensor, bias: Tensor | None) -> Tensor:
    scores = torch.einsum("bmd,bd->bm", embedded, vector)
    return scores if bias is None else scores + bias.unsqueeze(1)


def _keys(samples: Samples, rows: int) -> np.ndarray:
    """(B, S) one number for each user and item."""
    keys: np.ndarray = np.arange(len(samples.items))[:, None] * rows + samples.items
    return keys
