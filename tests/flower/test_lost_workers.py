"""A worker of Flower's simulation is killed: its work goes to another, nobody is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mrff.data.prepare import prepare
from server_app.run.history import read_history

MRFF = Path(sys.executable).parent / "mrff"
ROOT = Path(__file__).parents[2]
NODES, USERS, ROUNDS = 4, 20, 40
pytestmark = pytest.mark.slow


def workers_of(home: Path) -> list[int]:
    """Ray gives them a title, and they work in the engine's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            here = os.readlink(entry / "cwd").startswith(str(home))
            title = (entry / "cmdline").read_text(errors="replace")
        except OSError:  # somebody else's, or it ended
            continue
        if here and title.startswith("ray::ClientAppActor"):
            found.append(int(entry.name))
    return found


@pytest.mark.long
def test_work_of_a_killed_worker_goes_to_a_new_one(tmp_path: Path) -> None:
    """Flower puts the dead one back among the idle, where it fails at once, again and again."""
    prepare("synthetic", out=tmp_path / "data", options={"users": USERS, "items": 40})
    settings = {
        "num-server-rounds": ROUNDS, "window-length": 16, "data-dir": tmp_path / "data",
        "run.name": "killed", "min-reply-fraction": 0.1,
    }  # fmt: skip
    words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    history = tmp_path / "runs/killed/history.jsonl"
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(
            [str(MRFF), "run", "--nodes", str(NODES), *words],
            env={**os.environ, "MRFF_HOME": str(tmp_path)}, cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
        killed = 0
        while running.poll() is None:
            rounds = sum(entry["kind"] == "round" for entry in read_history(history))
            workers = workers_of(tmp_path)
            if workers and rounds >= 5 * (killed + 1) and killed < 2:
                # One of them after round 5, all of them after round 10.
                for worker in workers if killed else workers[:1]:
                    os.kill(worker, signal.SIGKILL)
                killed += 1
            time.sleep(0.05)
    said = (tmp_path / "log").read_text()
    assert killed == 2
    assert running.returncode == 0, said[-3000:]
    entries = read_history(history)
    assert [(e["replies"], e["rejected"], e["missing"]) for e in entries] == [
        (NODES, [], [])
    ] * len(entries)
    summary = json.loads((tmp_path / "runs/killed/summary.json").read_text())
    assert (summary["rounds"], summary["test_users"]) == (ROUNDS, USERS)
    assert "a worker of the simulation has died" in said
    assert "Traceback" not in said, said


def test_a_message_that_kills_every_worker_fails_alone(tmp_path: Path) -> None:
    """Its node is missing with the reason; other messages find a worker that lives."""
    code = """
import json
import os
import sys
from pathlib import Path
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
from ray.exceptions import RayActorError
from server_app.simulation_workers import replace_dead_workers
from tests.support.flower_internals import identify

app = ClientApp()

@app.train()
def train(message: Message, context: Context) -> Message:
    if message.content["what"]["kills"]:
        os._exit(1)
    if message.content["what"]["fails"]:
        raise ValueError("two\\nlines")
    return Message(message.content, reply_to=message)

def asked(**what: bool) -> Message:
    what = {"kills": False, "fails": False} | what
    message = Message(RecordDict({"what": ConfigRecord(what)}), 1, "train")
    context = Context(1, 1, {"partition-id": 0}, RecordDict(), {})
    return backend.process_message(message, context)[0]

identify()
said = []
replace_dead_workers()
replace_dead_workers()
backend = RayBackend({"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": 2}})
backend.build(lambda: app)
try:
    asked(kills=True)
except RayActorError as error:
    said.append(str(error).splitlines()[0])
living = list(backend.pool.pool)
for _ in range(4):
    assert asked().has_content()
try:
    asked(fails=True)
except Exception as error:
    said.append(" ".join(str(error).split()))
assert set(backend.pool.pool) == set(living) and len(living) == 2
backend.terminate()
Path(sys.argv[1]).write_text(json.dumps(said))  # Ray writes into what is printed
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "said")],
        cwd=ROOT, capture_output=True, text=True, timeout=900,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "said").read_text()) == [
        "The actor died unexpectedly before finishing this task.",
        "Exception ClientAppException occurred. Message: two lines",
    ]
    assert done.stderr.count("a worker of the simulation has died") == 3
