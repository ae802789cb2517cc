"""Aggregation ``secure``: the server sees the sum over nodes, and no node's own."""

from mrff.config import RunConfig
from mrff.wire.aggregation.base import NodeSide
from mrff.wire.aggregation.secure.client import SecureClient
from mrff.wire.aggregation.secure.server import SecureServer


class SecureAggregation:
    """See `Aggregation`."""

    def server(self, config: RunConfig) -> SecureServer:
        return SecureServer(config.privacy)

    def client(self, node: NodeSide) -> SecureClient:
        return SecureClient(node)


__all__ = ["SecureAggregation"]
