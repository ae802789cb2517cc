"""Real Flower: SuperLink, Ray, ServerApp and ClientApps, as a newcomer starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mrff.data.prepare import prepare
from tests.support.command import mrff, running_below, watched
from tests.support.shared_data import shared_data

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
USING = (ROOT / "docs" / "using.md").read_text()
FINAL_LINE = re.compile(r"test auc (\d\.\d{4}) logloss (\d\.\d{4}) best-round (\d+)")
PHONES = 40  # nodes with one user; 1,000 answer in tests/strategies/test_many_nodes.py
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def test_the_demo_beats_the_floors_and_leaves_nothing_running(home: Path) -> None:
    done = mrff("demo", "-c", "num-server-rounds=50", home=home)  # half of them
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    last = FINAL_LINE.fullmatch(done.stdout.strip().splitlines()[-1])
    assert last
    auc, log_loss = float(last[1]), float(last[2])
    assert auc >= 0.77  # user rate 0.673, user x item rate 0.775
    assert log_loss < 0.567  # of user x item rate
    assert "user x item rate │ 0.7749 │ 0.5674" in done.stdout
    hits = {
        name: float(found)
        for name, found in re.findall(r"(popularity|EASE|MRFF) +│ (0\.\d{4})", done.stdout)[-3:]
    }
    assert hits["MRFF"] > hits["EASE"] > hits["popularity"] > 0
    assert "next for user 1" in done.stdout
    (run,) = (home / "runs").iterdir()
    assert f"results: {run}" in done.stdout
    assert {
        "summary.json",
        "history.jsonl",
        "config.json",
        "best",
        "checkpoint",
        "tensorboard",
    } <= {entry.name for entry in run.iterdir()}
    assert running_below(home) == []
    assert list((home / "flower").glob("engine-*")) == []


@pytest.mark.long
def test_readmes_example_of_a_resumed_run_and_a_failed_one_in_between(home: Path) -> None:
    """Few rounds on little data; everything else as it stands there.

    The run that fails has a name that is taken: ``flwr run`` itself exits with 0 then.
    """
    lines = re.findall(r"^mrff (run .*(?:name|resume)=eight.*?)(?: +#.*)?$", USING, re.MULTILINE)
    assert len(lines) == 2
    prepare("synthetic", out=home / "data" / "eight", options={"users": 40, "items": 40})
    few = (*lines[0].split(), "-c", "num-server-rounds=2", "-c", f"data-dir={home}/data/eight")
    first = watched(*few, home=home)
    assert first.status == 0, first.log[-2000:]
    assert first.reporters == set()

    history = (home / "runs/eight/history.jsonl").read_bytes()
    failed = mrff(*few, home=home)
    assert failed.returncode == 2
    assert "run.name='eight' is taken" in failed.stdout  # the reason is in the run's log
    assert "mrff: the run ended as finished:failed" in failed.stderr
    assert (home / "runs/eight/history.jsonl").read_bytes() == history
    assert running_below(home) == []

    again = lines[1].replace("num-server-rounds=150", "num-server-rounds=3")
    second = mrff(*again.split(), home=home)
    assert second.returncode == 0, second.stdout[-2000:] + second.stderr[-2000:]
    summary = json.loads((home / "runs/eight/summary.json").read_text())
    assert summary["rounds"] == 3
    config = json.loads((home / "runs/eight/config.json").read_text())
    assert config["network.num-experts"] == 8
    assert running_below(home) == []


def test_one_user_per_node(home: Path) -> None:
    data = home / "data" / "phones"
    prepare("synthetic", out=data, options={"users": PHONES, "items": 40})
    done = mrff(
        "run", "--nodes", str(PHONES), "-c", "num-server-rounds=1", "-c", "run.name=phones",
        "-c", f"data-dir={data}", "-c", "window-length=16", home=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    summary = json.loads((home / "runs/phones/summary.json").read_text())
    assert summary["test_users"] == PHONES
    lines = [json.loads(line) for line in (home / "runs/phones/history.jsonl").open()]
    assert lines[0]["replies"] == PHONES
    assert lines[0]["rejected"] == []
    assert running_below(home) == []


@dataclass
class PlainFlower:
    """``flwr`` as a user types it, with a home and port of the test's own."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, cwd: Path) -> str:
        done = subprocess.run(
            [str(BIN / "flwr"), *arguments],
            env=self.environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=900,
        )  # fmt: skip
        return done.stdout + done.stderr

    def statuses(self, cwd: Path) -> list[str]:
        said = self.run("ls", "--format", "json", cwd=cwd)
        return [run["status"] for run in json.loads(said[said.index("{") :])["runs"]]


@pytest.fixture
def flower(tmp_path: Path) -> Iterator[PlainFlower]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(tmp_path / "flwr"),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(port),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "MRFF_TEST_MARK": str(tmp_path),
    }
    yield PlainFlower(tmp_path, environment)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                ours = f"MRFF_TEST_MARK={tmp_path}".encode() in (entry / "environ").read_bytes()
                if ours and int(entry.name) != os.getpid():
                    os.kill(int(entry.name), number)
            except OSError:
                continue
        time.sleep(2)


def test_plain_flwr_run_twice_from_anywhere_with_a_dataset_prepared_on_first_use(
    flower: PlainFlower, tmp_path: Path
) -> None:
    before = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True).stdout
    settings = f'data.home="{tmp_path}/home" server.num-server-rounds=2 evaluation.evaluate-every=1'
    first = flower.run("run", str(ROOT), "--stream", "--run-config", settings, cwd=tmp_path)
    assert FINAL_LINE.search(first), first[-3000:]
    assert (tmp_path / "home/data/ml-100k/schema.json").is_file()
    second = flower.run("run", ".", "--stream", "--run-config", settings, cwd=ROOT)
    assert FINAL_LINE.search(second), second[-3000:]
    assert flower.statuses(tmp_path) == ["finished:completed"] * 2
    assert len(list((tmp_path / "home/runs").iterdir())) == 2
    # The same seed and layout: the same numbers, whatever the folder.
    assert FINAL_LINE.search(first)[0] == FINAL_LINE.search(second)[0]  # type: ignore[index]
    after = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True).stdout
    assert after == before  # neither pyproject.toml nor anything else was rewritten


@pytest.mark.long
def test_kuaisar_with_its_configuration(home: Path) -> None:
    source = shared_data("kuaisar-r")
    prepare("kuaisar-r", source=source, out=home / "data/kuaisar-r")
    done = mrff(
        "run", "--nodes", "2", "--config", str(ROOT / "conf/kuaisar-r.toml"),
        "-c", "run.name=kuaisar", "-c", "num-server-rounds=30", home=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    summary = json.loads((home / "runs/kuaisar/summary.json").read_text())
    assert summary["test_users"] == 1791
    assert summary["test"]["auc"] >= 0.71  # user rate 0.688, user x item rate 0.704
