"""Checks of a reply in a private mode: the same records, arrays and sizes from everybody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from strategies.aggregation import Arrays
from strategies.replies import (
    Expected,
    Metrics,
    arrays_in,
    check_arrays,
    no_other_records,
    require,
)

METRICS = frozenset({"round", "units", "noise-deviation"})


@dataclass(frozen=True)
class PrivateReply:
    """A node's summed vector. ``units`` is public: users it has, or users that take part."""

    units: int
    noise_deviation: float
    public: Arrays
    group: Arrays
    statistics: NDArray[np.float32]

    def arrays(self) -> Iterator[NDArray[np.float32]]:
        """All parts of the vector."""
        yield from self.public.values()
        yield from self.group.values()
        yield self.statistics


def read_private_reply(
    content: RecordDict, expected: Expected, server_round: int, *, num_statistics: int
) -> PrivateReply:
    """The reply to a train message in a private mode.

    Args:
        expected: the arrays that are trained; each of them must be there, every expert included.

    Raises:
        BadReplyError: it is not exactly what round ``server_round`` asked for.
    """
    no_other_records(content, {"public", "group", "statistics", "metrics"})
    metrics = Metrics(content, server_round)
    metrics.only(METRICS)
    units = metrics.count("units")
    public, group = arrays_in(content, "public"), arrays_in(content, "group")
    statistics = arrays_in(content, "statistics")
    check_arrays("public", public, expected.public if units else {})
    check_arrays("group", group, expected.group if units else {})
    check_arrays("statistics", statistics, {"statistics": (num_statistics,)} if units else {})
    deviation = metrics.number("noise-deviation")
    require(units > 0 or deviation == 0.0, "there is noise without units")
    return PrivateReply(
        units=units,
        noise_deviation=deviation,
        public=public,
        group=group,
        statistics=statistics.get("statistics", np.zeros(0, np.float32)),
    )
