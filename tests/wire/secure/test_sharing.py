"""Shamir's shares: worked by hand, any t of them, nothing from fewer."""

from __future__ import annotations

import secrets
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrff.wire.aggregation.secure.primitives import SecureError
from mrff.wire.aggregation.secure.sharing import PRIME, SHARE_BYTES, secret_of, shares_of


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def test_a_line_through_two_points_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret 7 on the line 7 + 3x: shares 10, 13, 16."""
    monkeypatch.setattr(secrets, "randbelow", lambda prime: 3)
    shares = shares_of(number(7, 32), [1, 2, 3], 2)
    assert shares == {x: number(7 + 3 * x, SHARE_BYTES) for x in (1, 2, 3)}
    assert secret_of({1: shares[1], 3: shares[3]}, 2) == number(7, 32)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 6), st.integers(0, 4))
def test_any_t_shares_give_the_secret(secret: bytes, threshold: int, more: int) -> None:
    places = list(range(1, threshold + more + 1))
    shares = shares_of(secret, places, threshold)
    for chosen in list(combinations(places, threshold))[:20]:
        assert secret_of({place: shares[place] for place in chosen}, threshold) == secret


def test_one_share_fewer_fits_every_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """For t = 2 and one share, each candidate secret has a line through it: nothing is learned."""
    share = int.from_bytes(shares_of(bytes(32), [5], 1)[5], "big")
    for candidate in (0, 1, 2**255):
        slope = (share - candidate) * pow(5, -1, PRIME) % PRIME
        monkeypatch.setattr(secrets, "randbelow", lambda prime, slope=slope: slope)
        assert int.from_bytes(shares_of(number(candidate, 32), [5, 6], 2)[5], "big") == share


def test_too_few_shares_and_shares_of_two_secrets_are_refused() -> None:
    first, second = (shares_of(secrets.token_bytes(32), [1, 2, 3], 3) for _ in range(2))
    with pytest.raises(SecureError, match="2 shares are too few, 3 are needed"):
        secret_of({1: first[1], 2: first[2]}, 3)
    mixed = {1: first[1], 2: first[2], 3: second[3]}
    wrong = sum(secret_or_none(mixed) == secret_of(s, 3) for s in (first, second))
    assert not wrong
    with pytest.raises(SecureError, match="cannot be asked"):
        shares_of(bytes(32), [1, 1], 2)
    with pytest.raises(SecureError, match="cannot be asked"):
        shares_of(bytes(32), [0, 1], 2)


def secret_or_none(shares: dict[int, bytes]) -> bytes | None:
    """Shares of two secrets give another one, or one that is too large to be one."""
    try:
        return secret_of(shares, 3)
    except SecureError:
        return None


def test_the_prime_is_above_every_secret_and_prime() -> None:
    assert PRIME > 2**256 - 1
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11, 13, 17))
    assert PRIME.bit_length() <= SHARE_BYTES * 8
