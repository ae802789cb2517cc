"""Shares of a secret: any t of them give it back, fewer say nothing (Shamir, CACM 1979)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from mrff.wire.aggregation.secure.primitives import KEY_BYTES, SecureError

PRIME = 2**256 + 297  # the smallest prime above every secret of 32 bytes
SHARE_BYTES = KEY_BYTES + 1


def shares_of(secret: bytes, places: Sequence[int], threshold: int) -> dict[int, bytes]:
    """A share for each of ``places`` (distinct, at least 1); ``threshold`` of them are needed.

    Raises:
        SecureError: fewer places than ``threshold``, or a place that would be the secret itself.
    """
    if not 1 <= threshold <= len(set(places)) or min(places) < 1:
        raise SecureError(f"{threshold} shares cannot be asked of places {sorted(set(places))}")
    polynomial = [int.from_bytes(secret, "big")]
    polynomial += [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    found = {}
    for place in places:
        value = 0
        for coefficient in reversed(polynomial):
            value = (value * place + coefficient) % PRIME
        found[place] = value.to_bytes(SHARE_BYTES, "big")
    return found


def secret_of(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret, by Lagrange's interpolation at 0 of ``threshold`` shares by their places.

    Raises:
        SecureError: too few shares, or shares that are not of one secret.
    """
    if len(shares) < threshold:
        raise SecureError(f"{len(shares)} shares are too few, {threshold} are needed")
    places = sorted(shares)[:threshold]
    secret = 0
    for place in places:
        above = below = 1
        for other in places:
            if other != place:
                above = above * other % PRIME
                below = below * (other - place) % PRIME
        weight = above * pow(below, -1, PRIME)
        secret = (secret + int.from_bytes(shares[place], "big") * weight) % PRIME
    if secret >= 2 ** (8 * KEY_BYTES):
        raise SecureError("the shares do not belong together")
    return secret.to_bytes(KEY_BYTES, "big")
