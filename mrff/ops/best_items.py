"""The best items of users, by the network, by linear models beside it, or by liking.

One place decides the order of lists, whether one user asks or all of them do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from client_app.learners.outputs import Extras, outputs
from client_app.learners.ranking import linear_scores, mixed
from mrff.linear import Mixture
from mrff.ops.trained_run import RunError
from mrff_model.batch import Batch, Output
from mrff_model.building import parameters_of_one, rows_suffice
from mrff_model.network import MRFFNetwork

CANDIDATES = 65536  # pairs of user and item whose click is scored at once


@dataclass(frozen=True)
class Met:
    """All that B users met, one user after the other."""

    items: np.ndarray  # (m,) codes
    offsets: np.ndarray  # (B + 1,) where each of the users begins

    def owners(self) -> np.ndarray:
        """(m,) rows of users."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True)
class Readers:
    """B users with histories of one length, and what scores items for them.

    Where the network has parameters once that are private (`rows_suffice`), B is 1.
    """

    network: MRFFNetwork
    private: Mapping[str, Tensor]  # (B, ...) each
    histories: Batch  # (B, 1, n + 1) each
    met: Met
    mixture: Mixture | None = None

    @property
    def met_items(self) -> Tensor:
        """(B, items) bool, of items 1, 2, ..."""
        shape = len(self.histories.items), self.network.rows - 1
        found = torch.zeros(shape, dtype=torch.bool)
        columns = torch.from_numpy(self.met.items.astype(np.int64) - 1)
        found[torch.from_numpy(self.met.owners()), columns] = True
        return found


@dataclass(frozen=True)
class BestItems:
    """Of every user the best items, best first; where there are fewer, the last ones are 0."""

    items: np.ndarray  # (B, top) codes
    scores: np.ndarray  # (B, top) of what orders them
    logits: np.ndarray | None  # (B, top) of a click, where a run has learned that
    routes: np.ndarray  # (B, layers) the users' groups
    chosen: np.ndarray  # (B, layers) their probabilities

    @classmethod
    def none(cls, shape: tuple[int, int], num_layers: int, *, clicks: bool) -> BestItems:
        """No items yet, ``shape`` being (B, top); to be filled by `keep`."""
        items, scores = np.zeros(shape, dtype=np.int64), np.zeros(shape)
        routes = np.zeros((shape[0], num_layers), dtype=np.int64)
        logits = np.zeros(shape) if clicks else None
        return cls(items, scores, logits, routes, np.zeros(routes.shape))

    def keep(self, rows: np.ndarray, best: BestItems) -> None:
        """Notes what was found for the users ``rows``."""
        self.items[rows], self.scores[rows] = best.items, best.scores
        self.routes[rows], self.chosen[rows] = best.routes, best.chosen
        if self.logits is not None and best.logits is not None:
            self.logits[rows] = best.logits


@torch.no_grad()
def best_items(readers: Readers, is_candidate: Tensor, top: int) -> BestItems:
    """The ``top`` items of the candidates (B, items); of equal ones that with the lower code.

    Raises:
        RunError: a score is no number.
    """
    network = readers.network
    learned_next = network.next_head is not None
    scores, output = (_next if learned_next else _clicks)(readers, is_candidate)
    _refuse_no_numbers(scores[is_candidate])
    # What is no candidate comes last; a list may be longer than there are candidates.
    places, listed = _largest(scores.masked_fill_(~is_candidate, -math.inf), top)
    none = listed.isinf()
    items, listed = (places + 1).masked_fill(none, 0), listed.masked_fill(none, 0.0)
    logits = listed if network.head is not None else None
    if learned_next and network.head is not None:
        logits = _logits(readers, items)[0]
        _refuse_no_numbers(logits)
    return BestItems(
        items.numpy(),
        listed.numpy(),
        None if logits is None else logits.numpy(),
        output.routes.numpy(),
        output.chosen.numpy(),
    )


def _largest(scores: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """(B, top) places and values of the largest of every row, of equal ones the first.

    `torch.topk` promises no order of equal ones; sorting whole rows is several times slower.
    """
    least = scores.topk(top, dim=1).values[:, -1:]
    kept = scores >= least
    if (kept.sum(1) > top).any():
        above, level = scores > least, scores == least
        kept = above | (level & (level.cumsum(1) <= top - above.sum(1, keepdim=True)))
    places = kept.nonzero()[:, 1].view(len(scores), top)
    values, order = scores.gather(1, places).sort(dim=1, descending=True, stable=True)
    return places.gather(1, order), values


def _refuse_no_numbers(scores: Tensor) -> None:
    if not torch.isfinite(scores).all():
        raise RunError("the model's score of an item is no finite number: its run has diverged")


def _next(readers: Readers, is_candidate: Tensor) -> tuple[Tensor, Output]:
    """(B, items) as the next, by the mix of the run where it has one."""
    histories = readers.histories
    newest = torch.full((len(histories.items), 1), histories.items.shape[2] - 1)
    output = outputs(readers.network, dict(readers.private), histories, Extras(rank_at=newest))
    scores = output.scores[:, 0]
    if readers.mixture is not None:
        met, part = readers.met, readers.mixture.part
        linear = linear_scores(part, met.items, met.offsets, scores.shape[1])
        scores = next(iter(mixed([scores, *linear], is_candidate, readers.mixture)))
    return scores.double(), output


def _clicks(readers: Readers, is_candidate: Tensor) -> tuple[Tensor, Output]:
    """(B, items) logits of a click."""
    return _logits(readers, torch.arange(1, is_candidate.shape[1] + 1))


def _logits(readers: Readers, candidates: Tensor) -> tuple[Tensor, Output]:
    """(B, N) of a click on candidates (N,) or (B, N), and the output on some of them."""
    most = max(1, CANDIDATES // len(readers.histories.items))
    found = [_of_candidates(readers, part) for part in candidates.split(most, dim=-1)]
    return torch.cat([output.logits for output in found], dim=1).double(), found[0]


def _of_candidates(readers: Readers, candidates: Tensor) -> Output:
    """`MRFFNetwork.score_items`, of every user with their own parameters."""
    own = dict(readers.private)
    if not rows_suffice(readers.network):
        own = parameters_of_one({name: value[0] for name, value in own.items()})
    own = {f"network.{name}": value for name, value in own.items()}
    found: Output = functional_call(_Scoring(readers.network), own, (readers.histories, candidates))
    return found


class _Scoring(nn.Module):
    """`MRFFNetwork.score_items` as a module's call, as `functional_call` wants it."""

    def __init__(self, network: MRFFNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, history: Batch, candidates: Tensor) -> Output:
        """See `MRFFNetwork.score_items`."""
        return self.network.score_items(history, candidates)
