"""Users' sequences as linear models read them: recent items count more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

LEFT_OUT = -1  # an item that the linear models do not know


@dataclass(frozen=True)
class Sequences:
    """The interactions of U users, in time order.

    ``items`` are columns 0, 1, ... of the linear models' ``size`` items, or `LEFT_OUT`; user u has
    those from ``offsets[u]`` to ``offsets[u + 1]``.
    """

    items: NDArray[np.int64]  # (n,)
    offsets: NDArray[np.int64]  # (U + 1,)
    size: int

    def before(
        self, users: NDArray[np.int64], places: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> sparse.csr_matrix:
        """What users did before their interactions ``places``, the latest by ``weights[0]``.

        Args:
            users, places: (R,) rows of users, and numbers of interactions of theirs.
            weights: (A,) of an item by its age.

        Returns:
            (R, size) sums of the weights of each item.
        """
        from scipy import sparse  # nothing else of a round needs it

        begin, rows, columns, values = self.offsets[users], [], [], []
        for age, weight in enumerate(weights, start=1):
            row = np.flatnonzero(places - age >= begin)
            column = self.items[places[row] - age]
            known = column != LEFT_OUT
            rows.append(row[known])
            columns.append(column[known])
            values.append(np.full(int(known.sum()), weight))
        where = (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_matrix((np.concatenate(values), where), shape=(len(places), self.size))

    def whole(self) -> sparse.csr_matrix:
        """(U, size) 1 where a user met an item."""
        from scipy import sparse  # nothing else of a round needs it

        users = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        known = self.items != LEFT_OUT
        where = (users[known], self.items[known])
        met = sparse.csr_matrix(
            (np.ones(int(known.sum())), where), shape=(len(self.offsets) - 1, self.size)
        )
        met.data[:] = 1.0
        return met

    def targets(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(R,) users and places of the known interactions that follow another."""
        users = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        places = np.arange(len(self.items))
        follows = (places > self.offsets[users]) & (self.items != LEFT_OUT)
        return users[follows], places[follows]

    def part(self, first: int, last: int) -> Sequences:
        """Of the users ``first`` to ``last``, that one left out."""
        begin, end = self.offsets[first], self.offsets[last]
        return Sequences(self.items[begin:end], self.offsets[first : last + 1] - begin, self.size)
