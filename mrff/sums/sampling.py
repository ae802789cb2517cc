"""Randomness keyed by (seed, round, user, purpose): the same wherever and whenever a user trains.

Keys come from a counter-based hash (SplitMix64, Steele et al. 2014), not from a generator that
someone else might have advanced. They decide sampling and dropout; they are no secret and no
source of privacy noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 2**64


def user_keys(seed: int, round_number: int, users: np.ndarray, purpose: str) -> np.ndarray:
    """One 64-bit key per user.

    Args:
        users: (U,) uint64, the stable keys of the users' identifiers.
        purpose: what the key is for, such as ``"sampling"`` or ``"dropout step 0"``.

    Returns:
        (U,) uint64.
    """
    purpose_number = int.from_bytes(blake2b(purpose.encode(), digest_size=8).digest(), "little")
    start = _chain([seed, round_number, purpose_number])
    return _mix(users.astype(np.uint64) ^ start)


def drawn_items(keys: np.ndarray, number: int, items: int) -> np.ndarray:
    """(U, number) int64 item codes 1..items, uniform with replacement, by the users' keys (U,)."""
    return (words(keys, number) % np.uint64(items)).astype(np.int64) + 1


def words(keys: np.ndarray, number: int) -> np.ndarray:
    """(U, number) uint64, uniform, by the users' keys (U,)."""
    counters = np.arange(number, dtype=np.uint64) * np.uint64(_GOLDEN)
    return _mix(keys.astype(np.uint64)[:, None] + counters)


def sampled_users(seed: int, round_number: int, users: np.ndarray, rate: float) -> np.ndarray:
    """(U,) booleans: who takes part in the round, each independently with probability ``rate``."""
    keys = user_keys(seed, round_number, users, "sampling")
    return (keys >> np.uint64(11)).astype(np.float64) / 2**53 < rate


def _chain(numbers: Sequence[int]) -> np.uint64:
    state = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        state = _mix(state ^ np.uint64(number % _WORD))
    return np.uint64(state[0])


def _mix(z: np.ndarray) -> np.ndarray:
    z = z + np.uint64(_GOLDEN)  # arrays wrap around silently
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
