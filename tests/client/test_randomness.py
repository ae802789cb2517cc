"""Keys depend on seed, round, user and purpose, and on nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrff.sums.sampling import sampled_users, user_keys

USERS = np.arange(1, 2001, dtype=np.uint64)


@given(st.integers(0, 2**63 - 1), st.integers(1, 10_000), st.randoms(use_true_random=False))
def test_a_key_does_not_depend_on_who_else_is_there(seed, number, random) -> None:
    subset = np.array(sorted(random.sample(range(2000), 7)))
    everyone = user_keys(seed, number, USERS, "dropout step 0")
    assert (user_keys(seed, number, USERS[subset], "dropout step 0") == everyone[subset]).all()


def test_seed_round_and_purpose_each_change_every_key() -> None:
    base = user_keys(1, 1, USERS, "sampling")
    for other in (
        user_keys(2, 1, USERS, "sampling"),
        user_keys(1, 2, USERS, "sampling"),
        user_keys(1, 1, USERS, "dropout step 0"),
    ):
        assert (other != base).all()
    assert len(np.unique(base)) == len(USERS)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_users_are_sampled_at_the_rate_and_independently_over_rounds(rate: float) -> None:
    rounds = np.stack([sampled_users(7, number, USERS, rate) for number in range(1, 101)])
    share = rounds.mean()
    assert abs(share - rate) < 4 * (rate * (1 - rate) / rounds.size) ** 0.5
    pairs = (rounds[1:] & rounds[:-1]).mean()
    assert abs(pairs - rate**2) < 0.005
    assert rounds.sum(axis=1).std() > 0  # Poisson sampling: the number of users varies


def test_everyone_is_sampled_at_rate_one() -> None:
    assert sampled_users(0, 1, USERS, 1.0).all()
