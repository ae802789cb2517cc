"""What a secure sum costs: bytes and seconds of a node and of the server, and how exact it is.

Every simulated node answers as a deployed one does, through `SecureClient`, its state on the disk.
Nodes that drop out do so after they have shared, which costs the server most. One node after the
other: memory does not grow with their number. Seconds are the processor's, without waiting for the
disk, so that other work beside it changes little.

    python benchmarks/secure_aggregation.py --nodes 100 --parameters 50000 --dropout 0.05
"""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from measuring import read_options

from mrff.config import RunConfig, full_names
from mrff.sums import CohortSums, Expected, Quantity
from mrff.wire.aggregation.base import NodeSide
from mrff.wire.aggregation.secure.client import SecureClient
from mrff.wire.aggregation.secure.encoding import SumLayout
from mrff.wire.aggregation.secure.messages import RECORD, block_of, contents_of, vectors_of
from mrff.wire.aggregation.secure.messages import StageRequest as Asked
from mrff.wire.aggregation.secure.opening import Opening
from mrff.wire.aggregation.secure.session import Bundle, Party, Session
from mrff.wire.records import content_bytes
from mrff.wire.replies import Reply

RING_BITS = 32
Stage = Callable[[SecureClient, RecordDict], RecordDict]


class Trial:
    """One secure sum; counts what each node sends, gets and takes, and what the server takes."""

    def __init__(self, folder: Path, layout: SumLayout, threshold: float) -> None:
        self.bytes: dict[str, int] = defaultdict(int)
        self.node_seconds: dict[str, float] = defaultdict(float)
        self.server_seconds = 0.0
        self._folder, self._layout, self._threshold = folder, layout, threshold
        self._session = Session("t", "train", 1, 1)
        settings = full_names({"secure-aggregation": True, "secure-threshold": threshold})
        self._config = RunConfig.from_flat(settings)

    def sum(self, nodes: Sequence[str], sending: Sequence[str]) -> np.ndarray:
        """Over those who send; the others drop out after they have shared."""
        bundles = [
            Bundle.unpacked(self._ask(name, Asked(self._session), SecureClient.keys).decode())
            for name in nodes
        ]
        with self._server():
            party = Party.of(self._session, bundles, self._threshold, 0)
            opening = Opening(party, self._layout)
            everybody = Asked(self._session, bundles=[bundle.packed() for bundle in bundles])
        for name in nodes:
            shares = self._ask(name, everybody, SecureClient.shares)
            with self._server():
                opening.take_shares(name, contents_of(shares))
        for name in sending:
            self._send(opening, name)
        self._open(opening)
        with self._server():
            found = self._layout.decoded(opening.opened(), len(opening.survivors))
        return found.updates["update"]

    def _send(self, opening: Opening, name: str) -> None:
        vector = unit_vector(name, *self._layout.arrays["update"])

        def submit(client: SecureClient, content: RecordDict) -> RecordDict:
            sums = CohortSums({"update": vector}, {"users": np.array(1)})
            return client.submit(content, lambda honest: Reply(1, sums))

        with self._server():
            shares = opening.shares_for(name)
        asked = Asked(self._session, layout=self._layout.packed(), contents=shares)
        block = self._ask(name, asked, submit)
        with self._server():
            opening.add(name, vectors_of(block))

    def _open(self, opening: Opening) -> None:
        left = sorted(opening.survivors)
        asked = Asked(self._session, survivors=left)
        signed = {name: self._ask(name, asked, SecureClient.unmask) for name in left}
        for name in left:
            near = {n: signed[n] for n in opening.party.neighbours[name] if n in signed}
            asked = Asked(self._session, survivors=left, contents=near)
            block = self._ask(name, asked, SecureClient.unmask)
            with self._server():
                opening.take_opened(name, contents_of(block))

    def _ask(self, name: str, asked: Asked, stage: Stage) -> bytes:
        """The node's answer, its process begun anew but for the imports."""
        content = RecordDict({"run": ConfigRecord({"training_id": "t"}), RECORD: asked.record()})
        began = time.process_time()
        side = {"partition-id": place_of(name), "num-partitions": 1}
        folder = self._folder / name
        client = SecureClient(NodeSide(self._config, side, folder, self._folder))
        reply = stage(client, content)
        self.node_seconds[name] += time.process_time() - began
        self.bytes[name] += content_bytes(content) + content_bytes(reply)
        return block_of(reply)

    @contextmanager
    def _server(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.server_seconds += time.process_time() - began


def main() -> None:
    """Prints the table."""
    options = read_options(
        __doc__, "json", nodes=10, parameters=50_000, dropout=0.0, threshold=0.6, seed=0
    )
    nodes, size = options.nodes, options.parameters
    bits = min(24, RING_BITS - math.ceil(math.log2(nodes)))
    expected = Expected({"update": (size,)}, {"users": Quantity(whole=True)})
    layout = SumLayout.of(expected, {"update": 1.0}, ring_bits=RING_BITS, value_bits=bits)
    names = [f"node-{place}" for place in range(nodes)]
    dropped = random.Random(options.seed).sample(names, round(options.dropout * nodes))
    sending = [name for name in names if name not in dropped]
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), layout, options.threshold)
        found = trial.sum(names, sending)
    for name in sending:
        found -= unit_vector(name, size)
    result = {
        "nodes": nodes,
        "parameters": size,
        "dropout": options.dropout,
        "max_error": float(np.abs(found).max()),
        "error_bound": len(sending) * layout.steps["update"] / 2,
        "bytes_per_node": sum(trial.bytes[name] for name in sending) / len(sending),
        "plain_bytes_per_node": 4 * size,
        "node_seconds": sum(trial.node_seconds[name] for name in sending) / len(sending),
        "server_seconds": trial.server_seconds,
    }
    for key, value in result.items():
        print(f"{key:>22}  {value:,.6g}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def place_of(name: str) -> int:
    """Of a node, from 0."""
    return int(name.removeprefix("node-"))


def unit_vector(name: str, size: int) -> np.ndarray:
    """(size,) of norm 1, the node's own."""
    values = np.random.default_rng(place_of(name)).normal(size=size)
    unit: np.ndarray = values / np.linalg.norm(values)
    return unit


if __name__ == "__main__":
    main()
