"""How sums get from nodes to the server. A new way: its file, and its line in `AGGREGATIONS`."""

from mrff.wire.aggregation.base import Aggregation, Asked, RoundFailedError
from mrff.wire.aggregation.plain import PlainAggregation

AGGREGATIONS: dict[str, Aggregation] = {"plain": PlainAggregation()}

__all__ = ["AGGREGATIONS", "Aggregation", "Asked", "RoundFailedError"]
