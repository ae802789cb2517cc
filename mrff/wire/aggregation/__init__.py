"""How sums get from nodes to the server. A new way: its file, and its line in `AGGREGATIONS`."""

from mrff.config import RunConfig
from mrff.wire.aggregation.base import (
    Aggregation,
    Asked,
    ClientSums,
    ModelCopy,
    NodeSide,
    RoundFailedError,
    ServerSums,
)
from mrff.wire.aggregation.compressed import CompressedAggregation
from mrff.wire.aggregation.plain import PlainAggregation
from mrff.wire.aggregation.secure import SecureAggregation

AGGREGATIONS: dict[str, Aggregation] = {
    "plain": PlainAggregation(),
    "compressed": CompressedAggregation(),
    "secure": SecureAggregation(),
}


def aggregation_of(config: RunConfig) -> Aggregation:
    """The one that a run asks for."""
    if config.privacy.secure_aggregation:
        return AGGREGATIONS["secure"]
    return AGGREGATIONS["plain" if config.server.compression == "none" else "compressed"]


__all__ = [
    "AGGREGATIONS",
    "Aggregation",
    "Asked",
    "ClientSums",
    "ModelCopy",
    "NodeSide",
    "RoundFailedError",
    "ServerSums",
    "aggregation_of",
]
