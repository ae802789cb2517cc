"""What heads read of users' records, computed once and kept for the rounds to come.

Users' own rates, what others make of their items, their tastes in closed form, the clock: nothing
of it depends on a trained parameter, and a user's records are the same in every round. A process
that answers many messages, as the workers of a simulation do, keeps these numbers; a deployed
node's process answers one. On a GPU they are computed anew, which costs less than to move them,
and where updates are compressed.
"""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Iterable
from hashlib import blake2b
from threading import Lock
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from client_app.devices import host_memory
from mrff.algorithms.learning import Cohort
from mrff.config import RunConfig
from mrff.wire.requests import Part
from mrff_model.batch import Batch
from mrff_model.network import MRFFNetwork

MOST_BYTES = 256 * 2**20  # of a part, and no more than a share of what is free; what comes
# after is computed whenever it is needed
Records = Literal["train"] | Part


class Memory:
    """The numbers (n, R) of the n targets that each user has, by a hash of the user's rows."""

    def __init__(self) -> None:
        self.known: dict[bytes, Tensor] = {}
        self._of: Any = None
        self._widths: list[int] = []
        self._bytes = 0
        self._learning = Lock()  # chunks are computed side by side

    def begin(self, of: Any) -> None:
        """Forgets all that was computed of anything else."""
        if of != self._of:
            self._of, self.known, self._bytes = of, {}, 0

    def learn(
        self, names: Iterable[bytes], mask: Tensor, rates: list[Tensor]
    ) -> dict[bytes, Tensor]:
        """Keeps the numbers of users as long as there is room for them.

        Args:
            mask: (B, W, L) where the users' targets are.
            rates: (B, W, L, R) each.

        Returns:
            Those of each user.
        """
        self._widths = [rate.shape[-1] for rate in rates]
        values = torch.cat(rates, dim=-1)[mask]
        found = dict(zip(names, values.split(mask.sum((1, 2)).tolist()), strict=True))
        with self._learning:
            if self._bytes + values.nbytes <= min(MOST_BYTES, host_memory()):
                self._bytes += values.nbytes
                self.known |= found
        return found

    def assembled(self, rows: list[Tensor], mask: Tensor) -> list[Tensor]:
        """The numbers of B users as the network reads them, 0 where no target is."""
        values = torch.cat(rows)
        rates = values.new_zeros(*mask.shape, values.shape[-1])
        rates[mask] = values
        return list(rates.split(self._widths, dim=-1))


class RememberedRates:
    """`MRFFNetwork.rates_of` records in a part of the split, where targets count.

    The network holds the shared model of the message that is answered.
    """

    def __init__(self, network: MRFFNetwork, config: RunConfig, part: Records) -> None:
        self.network = network
        self._memory: Memory | None = None
        # Whoever was computed in another chunk differs in the last bits, which rounding at random
        # makes large: a compressed run that is resumed has to end as it would have.
        keeps = config.server.compression == "none"
        if keeps and network.inputs is not None and _device(network).type == "cpu":
            self._memory = _memories.setdefault(network, defaultdict(Memory))[part]
            self._memory.begin((_statistics(network), config))

    def of(self, users: Cohort, batch: Batch) -> list[Tensor]:
        """Of the users' records, (B, W, L, R) each."""
        memory = self._memory
        if memory is None:
            return self.network.rates_of(batch)
        names, fresh = _rows_of(users), dict[bytes, Tensor]()
        new = np.array([name not in memory.known for name in names])
        if new.any():
            some = batch if new.all() else batch.map(lambda field: field[torch.from_numpy(new)])
            rates = self.network.rates_of(some)
            if not rates:
                return rates
            wanted = [name for name, is_new in zip(names, new, strict=True) if is_new]
            fresh = memory.learn(wanted, some.mask, rates)
        found = ChainMap(fresh, memory.known)
        return memory.assembled([found[name] for name in names], batch.mask)


def _rows_of(users: Cohort) -> list[bytes]:
    """What each user's records are made of, as a hash: rows may be others under an old key."""
    dataset = users.dataset
    rows = [dataset.items, dataset.labels, dataset.same_time, dataset.times]
    columns = [np.ascontiguousarray(column) for column in rows if column is not None]
    about = [of for of in (dataset.only_train, dataset.trains) if of is not None]
    found = []
    for user in users.users:
        first, last = dataset.offsets[user], dataset.offsets[user + 1]
        whole = blake2b(bytes([dataset.knows_same_time, *(bool(of[user]) for of in about)]))
        for column in columns:
            whole.update(column[first:last].data)
        found.append(whole.digest())
    return found


def _device(network: MRFFNetwork) -> torch.device:
    return next(network.parameters()).device


def _statistics(network: MRFFNetwork) -> bytes:
    """A hash of what others make of items, which a message brings."""
    whole = blake2b()
    if network.item_statistics is not None:
        for values in network.item_statistics.state_dict().values():
            whole.update(values.cpu().numpy().tobytes())
    return whole.digest()


# By network, which knows the catalogue: another one begins with nothing, and takes its own along.
_memories: WeakKeyDictionary[MRFFNetwork, defaultdict[Records, Memory]] = WeakKeyDictionary()
