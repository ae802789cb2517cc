"""Many named arrays as one block of bytes, which is how they travel.

Flower 1.41 stores, sends and confirms every array of a message by itself: a model of 50 arrays is
100 requests per node and direction, and what they cost the SuperLink does not depend on their size
(benchmarks/message_objects.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

PACKED = "arrays"  # the name of the one array of a record
FORMAT = "safetensors"  # how its bytes are to be read


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays with their names, shapes and types; equal arrays give equal bytes."""
    return safetensors.numpy.save({n: np.asarray(a, order="C") for n, a in arrays.items()})


def unpack(block: bytes) -> dict[str, NDArray[Any]]:
    """The inverse of `pack`; the arrays are copies and may be written to.

    Raises:
        ValueError: it is no such block; lengths are checked before anything is allocated.
    """
    try:
        return dict(safetensors.numpy.load(block))
    except Exception as error:  # SafetensorError, or KeyError for a type that numpy has not
        raise ValueError(f"not {FORMAT}: {error}") from error
