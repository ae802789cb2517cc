"""What was released of whom, gathered release by release, and what the dearest user has paid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mrff.privacy.accounting import Accountant, Release, epsilon_of, merged

History = tuple[Release, ...]


class Histories:
    """Releases of many users at once."""

    def __init__(self) -> None:
        self._parts: dict[Release, list[tuple[np.ndarray, int]]] = {}  # by kind

    def add(self, users: np.ndarray, release: Release) -> None:
        """Notes ``release`` of every one of ``users`` (U,) uint64 keys."""
        self._parts.setdefault(replace(release, steps=1), []).append((users, release.steps))

    def users(self) -> np.ndarray:
        """(U,) keys of everybody of whom something was released."""
        everybody = [keys for parts in self._parts.values() for keys, _ in parts]
        return np.unique(np.concatenate([np.zeros(0, np.uint64), *everybody]))

    def of(self, users: np.ndarray) -> set[History]:
        """What was released of ``users`` (U,) ascending keys: each different history once."""
        steps = np.zeros((len(users), len(self._parts)), np.int64)
        for column, parts in enumerate(self._parts.values()):
            keys = np.concatenate([keys for keys, _ in parts])
            counts = np.repeat([count for _, count in parts], [len(keys) for keys, _ in parts])
            asked = np.isin(keys, users)
            np.add.at(steps[:, column], np.searchsorted(users, keys[asked]), counts[asked])
        return {
            merged(replace(kind, steps=int(n)) for kind, n in zip(self._parts, row, strict=True))
            for row in np.unique(steps, axis=0)
        }


def highest_epsilon(histories: Iterable[History], delta: float, accountant: Accountant) -> float:
    """The highest epsilon of any of ``histories``; 0 for none."""
    # Costs grow with steps: a history within another one cannot be the dearest.
    return max((epsilon_of(h, delta, accountant) for h in _top(set(histories))), default=0.0)


def _top(histories: set[History]) -> list[History]:
    """Histories that no other one contains."""
    as_steps = [{replace(r, steps=1): r.steps for r in history} for history in histories]
    return [
        history
        for history, own in zip(histories, as_steps, strict=True)
        if not any(
            own is not other and all(other.get(kind, 0) >= steps for kind, steps in own.items())
            for other in as_steps
        )
    ]
