"""What every phase relies on: adding nodes is adding sums, in any order and grouping."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mrff.sums import CohortSums, Quantity
from mrff.sums.cohort_sums import as_numbers, zeros_of

SHAPES = {"users": (), "loss": (), "loads": (2, 2), "w": (3,)}
COUNTS = {"users", "loads"}


def parts(*names: str) -> st.SearchStrategy[dict[str, np.ndarray]]:
    """Any of these names, each with an array of its shape and kind."""
    count, amount = st.integers(0, 2**40), st.floats(-1e6, 1e6, allow_subnormal=False)
    arrays = {
        name: npst.arrays(np.int64, SHAPES[name], elements=count)
        if name in COUNTS
        else npst.arrays(np.float64, SHAPES[name], elements=amount)
        for name in names
    }
    return st.fixed_dictionaries({}, optional=arrays)


sums = st.builds(CohortSums, parts("w"), parts("users", "loss", "loads"))


def assert_close(ours: CohortSums, theirs: CohortSums) -> None:
    """Counts exactly, amounts within what float64 rounds of numbers up to 1e6."""
    for some, others in ((ours.updates, theirs.updates), (ours.numbers, theirs.numbers)):
        assert some.keys() == others.keys()
        for name, array in others.items():
            assert (some[name].dtype, some[name].shape) == (array.dtype, array.shape)
            np.testing.assert_allclose(some[name], array, rtol=0, atol=1e-9, err_msg=name)
            if name in COUNTS:
                np.testing.assert_array_equal(some[name], array)


def test_a_sum_worked_by_hand() -> None:
    first = CohortSums({"w": np.float32([1, 2])}, as_numbers({"users": 2, "loss": 0.5}))
    second = CohortSums({"v": np.float32([7])}, as_numbers({"users": 3, "loads": [[1, 2]]}))
    third = CohortSums({"w": np.float32([0.5, -2])}, as_numbers({"loss": 0.25}))
    total = first + second + third
    assert {n: a.tolist() for n, a in total.updates.items()} == {"w": [1.5, 0.0], "v": [7.0]}
    assert {n: a.tolist() for n, a in total.numbers.items()} == {
        "users": 5, "loss": 0.75, "loads": [[1, 2]],
    }  # fmt: skip
    assert total.updates["w"].dtype == np.float64
    assert total.numbers["users"].dtype == np.int64
    assert (total.number("users"), total.number("loss")) == (5, 0.75)


def test_float32_updates_are_added_in_float64() -> None:
    """A million and 2 ** -5 are no neighbours in float32."""
    total = CohortSums()
    for value in (1e6, 2.0**-5, 2.0**-5):
        total += CohortSums({"w": np.float32([value])})
    assert total.updates["w"].tolist() == [1e6 + 2.0**-4]


@given(sums, sums)
def test_the_order_of_two_does_not_matter(a: CohortSums, b: CohortSums) -> None:
    assert_close(a + b, b + a)


@given(sums, sums, sums)
def test_grouping_does_not_matter(a: CohortSums, b: CohortSums, c: CohortSums) -> None:
    assert_close((a + b) + c, a + (b + c))


@given(sums)
def test_nothing_and_zeros_add_nothing(a: CohortSums) -> None:
    for zero in (CohortSums(), a.zeros_like()):
        assert_close(a + zero, a)
        assert_close(zero + a, a)


def test_an_absent_name_is_zero() -> None:
    total = CohortSums({}, as_numbers({"users": 2})) + CohortSums({"w": np.ones(3)})
    assert total.number("users") == 2
    assert total.number("targets") == 0
    assert total.updates["w"].tolist() == [1.0, 1.0, 1.0]


@given(sums, sums)
def test_plus_leaves_its_operands_as_they_were(a: CohortSums, b: CohortSums) -> None:
    before = copy.deepcopy((a, b))
    total = a + b
    for array in (*total.updates.values(), *total.numbers.values()):
        array += 1  # the result is nobody else's
    assert_close(a, before[0])
    assert_close(b, before[1])


@given(sums, sums)
def test_adding_in_place_is_adding_and_leaves_the_other(a: CohortSums, b: CohortSums) -> None:
    wanted, before = a + b, copy.deepcopy(b)
    total = copy.deepcopy(a)
    total += b
    total += CohortSums({}, {"users": np.array(1)})
    assert_close(total, wanted + CohortSums({}, {"users": np.array(1)}))
    assert_close(b, before)


def test_scaled_and_zeros_like_worked_by_hand() -> None:
    whole = CohortSums({"w": np.array([1.0, -4.0])}, as_numbers({"users": 3, "loads": [[1, 2]]}))
    half, zeros = whole.scaled(0.5), whole.zeros_like()
    assert half.updates["w"].tolist() == [0.5, -2.0]
    assert half.number("users") == 1.5
    assert half.numbers["loads"].tolist() == [[0.5, 1.0]]
    assert zeros.updates["w"].tolist() == [0.0, 0.0]
    assert (zeros.number("users"), zeros.numbers["loads"].tolist()) == (0, [[0, 0]])
    assert zeros.numbers["users"].dtype == np.int64
    assert whole.updates["w"].tolist() == [1.0, -4.0]
    # Half of somebody and somebody: whichever comes first.
    for total in (half + whole, whole + half):
        assert total.updates["w"].tolist() == [1.5, -6.0]
        assert total.number("users") == 4.5


def test_numbers_under_a_prefix_and_back() -> None:
    inner = CohortSums({}, as_numbers({"users": 2, "loss": 0.5}))
    outer = CohortSums({"w": np.ones(1)}, as_numbers({"users": 7})) + inner.prefixed("beside.")
    assert outer.number("users") == 7
    assert outer.number("beside.users") == 2
    assert_close(outer.under("beside."), inner)


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
@pytest.mark.parametrize("whole", [True, False])
def test_zeros_of_what_is_asked_for(shape: tuple[int, ...], whole: bool) -> None:
    array = zeros_of({"n": Quantity(shape, whole)}).numbers["n"]
    assert (array.shape, array.dtype) == (shape, np.int64 if whole else np.float64)
    assert not array.any()
