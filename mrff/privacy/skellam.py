"""The Skellam distribution as a table of whole numbers that random bits are looked up in.

The difference of two Poisson numbers of mean v/2 has variance v and P(k) = exp(-v) I_k(v), with
Bessel's I. The probabilities follow from I_(k-1) = I_(k+1) + 2k/v I_k, downwards from a k whose
probability does not count (Miller's way): sums of positive terms, here of whole numbers. They add
up to 1. A number is drawn by 127 random bits for its size and one for its sign. No probability is
off by more than 2**-126, so that a million numbers differ from exact ones by less than 1e-25 in
total variation: less than any delta notices.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIZE_BITS = 127  # random ones that decide the size of a number
LARGEST_VARIANCE = 2**36  # its table takes ten seconds; it grows with the deviation
_LOW_BITS = 64
_SCALE = 1 << 128  # the smallest probability, as a whole number


class SkellamTable(NamedTuple):
    """P(at least k) in units of 2**-127, for falling k: high 63 bits and low 64 bits of each."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]


@lru_cache(maxsize=4)
def skellam_table(variance: int) -> SkellamTable:
    """The sizes of Skellam numbers of mean 0.

    Raises:
        ValueError: the variance is below 1 or too large for a table.
    """
    if not 1 <= variance <= LARGEST_VARIANCE:
        raise ValueError(
            f"Skellam noise must have a variance of 1 to {LARGEST_VARIANCE:,} squared steps of the "
            f"grid, got {variance:,}: choose other privacy.grid-steps"
        )
    # 2**-127 is 13 deviations out; thin tails of small variances are longer, but never so long.
    largest = 14 * math.isqrt(variance) + 150
    above, here = 0, _SCALE
    sizes = []  # twice P(k), from the largest k down to 1
    for k in range(largest, 0, -1):
        sizes.append(2 * here)
        above, here = here, above + 2 * k * here // variance
    tails = list(accumulate(sizes))
    whole = tails[-1] + here
    units = [found for tail in tails if (found := (tail << SIZE_BITS) // whole)]
    mask = (1 << _LOW_BITS) - 1
    return SkellamTable(
        np.array([unit >> _LOW_BITS for unit in units], np.uint64),
        np.array([unit & mask for unit in units], np.uint64),
    )
