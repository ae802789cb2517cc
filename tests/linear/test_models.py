"""EASE and SLIT: sums that add up, and the solutions against dense formulas over all users."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrff.linear import LINEAR, SCORERS, LinearPart, mix_of, mixes, sequences_of
from mrff.linear.base import symmetric, triangle
from mrff.linear.ease import RIDGE, Ease
from mrff.linear.part import BESIDE
from mrff.linear.rules import Rules
from mrff.linear.slit import RIDGE as SLIT_RIDGE
from mrff.linear.slit import Slit

SIZE = 7


def people(seed: int, users: int = 9) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(1, SIZE + 1, random.integers(1, 12)) for _ in range(users)]


def sums_over(model: object, users: list[np.ndarray]) -> dict[str, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(u) for u in users])])
    sequences = sequences_of(np.arange(1, SIZE + 1), np.concatenate(users), offsets)
    return model.sums(sequences)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("model", LINEAR.values(), ids=LINEAR)
@given(st.integers(0, 10_000), st.integers(1, 8))
@settings(deadline=None, max_examples=20)
def test_sums_of_two_silos_are_the_sums_of_all(model: object, seed: int, cut: int) -> None:
    users = people(seed)
    whole, left, right = (sums_over(model, part) for part in (users, users[:cut], users[cut:]))
    for name, values in whole.items():
        np.testing.assert_allclose(left[name] + right[name], values, atol=1e-9)
    assert {n: v.shape for n, v in whole.items()} == dict(model.shapes(SIZE))  # type: ignore[attr-defined]


def test_ease_is_the_published_solution() -> None:
    users = people(1)
    met = np.zeros((len(users), SIZE))
    for row, items in enumerate(users):
        met[row, items - 1] = 1.0
    inverse = np.linalg.inv(met.T @ met + RIDGE * np.eye(SIZE))
    expected = np.eye(SIZE) - inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(Ease().solve(sums_over(Ease(), users), SIZE), expected, atol=1e-12)


def test_slit_is_the_ridge_regression_of_the_next_item_on_the_decayed_history() -> None:
    users = people(2)
    rows, targets = [], []
    for items in users:
        for place in range(1, len(items)):
            row = np.zeros(SIZE)
            for age, item in enumerate(items[:place][::-1]):
                row[item - 1] += 0.8**age
            rows.append(row)
            targets.append(np.eye(SIZE)[items[place] - 1])
    history, following = np.array(rows), np.array(targets)
    expected = np.linalg.solve(
        history.T @ history + SLIT_RIDGE * np.eye(SIZE), history.T @ following
    )
    np.testing.assert_allclose(Slit().solve(sums_over(Slit(), users), SIZE), expected, atol=1e-12)


def test_rules_are_shares_of_what_followed() -> None:
    """1 then 2 for one user, 1 then 3 then 2 for another: of what followed 1, 2 has 1.8 of 2.8."""
    users = [np.array([1, 2]), np.array([1, 3, 2])]
    weights = Rules().solve(sums_over(Slit(), users), SIZE)
    np.testing.assert_allclose(weights[0, :3], [0.0, 1.8 / 2.8, 1.0 / 2.8])
    np.testing.assert_allclose(weights[2, :3], [0.0, 1.0, 0.0])


def test_a_history_by_hand() -> None:
    """Items 2, 5, 2 and then nothing known: the newest weighs 1, the one before 0.8."""
    sequences = sequences_of(np.array([2, 5]), np.array([2, 5, 2, 3]), np.array([0, 4]))
    row = sequences.before(np.array([0]), np.array([3]), Slit.ages).toarray()
    np.testing.assert_allclose(row, [[1.0 + 0.64, 0.8]])
    later = sequences.before(np.array([0]), np.array([4]), Slit.ages).toarray()
    np.testing.assert_allclose(later, [[0.8 + 0.512, 0.64]])  # item 3 is not known, but took time


def test_half_a_symmetric_matrix_is_all_of_it() -> None:
    matrix = np.arange(16.0).reshape(4, 4)
    matrix += matrix.T
    np.testing.assert_array_equal(symmetric(triangle(matrix), 4), matrix)


def test_mixes_add_up_and_begin_with_the_network_alone() -> None:
    tried = np.array(mixes())
    np.testing.assert_allclose(tried.sum(1), 1.0, atol=1e-5)
    assert tried[0].tolist() == list(mix_of(network=1.0))
    assert (tried[:, 0] == 0.0).sum() == len(BESIDE)  # without the network
    assert len(tried) == len(set(mixes())) < 100  # each ranks every held-out item once
    for scorer in (*LINEAR, "popularity"):  # alone, and beside the network
        assert mix_of(**{scorer: 1.0}) in mixes()
        assert ((tried[:, SCORERS.index(scorer)] > 0.0) & (tried[:, 0] > 0.5)).any()


def test_what_does_not_fit_is_no_linear_part() -> None:
    weights = {name: np.zeros((3, 3), np.float32) for name in LINEAR}
    part = LinearPart(np.array([1, 4, 9]), np.ones(3, np.float32), weights)
    again = LinearPart.of(part.arrays())
    assert again.items.tolist() == [1, 4, 9]
    with pytest.raises(ValueError, match="'slit' for its 3 items"):
        LinearPart.of({**part.arrays(), "slit": np.zeros((2, 3), np.float32)})
