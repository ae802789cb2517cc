"""How sums get from nodes to the server. A new way: its file, and its line in `AGGREGATIONS`."""

from mrff.config import PrivacySettings
from mrff.wire.aggregation.base import (
    Aggregation,
    Asked,
    ClientSums,
    NodeSide,
    RoundFailedError,
    ServerSums,
)
from mrff.wire.aggregation.plain import PlainAggregation
from mrff.wire.aggregation.secure import SecureAggregation

AGGREGATIONS: dict[str, Aggregation] = {
    "plain": PlainAggregation(),
    "secure": SecureAggregation(),
}


def aggregation_of(privacy: PrivacySettings) -> Aggregation:
    """The one that a run asks for."""
    return AGGREGATIONS["secure" if privacy.secure_aggregation else "plain"]


__all__ = [
    "AGGREGATIONS",
    "Aggregation",
    "Asked",
    "ClientSums",
    "NodeSide",
    "RoundFailedError",
    "ServerSums",
    "aggregation_of",
]
