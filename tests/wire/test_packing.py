from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mrff.wire.packing import pack, unpack

ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=20),
    npst.arrays(
        st.sampled_from([np.float32, np.float64, np.int64]),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    max_size=5,
)


@given(ARRAYS)
def test_what_is_unpacked_is_what_was_packed(arrays: dict[str, np.ndarray]) -> None:
    unpacked = unpack(pack(arrays))
    assert unpacked.keys() == arrays.keys()
    for name, array in arrays.items():
        assert unpacked[name].dtype == array.dtype
        assert unpacked[name].shape == array.shape
        assert unpacked[name].tobytes() == array.tobytes()
        assert unpacked[name].flags.writeable


def test_equal_arrays_give_equal_bytes_whatever_their_order_in_memory() -> None:
    first = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.float32)}
    second = {"b": first["b"].copy(), "a": np.asfortranarray(first["a"])}
    assert pack(first) == pack(second)


@pytest.mark.parametrize("cut", [0, 4, 20, -1])
def test_less_than_was_packed_cannot_be_read(cut: int) -> None:
    block = pack({"a": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="not safetensors: "):
        unpack(block[:cut])
