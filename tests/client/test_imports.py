"""What a deployed node imports: it pays for it again with every message, in a new process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Answers a train message that asks for a validation too, then names what has been imported.
SCRIPT = """
import sys
from pathlib import Path
from client_app.app import app
from client_app.node import open_node
from client_app.rounds import evaluate_round, train_round
from client_app.totals import packed_record
from flwr.app import ConfigRecord, RecordDict
from mrff.data.schema import Schema
from mrff_model.building import initial_shared
import torch

data, state = sys.argv[1:]
request = {
    "round": 1, "epoch-starts": [0], "checkpoint-round": 0, "best-round": 0, "loads": [],
    "schema-hash": Schema.load(Path(data)).schema_hash, "training-id": "t", "data-dir": data,
    "state-dir": state, "split": "valid",
}
node = open_node({"sampling-rate": 1.0}, {"data-dir": data, "state-dir": state}, request)
public, group = (
    packed_record({name: torch.from_numpy(array) for name, array in part.items()})
    for part in initial_shared(node.network)
)
content = RecordDict({"public": public, "group": group, "round": ConfigRecord(request)})
assert "public" in train_round(node, content)
assert evaluate_round(node, content)["metrics"]["num-users"] > 0
print(*sys.modules)
"""
NEVER = {"opacus", "pandas", "tensorboard", "sklearn", "scipy", "ray", "mrff.privacy"}
NEVER |= {"torch._dynamo", "torch._inductor", "server_app", "strategies"}
NEVER |= {"mrff.cli", "mrff.ops", "mrff.experiments"}


def test_a_message_without_privacy_imports_no_more_than_it_needs(
    small_data: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(small_data), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert imported & NEVER == set()
    assert {"torch", "flwr", "pyarrow"} <= imported, "the list is that of a node"
