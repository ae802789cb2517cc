"""A node whose catalogue is an earlier version than the server's takes part with what it knows.

It trains the rows that it has. Rows of later items and values reach the server as zeros.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from client_app.node import Node
from mrff.sums import CohortSums
from mrff.wire.replies import Reply
from mrff.wire.requests import Arrays, Request
from mrff_model.building import tensors_of
from mrff_model.growing import may_grow

_COPY = re.compile(r"clusters\.\d+\.")


def as_known(request: Request, node: Node) -> Request:
    """The request with the rows of tables that the node's own network has."""
    rows = {name: tuple(value.shape) for name, value in tensors_of(node.network, "public").items()}
    return replace(request, public=_cut(request.public, rows), group=_cut(request.group, rows))


def with_zeros(reply: Reply, request: Request) -> Reply:
    """The reply with every array as long as the one that came."""
    came, updates = {**request.public, **request.group}, {}
    for name, update in reply.sums.updates.items():
        missing = len(came[name]) - len(update) if name in came and update.ndim else 0
        rows = [(0, missing), *[(0, 0)] * (update.ndim - 1)]
        updates[name] = np.pad(update, rows) if missing > 0 else update
    return Reply(reply.round, CohortSums(updates, reply.sums.numbers))


def _cut(arrays: Arrays, own: Mapping[str, tuple[int, ...]]) -> Arrays:
    cut = {}
    for name, array in arrays.items():
        shape = own.get(_COPY.sub("", name, count=1))
        fits = shape is not None and may_grow(name, shape, array.shape)
        cut[name] = array[: shape[0]] if shape is not None and fits else array
    return cut
