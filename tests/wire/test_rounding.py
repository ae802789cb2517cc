"""Rounding at random to a few bits: what it is on average, what it costs, what it refuses."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mrff.wire.packing import pack, unpack
from mrff.wire.rounding import LEAST_ROW, Rounding

BITS = [8, 4]
finite = st.floats(-(2.0**100), 2.0**100, width=32)
arrays = st.dictionaries(
    st.text(min_size=1, max_size=8),
    npst.arrays(np.float32, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20),
                elements=finite),
    max_size=4,
)  # fmt: skip


def there_and_back(bits: int, values: np.ndarray, seed: int = 0) -> np.ndarray:
    return Rounding(bits).unpack(Rounding(bits).pack({"a": values}, seed))["a"]


@pytest.mark.parametrize("bits", BITS)
@settings(max_examples=60)
@given(arrays, st.integers(0, 2**63 - 1))
def test_a_value_moves_by_less_than_a_step_of_its_row(
    bits: int, given_: dict[str, np.ndarray], seed: int
) -> None:
    rounding = Rounding(bits)
    found = rounding.unpack(rounding.pack(given_, seed))
    assert found.keys() == given_.keys()
    for name, array in given_.items():
        assert (found[name].dtype, found[name].shape) == (np.float32, array.shape)
        largest = float(np.abs(array).max(initial=0.0))
        step = largest / rounding.levels  # a scale is at least as fine as the array's
        moved = np.abs(found[name].astype(np.float64) - array)
        assert (moved <= step * (1 + 1e-5) + 2.0**-126).all()  # a step is a normal float32, or 0
        assert not found[name][array == 0.0].any()


def test_numbers_worked_by_hand() -> None:
    """A row of scale 7 has the steps -7 to 7 in 4 bits; 2.25 is 2 or 3, three times as often 2."""
    row = np.zeros((1, 16), np.float32)
    row[0, :4] = [7.0, -7.0, 3.0, 2.25]
    seen = np.concatenate([there_and_back(4, row, seed) for seed in range(2000)])
    np.testing.assert_array_equal(seen[:, :3], np.broadcast_to([7.0, -7.0, 3.0], (2000, 3)))
    assert set(seen[:, 3].tolist()) == {2.0, 3.0}
    assert abs((seen[:, 3] == 2.0).mean() - 0.75) < 0.04  # four deviations


@pytest.mark.parametrize("bits", BITS)
def test_it_is_right_on_average(bits: int) -> None:
    """The mean over seeds comes as near as the variance of a step allows: 5 deviations."""
    values = np.random.default_rng(3).standard_normal((40, 64)).astype(np.float32)
    values[4] *= 1e-6  # a row of its own size has steps of its own
    seeds = 1500
    total = sum(there_and_back(bits, values, seed).astype(np.float64) for seed in range(seeds))
    tops = np.abs(values).max(axis=1, keepdims=True)
    step = tops * 2 ** (1 / 8) / Rounding(bits).levels  # scales are an eighth of a bit apart
    assert (np.abs(total / seeds - values) < 5 * step / 2 / seeds**0.5).all()


def test_equal_arrays_round_equally_and_seeds_differ() -> None:
    values = {"a": np.random.default_rng(0).standard_normal((9, 20)).astype(np.float32)}
    copied = {"a": np.asfortranarray(values["a"])}
    assert Rounding(4).pack(values, 1) == Rounding(4).pack(copied, 1)
    assert Rounding(4).pack(values, 1) != Rounding(4).pack(values, 2)
    other = {"a": values["a"] + np.float32(1e-6)}  # another node's: other draws
    ours, theirs = (Rounding(4).unpack(Rounding(4).pack(v, 1))["a"] for v in (values, other))
    assert (ours != theirs).any()


@pytest.mark.parametrize(("bits", "least"), [(8, 4.0), (4, 8.0)])
def test_normal_numbers_take_at_most_their_bits(bits: int, least: float) -> None:
    values = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    assert values.nbytes > least * 0.98 * len(Rounding(bits).pack({"table": values}, 0))
    untouched = np.zeros((2000, 64), np.float32)
    untouched[:20] = values[:20]
    assert len(Rounding(bits).pack({"table": untouched}, 0)) < untouched.nbytes / 200


def test_narrow_rows_share_a_scale_and_wide_ones_have_their_own() -> None:
    narrow, wide = np.ones((64, 4), np.float32), np.ones((64, LEAST_ROW), np.float32)
    wide[1:] *= 1e-9
    scales = {
        name: unpack(zlib.decompress(Rounding(8).pack({"a": a}, 0)))["scales"]
        for name, a in (("narrow", narrow), ("wide", wide))
    }
    assert {name: len(found) for name, found in scales.items()} == {"narrow": 4, "wide": 64}
    np.testing.assert_allclose(there_and_back(8, wide)[1:], wide[1:], rtol=0.1)


def test_a_column_of_small_numbers_beside_large_ones_keeps_its_size() -> None:
    """Else it would be zeros and now and then a step of the large ones, 4,000 times too long."""
    values = np.random.default_rng(5).standard_normal((32, 110)).astype(np.float32)
    values[:, 7] *= 1e-4
    values[:, 9] = 0.0
    found = there_and_back(4, values)
    error = np.abs(found - values).max(axis=0)
    tops = np.abs(values).max(axis=0)
    assert (error <= 2 ** (2 / 8) * tops / Rounding(4).levels * 1.001).all()
    seeds = 400
    total = sum(there_and_back(4, values, seed).astype(np.float64) for seed in range(seeds))
    deviations = 5 * 2 ** (2 / 8) * tops / Rounding(4).levels / 2 / seeds**0.5
    assert (np.abs(total / seeds - values) <= deviations).all()


def test_columns_have_factors_where_they_differ() -> None:
    uneven, even = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    uneven[:, 1] = -1 / 32  # five octaves are 40 eighths
    even[:, 1] = 1 / 8
    vector = np.array([1.0, 1.0, 1 / 32], np.float32)  # it has no inputs
    arrays = {"even": even, "uneven": uneven, "vector": vector}
    parts = unpack(zlib.decompress(Rounding(4).pack(arrays, 0)))
    assert parts["uneven"].tolist() == [0, 1, 0]
    assert parts["columns"].tolist() == [0, 40, 0]
    np.testing.assert_array_equal(there_and_back(4, uneven), uneven)


Change = Callable[[dict[str, np.ndarray]], object]


def says(**parts: object) -> Change:
    return lambda found: found.update({n: np.asarray(v) for n, v in parts.items()})


def header(*named: object) -> Change:
    block = np.frombuffer(json.dumps(named).encode(), np.uint8)
    return lambda found: found.update(arrays=block)


TOO_MANY, FLOATS = [2**20] * 2, np.float32
ATTACKS: dict[str, tuple[Change, str]] = {
    "a scale that is no number": (says(largest=FLOATS([np.nan])), "has the scale nan"),
    "an infinite scale": (says(largest=FLOATS([np.inf])), "has the scale inf"),
    "a negative scale": (says(largest=FLOATS([-1.0])), "has the scale -1.0"),
    "scales in other numbers": (says(largest=np.float64([1.0])), "other parts"),
    "a step beyond all": (says(values=np.full(20, 0xFF, np.uint8)), "beyond 7 steps"),
    "too few scales": (says(scales=np.zeros(0, np.uint8)), "header claims"),
    "too many values": (says(values=np.zeros(21, np.uint8)), "header claims"),
    "factors of columns too many": (says(columns=np.zeros(1, np.uint8)), "header claims"),
    "factors of columns too few": (says(uneven=np.ones(1, np.uint8)), "header claims"),
    "too few marks": (says(uneven=np.zeros(0, np.uint8)), "header claims"),
    "another part": (says(more=np.zeros(1, np.uint8)), "other parts"),
    "terabytes": (header(["a", TOO_MANY]), "header claims"),
    "sides beyond all": (header(["a", [2**70, 0]]), "has the shape"),
    "sides below zero": (header(["a", [-40]]), "has the shape"),
    "sides in words": (header(["a", ["2", "20"]]), "has the shape"),
    "too many sides": (header(["a", [1] * 40]), "has the shape"),
    "no name": (header([1, [2, 20]]), "has the shape"),
    "a name twice": (header(["a", [2, 20]], ["a", [0]]), "twice"),
    "no list": (header("a"), "header cannot be read"),
    "no header": (says(arrays=np.frombuffer(b"{", np.uint8)), "header cannot be read"),
}


@pytest.mark.parametrize(("change", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_a_block_that_lies_is_one_clear_error(change: Change, reason: str) -> None:
    honest = Rounding(4).pack({"a": np.ones((2, 20), np.float32)}, 0)
    parts = unpack(zlib.decompress(honest))
    change(parts)
    with pytest.raises(ValueError, match=reason) as caught:
        Rounding(4).unpack(zlib.compress(pack(parts)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bits", BITS)
def test_what_is_not_finite_is_refused_by_whoever_reads_it(bits: int) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="has the scale"):
            there_and_back(bits, np.float32([1.0, bad]))


def test_a_corrupt_block_is_one_clear_error() -> None:
    block = Rounding(8).pack({"a": np.arange(400, dtype=np.float32)}, 0)
    flipped = bytearray(block)
    flipped[len(block) // 2] ^= 0x10
    for bad in (b"", b"nothing", block[:-1], block + b"x", bytes(flipped)):
        with pytest.raises(ValueError, match="not zlib"):
            Rounding(8).unpack(bad)
    with pytest.raises(ValueError, match="not safetensors"):
        Rounding(8).unpack(zlib.compress(b"nothing"))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(50 << 20), 9)  # 50 MB in 50 KB
    with pytest.raises(ValueError, match="unpacks to more than 1000000 bytes"):
        Rounding(8).unpack(bomb, 1_000_000)
