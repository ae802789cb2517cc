"""How large one node's sums may be, by array: public, and learned from sums that were opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from logging import getLogger

import numpy as np

HEADROOM = 256.0  # over the largest sum seen: one node may stand against all others
WIDER = 16.0  # when values were cut
EXACT_BITS = 53
_EXACT = 2.0**28  # 53 bits then resolve 2^-24: exact for counts, enough for weights
log = getLogger("flwr")


class Ranges:
    """Of one run; begins anew when a run is resumed.

    Args:
        begin: of every array before anything is known.
    """

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._found: dict[str, float] = {}

    def of(self, names: Iterable[str], *, exact: bool) -> dict[str, float]:
        """The largest values of one node; ``exact``: whatever is asked once, and never cut."""
        if exact:
            return dict.fromkeys(names, _EXACT)
        return {name: self._found.get(name, self._begin) for name in names}

    def seen(self, sums: Mapping[str, np.ndarray], cut: Mapping[str, int]) -> None:
        """Takes in a sum that was opened, and how many values of each array were cut."""
        for name, values in sums.items():
            if cut[name]:
                self._found[name] = WIDER * self._found.get(name, self._begin)
                log.warning(
                    "secure sum: %d values of %s were cut, its range is %g from now on",
                    cut[name], name, self._found[name],
                )  # fmt: skip
            elif largest := float(np.abs(values).max(initial=0.0)):
                self._found[name] = max(HEADROOM * largest, 2.0**-60)
