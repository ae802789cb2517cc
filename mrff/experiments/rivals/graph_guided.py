"""GPFedRec in one place: items averaged over neighbours in a graph of users. SIMULATED.

Zhang et al., "GPFedRec: graph-guided personalization for federated recommendation", KDD 2024. A
user trains a table of items and a small network of their own; the server takes everybody's *whole
table*, joins users whose tables are alike, and averages over neighbours. A user's average is what
their table is pulled to in the next round; the mean of all is where everybody's begins.

Our nodes send sums over users, never one user's table, so it cannot run through our messages: what
its server sees of a user is where their items lie, which names them (docs/ranking.md).

Sizes and rates are those of the authors' release. There the graph joins users by cosine *distance*
above the mean, which joins those least alike; here it is similarity, as the paper says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from client_app.learners.negatives import Met, samples_of
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.data.windows import eligible_users, tested_first
from mrff.sums import Tensors
from mrff.sums.sampling import user_keys

LAYERS = (64, 32, 16, 8, 1)
WIDTH = LAYERS[0] // 2  # of a user and of an item
USERS = 64  # trained at once


@dataclass(frozen=True)
class Rates:
    """The authors' learning rates, and how far a table is pulled.

    Args:
        network: of the user's own network.
        factor: times this, the rate of the user's embedding; and times the number of items, that of
            the items, whose gradients are means over all samples.
        pull: weight of the mean squared distance to the neighbours' average.
    """

    network: float = 0.1
    factor: float = 80.0
    pull: float = 1.0


class GraphGuided:
    """Rounds over all users of a dataset, see the module.

    Args:
        config: seed, split, negatives and batch; the rest is in `Rates` and `LAYERS`.
        met: whose items are no negatives, see `client_app.learners.negatives`.
    """

    def __init__(
        self, dataset: Dataset, config: RunConfig, met: Met = "training", rates: Rates | None = None
    ) -> None:
        self.dataset, self.config, self.met = dataset, config, met
        self.rates, self.round = rates or Rates(), 0
        self.users = eligible_users(dataset, holdout=config.data.holdout)  # who are tested
        self.everybody = tested_first(dataset, holdout=config.data.holdout)
        random = torch.Generator().manual_seed(config.training.seed)
        self.shared = torch.randn(dataset.schema.num_items + 1, WIDTH, generator=random)
        self.shared[0] = 0.0
        number = len(self.everybody)
        self.tables = self.shared.expand(number, -1, -1).clone()  # (U, rows, d), as users sent them
        self.averages = self.tables.clone()  # (U, rows, d), over neighbours
        self.own = {
            name: value.expand(number, *value.shape).clone()
            for name, value in _initial(random).items()
        }

    def train(self) -> float:
        """A round of everybody; returns its loss."""
        self.round += 1
        losses = 0.0
        for first in range(0, len(self.everybody), USERS):
            losses += self._train_some(slice(first, first + USERS))
        self.averages = neighbour_weights(self.tables) @ self.tables.flatten(1)
        self.averages = self.averages.view_as(self.tables)
        self.shared = self.averages.mean(0)
        return losses / len(self.everybody)

    @torch.no_grad()
    def scores(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Rows of `users` with their scores (B, items) of items 1, 2, ..., by their own tables."""
        for first in range(0, len(self.users), USERS):
            some = slice(first, min(first + USERS, len(self.users)))
            own = {name: values[some] for name, values in self.own.items()}
            rows = np.arange(len(self.users))[some]
            yield rows, scores_of(own, self.tables[some, 1:])

    def _train_some(self, some: slice) -> float:
        """The users' summed losses, each a mean over the batches."""
        users, training = self.everybody[some], self.config.training
        keys = self.dataset.user_keys[users]
        order = user_keys(training.seed, self.round, keys, "order of pass 0")
        samples = samples_of(self.dataset, users, self.config, self.round, self.met).shuffled(order)
        table = self.shared.expand(len(users), -1, -1).clone()
        own = {name: values[some] for name, values in self.own.items()}  # views
        losses, size = torch.zeros(len(users)), training.local_batch or samples.items.shape[1]
        items, labels, real = (
            torch.from_numpy(field) for field in (samples.items, samples.labels, samples.real)
        )
        for begin in range(0, items.shape[1], size):
            at = torch.nonzero(real[:, begin]).squeeze(1)
            batch = (at, slice(begin, begin + size))
            average = self.averages[some][at]
            step = (items[batch], labels[batch], real[batch])
            losses[at] += _step(own, table, (at, average), step, self.rates)
        self.tables[some] = table
        return float((losses / (real.sum(1) / size).ceil()).sum())


def neighbour_weights(tables: Tensor) -> Tensor:
    """(U, U) of users' averages: equal over those whose tables are more alike than the mean pair.

    Likeness is the cosine of whole tables (U, rows, d); a user without such neighbours is alone.
    """
    unit = torch.nn.functional.normalize(tables.flatten(1), dim=1)
    alike = unit @ unit.T
    joined = (alike > alike.mean()).float()
    alone = joined.sum(1) == 0
    joined[alone, alone] = 1.0
    return joined / joined.sum(1, keepdim=True)


def scores_of(own: Tensors, items: Tensor) -> Tensor:
    """Scores (B, m) of embedded items (B, m, d) by users' own networks."""
    user = own["user"].unsqueeze(1).expand(-1, items.shape[1], -1)
    x = torch.cat([user, items], dim=-1)
    for layer in range(len(LAYERS) - 1):
        x = torch.baddbmm(own[f"bias.{layer}"].unsqueeze(1), x, own[f"weight.{layer}"])
        x = x if layer == len(LAYERS) - 2 else torch.relu(x)
    return x.squeeze(-1)


def _step(
    own: Tensors,
    table: Tensor,
    users: tuple[Tensor, Tensor],
    batch: tuple[Tensor, Tensor, Tensor],
    rates: Rates,
) -> Tensor:
    """One gradient step of everything at once, in place; the losses (b,) before it."""
    at, average = users
    items, labels, real = batch
    embedded = table[at.unsqueeze(1), items].requires_grad_()
    leaves = {name: values[at].requires_grad_() for name, values in own.items()}
    found = binary_cross_entropy_with_logits(scores_of(leaves, embedded), labels, reduction="none")
    losses = (found * real).sum(1) / real.sum(1)
    gradients = torch.autograd.grad(losses.sum(), [embedded, *leaves.values()])
    numbers = (table.shape[1] - 1) * table.shape[2]
    item_rate = rates.network * (rates.factor * (table.shape[1] - 1) - 1.0)
    with torch.no_grad():
        for (name, values), gradient in zip(leaves.items(), gradients[1:], strict=True):
            rate = rates.network * (rates.factor - 1.0) if name == "user" else rates.network
            own[name][at] = values - rate * gradient
        table[at] += item_rate * 2.0 * rates.pull / numbers * (average - table[at])
        place = (at.unsqueeze(1).expand_as(items), items)
        table.index_put_(place, -item_rate * gradients[0], accumulate=True)
    return losses.detach()


def _initial(random: torch.Generator) -> Tensors:
    """As the authors' layers begin; the same for every user."""
    own = {"user": torch.randn(WIDTH, generator=random)}
    for number, (inner, outer) in enumerate(pairwise(LAYERS)):
        bound = inner**-0.5
        shapes = {"weight": (inner, outer), "bias": (outer,)}
        for name, shape in shapes.items():
            own[f"{name}.{number}"] = (2.0 * torch.rand(shape, generator=random) - 1.0) * bound
    return own
