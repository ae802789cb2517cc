"""A node's ledger: what was released of each of its users, over rounds, runs and restarts.

    <state-dir>/privacy/<dataset hash>/bucket-07.jsonl

Users lie in 64 buckets by their key, so that many nodes of one simulation can share the folder,
and a user keeps his history when he moves to another node of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrff.privacy.accounting import Release
from mrff.privacy.ledger import Ledger, Limit

BUCKETS = 64


class NodeLedger:
    """The users' ledgers in ``folder``.

    Args:
        dataset: hash of the data.
        limit: of every single user.
    """

    def __init__(self, folder: Path, dataset: str, limit: Limit) -> None:
        self._folder = folder / "privacy" / dataset
        self._dataset, self._limit = dataset, limit

    def spend(
        self, users: np.ndarray, release: Release, *, training: str, round_number: int
    ) -> None:
        """Notes ``release`` of ``users`` (U,) uint64 keys.

        Raises:
            BudgetExceededError: a user's budget would be exceeded. Nothing is noted then, unless
                another run spent the rest meanwhile; what is noted too much is never taken back.
            LedgerError: a ledger cannot be trusted or written.
        """
        buckets = users % np.uint64(BUCKETS)
        parts = [
            (self._ledger(int(bucket)), [int(key) for key in users[buckets == bucket]])
            for bucket in np.unique(buckets)
        ]
        for ledger, keys in parts:
            ledger.check(keys, release, self._limit)
        about = {"training": training, "round": round_number}
        for ledger, keys in parts:
            ledger.append(keys, release, about, self._limit)

    def epsilon(self, users: np.ndarray) -> float:
        """The highest epsilon of any of ``users`` so far."""
        buckets = users % np.uint64(BUCKETS)
        return max(
            (
                self._ledger(int(b)).epsilon([int(k) for k in users[buckets == b]], self._limit)
                for b in np.unique(buckets)
            ),
            default=0.0,
        )

    def _ledger(self, bucket: int) -> Ledger:
        return Ledger(self._folder / f"bucket-{bucket:02d}.jsonl", self._dataset)
