"""Ctrl-C and SIGTERM end long commands: a status that says so, one line, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mrff.data.prepare import prepare
from mrff.ops.processes import MARK, marked
from server_app.run.checkpoint import load_checkpoint
from server_app.run.history import read_history

MRFF = Path(sys.executable).parent / "mrff"
ENDS = {signal.SIGINT: (130, "mrff: interrupted"), signal.SIGTERM: (143, "mrff: terminated")}
BOTH = pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    status: int
    said: str


def ended_by(
    number: signal.Signals, home: Path, words: list[str], at_work: Callable[[], bool]
) -> Ended:
    """Starts the real command, sends the signal to it once it is at work, and waits for its end.

    No process that carries its mark is left.
    """
    mark = uuid.uuid4().hex
    environment = {**os.environ, "MRFF_HOME": str(home), MARK: mark}
    with (home / "said").open("wb") as said:
        running = subprocess.Popen(
            [str(MRFF), *words], env=environment, cwd=home, stdout=said, stderr=said,
            start_new_session=True,
            # A shell in the background switches SIGINT off, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        until = time.monotonic() + 240
        while not at_work():
            assert running.poll() is None, (home / "said").read_text()[-2000:]
            assert time.monotonic() < until, (home / "said").read_text()[-2000:]
            time.sleep(0.1)
        running.send_signal(number)
        status = running.wait(timeout=120)
    assert not marked(mark)
    return Ended(status, (home / "said").read_text())


def assert_said(ended: Ended, number: signal.Signals) -> None:
    """The status, and as the last line one line for people."""
    status, line = ENDS[number]
    assert ended.status == status, ended.said[-2000:]
    assert ended.said.splitlines()[-1] == line
    assert "Traceback" not in ended.said


@BOTH
def test_preparing_leaves_no_half_of_a_dataset(number: signal.Signals, tmp_path: Path) -> None:
    data = tmp_path / "data"
    words = ["data", "prepare", "synthetic", "--users", "1000000", "--out", str(data / "many")]
    ended = ended_by(number, tmp_path, words, lambda: any(data.rglob("*.parquet")))
    assert_said(ended, number)
    assert not list(data.rglob("*.parquet"))
    assert not (data / "many").exists()


@pytest.mark.slow
@BOTH
def test_a_run_keeps_its_rounds_and_leaves_no_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    prepare("synthetic", out=tmp_path / "data/synthetic", options={"users": 60})
    history = tmp_path / "runs/cut/history.jsonl"
    words = ["run", "--nodes", "1"]
    for setting in (
        "data.dataset=synthetic", "run.name=cut", "server.num-server-rounds=400",
        "run.checkpoint-every=1", "training.sampling-rate=0.05",
    ):  # fmt: skip
        words += ["-c", setting]
    ended = ended_by(number, tmp_path, words, lambda: len(read_history(history)) > 2)
    assert_said(ended, number)
    rounds = [entry for entry in read_history(history) if entry["kind"] == "round"]
    assert load_checkpoint(history.parent / "checkpoint").state.round >= len(rounds) - 1
