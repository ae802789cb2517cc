from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_to_proto

from mrff.sums import BadReplyError
from mrff.wire.records import array_record, arrays_in, arrays_of, content_bytes, packed_record

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([0.5])}


def test_counted_bytes_are_those_that_travel() -> None:
    """Within the keys and lengths that Flower adds."""
    counts = {"positives": [2**20] * 2048, "negatives": [-1, 63, 64, 8191, 8192] * 400}
    content = RecordDict({"numbers": MetricRecord({"users": 2, "loss": 0.8, **counts})})
    content["arrays"] = packed_record(ARRAYS)
    content["texts"] = ConfigRecord({"a": "text", "b": b"bytes", "c": 0.5, "d": -(2**40), "e": []})
    travelling = len(recorddict_to_proto(content).SerializeToString())
    assert 0.95 * travelling < content_bytes(content) < travelling


def test_arrays_come_back_packed_or_one_by_one() -> None:
    for read in (arrays_of(array_record(ARRAYS)), arrays_in(_packed(), "arrays")):
        assert read.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)


def test_missing_arrays_are_none_or_an_error() -> None:
    assert arrays_in(_packed(), "others") == {}
    with pytest.raises(BadReplyError, match="the record 'others' must hold the packed array"):
        arrays_in(_packed(), "others", required=True)


def _packed() -> RecordDict:
    return RecordDict({"arrays": packed_record(ARRAYS)})
