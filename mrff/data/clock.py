"""Points in time as numbers since 1970 in some unit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}  # of one
_SINCE, _UNTIL = 631_152_000, 4_102_444_800  # seconds since 1970: 1990 to 2100
_NEARLY_ALL = 0.99  # of the times look like dates of today; counts since a start do not


def nanoseconds(times: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Times in whatever unit they are as nanoseconds since 1970; None: they are no such times.

    They are if most of them are between 1990 and 2100 in one unit. Equal ones stay equal. Those
    after 2116 become 2116, so that the difference of any two fits 64 bits.
    """
    for per_second in map(int, UNITS.values()):
        is_in = (times >= _SINCE * per_second) & (times < _UNTIL * per_second)
        if 2 * np.count_nonzero(is_in) > len(times):
            factor = 1_000_000_000 // per_second
            most = (2**62 - 1) // factor
            return np.asarray(times.clip(-most, most) * factor)
    return None


def mixed_units(times: NDArray[Any]) -> list[tuple[str, int]]:
    """The units that numbers are in, each with its first row from 0; empty: one, or none known.

    A number is in a unit if it is a time between 1990 and 2100 in it; nearly all have to be.
    """
    found, known = [], 0
    for unit, per_second in UNITS.items():
        is_in = (times >= _SINCE * per_second) & (times < _UNTIL * per_second)
        if is_in.any():
            found.append((unit, int(np.argmax(is_in))))
            known += int(np.count_nonzero(is_in))
    return found if len(found) > 1 and known >= _NEARLY_ALL * len(times) else []
