"""Sums as whole numbers: within the rounding, exact where they count, never wrapped unnoticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrff.sums import BadReplyError, CohortSums, Expected, Quantity
from mrff.sums.cohort_sums import as_numbers
from mrff.wire.aggregation.secure.encoding import AMOUNT, PARTIES, SATURATED, SumLayout
from mrff.wire.aggregation.secure.primitives import SecureError
from tests.support.secure_sums import EXPECTED, SIZE, circle, layout, sums_of, total_of


def test_two_bits_and_a_sign_worked_by_hand() -> None:
    """Values up to 3 in 3 bits: the step is 1, so 1.4 is 1, -2.6 is -3 and 9 is cut to 3."""
    small = SumLayout.of(Expected({"a": (3,)}), {"a": 3.0}, ring_bits=16, value_bits=3)
    vectors = small.encoded(CohortSums({"a": np.array([1.4, -2.6, 9.0])}))
    assert vectors.arrays.tolist() == [1, 2**16 - 3, 3]
    assert vectors.numbers.tolist() == [1, 1]  # a node, one value cut
    found = small.decoded(vectors, 1)
    assert found.updates["a"].tolist() == [1.0, -3.0, 3.0]
    assert found.numbers[SATURATED].tolist() == [1]


@given(st.integers(1, 8), st.sampled_from([(16, 8), (16, 12), (32, 24), (64, 53)]))
@settings(max_examples=30)
def test_a_sum_is_within_half_a_step_of_each_node(nodes: int, bits: tuple[int, int]) -> None:
    chosen = layout(ring_bits=bits[0], value_bits=bits[1])
    total = chosen.zeros()
    for place in range(nodes):
        total += chosen.encoded(sums_of(place))
    found, wanted = chosen.decoded(total, nodes), total_of(range(nodes))
    worst = np.abs(found.updates["a"] - wanted.updates["a"]).max()
    assert worst <= nodes * chosen.steps["a"] / 2 * (1 + 1e-9) + 1e-12
    assert found.numbers["users"] == wanted.numbers["users"]
    assert abs(found.numbers["loss"] - wanted.numbers["loss"]) <= nodes * AMOUNT / 2


def test_what_is_absent_is_zero_and_everybody_sends_the_same_bytes() -> None:
    nothing, something = (layout().encoded(s) for s in (CohortSums(), sums_of(3)))
    assert nothing.arrays.nbytes == something.arrays.nbytes
    assert nothing.numbers.nbytes == something.numbers.nbytes
    assert not nothing.arrays.any()


def test_the_largest_values_of_all_nodes_at_once_do_not_wrap() -> None:
    chosen = layout(ring_bits=16, value_bits=12)
    chosen.check_nodes(16)
    total = chosen.zeros()
    for _ in range(16):
        total += chosen.encoded(CohortSums({"a": np.full(SIZE, -1e9)}))
    found = chosen.decoded(total, 16)
    np.testing.assert_allclose(found.updates["a"], -16.0)
    assert found.numbers[SATURATED].tolist() == [16 * SIZE]


def whole_layout(**bits: int) -> SumLayout:
    """Of an array whose numbers are whole already, a quarter each."""
    expected = replace(EXPECTED, steps={"a": 0.25})
    return SumLayout.of(expected, {"a": 1.0}, **({"ring_bits": 32, "value_bits": 20} | bits))


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9))
def test_whole_numbers_go_in_as_they_are_and_none_is_cut(values: list[int]) -> None:
    """However large one node's are: what counts is whether the sum fits into the ring."""
    chosen = whole_layout()
    total = chosen.zeros()
    for value in values:
        total += chosen.encoded(CohortSums({"a": np.full(SIZE, value)}))
    found = chosen.decoded(total, len(values))
    wrapped = (sum(values) + 2**31) % 2**32 - 2**31
    np.testing.assert_array_equal(found.updates["a"], np.full(SIZE, wrapped * 0.25))
    assert found.numbers[SATURATED].tolist() == [0]


def test_whole_numbers_need_no_bits_for_nodes_and_travel_as_such() -> None:
    chosen = whole_layout(ring_bits=16, value_bits=16)
    chosen.check_nodes(1000)
    assert SumLayout.unpacked(chosen.packed()) == chosen
    with pytest.raises(SecureError, match="too few"):
        layout(ring_bits=16, value_bits=16).check_nodes(1000)


def test_a_server_that_asks_for_noised_whole_numbers_coarsely_gets_nothing() -> None:
    """Rounded again, sums of shares would hold less noise than the shares."""
    with pytest.raises(SecureError, match="a has int64 numbers, another kind is asked for"):
        layout().encoded(CohortSums({"a": np.ones(SIZE, np.int64)}))
    with pytest.raises(SecureError, match="a has float64 numbers, another kind is asked for"):
        whole_layout().encoded(CohortSums({"a": np.ones(SIZE)}))
    finest, coarse = (replace(whole_layout(), steps={"a": step}) for step in (1e-9, 1e9))
    sums = CohortSums({"a": np.arange(SIZE)})
    assert (finest.encoded(sums).arrays == coarse.encoded(sums).arrays).all()


def test_the_masked_sum_of_whole_numbers_is_their_modular_sum() -> None:
    """Users' vectors with noise, on 4 nodes of whom one is lost: bit for bit."""
    everybody, chosen = circle(4), whole_layout()
    everybody.opening.layout = chosen
    random, modular = np.random.default_rng(3), np.zeros(SIZE, np.uint32)
    for name, node in everybody.nodes.items():
        node.receive(everybody.opening.shares_for(name))
        noisy = random.integers(-(2**30), 2**30, SIZE)
        vectors = node.mask(chosen.encoded(CohortSums({"a": noisy})))
        if name != "node-2":
            everybody.opening.add(name, vectors)
            modular += noisy.astype(np.uint32)
    found = everybody.open(everybody.opening.survivors).updates["a"]
    np.testing.assert_array_equal(found, modular.view(np.int32) * 0.25)


def test_bits_too_few_for_the_nodes_are_refused_with_the_way_out() -> None:
    with pytest.raises(SecureError, match=r"12 and 17 nodes need 17 bits, .*ring-bits=16 are too"):
        layout(ring_bits=16, value_bits=12).check_nodes(17)


def test_a_sum_that_so_many_nodes_cannot_have_is_rejected() -> None:
    chosen = layout()
    wrong = chosen.encoded(sums_of(0))
    with pytest.raises(BadReplyError, match="counts 1 nodes, 2 were added up"):
        chosen.decoded(wrong, 2)
    wrong.arrays[0] += np.uint32(2**30)
    with pytest.raises(BadReplyError, match="a is larger than its nodes can be"):
        chosen.decoded(wrong, 1)
    wrong.numbers[0] = np.uint64(2**64 - 1)  # loss
    with pytest.raises(BadReplyError, match="loss is below 0"):
        chosen.decoded(wrong, 1)


@pytest.mark.parametrize("value", [2.0**29, float("nan"), float("inf")])
def test_an_amount_without_room_is_refused_not_cut(value: float) -> None:
    with pytest.raises(SecureError, match="loss is too large, or no number"):
        layout().encoded(CohortSums({}, as_numbers({"loss": value})))


def test_a_name_that_nobody_asked_for_does_not_leave() -> None:
    with pytest.raises(SecureError, match="'secret' has no place"):
        layout().encoded(CohortSums({}, as_numbers({"secret": 1})))
    with pytest.raises(SecureError, match="'b' has no place"):
        layout().encoded(CohortSums({"b": np.ones(3)}))


def test_a_layout_travels_and_a_broken_one_is_refused() -> None:
    assert SumLayout.unpacked(layout().packed()) == layout()
    assert PARTIES in layout().numbers
    for text in ("", "{}", "[1, 2, 3]", layout().packed().replace("20, []", "60, []")):
        with pytest.raises(SecureError):
            SumLayout.unpacked(text)
    zero = layout().packed().replace(repr(layout().steps["a"]), "0.0")
    with pytest.raises(SecureError, match="cannot be used"):
        SumLayout.unpacked(zero)


def test_exact_arrays_keep_counts_exactly() -> None:
    """Gram matrices of linear models: 53 bits with a step of 2^-24."""
    expected = Expected({"gram": (2,)}, {"users": Quantity(whole=True)})
    chosen = SumLayout.of(expected, {"gram": 2.0**28}, ring_bits=64, value_bits=53)
    chosen.check_nodes(2048)
    total = chosen.encoded(CohortSums({"gram": np.array([123456.0, 0.0])}))
    total += chosen.encoded(CohortSums({"gram": np.array([1.0, 7.0])}))
    np.testing.assert_allclose(chosen.decoded(total, 2).updates["gram"], [123457.0, 7.0], rtol=1e-9)
    assert EXPECTED.updates["a"] == (SIZE,)
