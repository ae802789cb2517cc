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
from client_app.evaluate import evaluate_round
from client_app.node import open_node
from client_app.train import train_round
from mrff.data.schema import Schema
from mrff.wire.requests import Request, RoundFacts, RunFacts
from mrff_model.building import initial_shared

data, state = sys.argv[1:]
run = RunFacts(Schema.load(Path(data)).schema_hash, "t", data, state)
request = Request(run, RoundFacts(1, part="valid"), {}, {})
node = open_node({"training.sampling-rate": 1.0}, {"data-dir": data, "state-dir": state}, request)
content = Request(run, request.facts, *initial_shared(node.network)).content()
request = Request.read(content)
assert "updates" in node.aggregation.submit(request.content(), lambda _: train_round(node, request))
answer = node.aggregation.submit(request.content(), lambda _: evaluate_round(node, request))
assert answer["numbers"]["users"] > 0
print(*sys.modules)
"""
NEVER = {"opacus", "pandas", "tensorboard", "sklearn", "scipy", "ray", "torch._dynamo"}
NEVER |= {"torch._inductor", "server_app", "strategies", "mrff.cli", "mrff.ops", "mrff.experiments"}
NEVER |= {"client_app.learners.silo", "mrff.privacy.mechanisms.noisy_steps", "jinja2", "plotly"}


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


def test_stages_of_a_secure_sum_bring_neither_pytorch_nor_scipy() -> None:
    """What a process of the app imports before it knows which message it answers."""
    script = "import sys, client_app.app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & {*NEVER, "torch", "client_app.node"}
