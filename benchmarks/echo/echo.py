"""Sends the same numbers as many arrays and as one, and gets them back.

For ../message_objects.py.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Sends back what came, with every number changed, since Flower keeps equal arrays once."""
    arrays = {name: Array(array.numpy() + 1) for name, array in message.content["arrays"].items()}
    return Message(RecordDict({"arrays": ArrayRecord(arrays)}), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Writes seconds, and the SuperLink's seconds of processor time, per round and way."""
    config = context.run_config
    while len(nodes := sorted(grid.get_node_ids())) < int(config["nodes"]):
        time.sleep(0.5)
    measured: dict[str, list[tuple[float, float]]] = {"many": [], "one": []}
    for _ in range(int(config["rounds"])):
        for way, number in (("many", int(config["arrays"])), ("one", 1)):
            content = RecordDict({"arrays": numbers(number, int(config["kilobytes"]))})
            began, used = time.monotonic(), processor_seconds(int(config["superlink"]))
            messages = [Message(content, dst_node_id=node, message_type="train") for node in nodes]
            replies = list(grid.send_and_receive(messages, timeout=600.0))
            assert len(replies) == len(nodes)
            assert not any(reply.has_error() for reply in replies)
            used = processor_seconds(int(config["superlink"])) - used
            measured[way].append((time.monotonic() - began, used))
    Path(str(config["out"])).write_text(json.dumps(measured))


def numbers(arrays: int, kilobytes: int) -> ArrayRecord:
    """As many arrays, as many kilobytes in all, no two of them alike."""
    rng, size = np.random.default_rng(), kilobytes * 256 // arrays
    return ArrayRecord(
        {f"array-{i}": Array(rng.random(size).astype(np.float32)) for i in range(arrays)}
    )


def processor_seconds(process: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
