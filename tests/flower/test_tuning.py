"""``mrff tune`` through real Flower: interrupted, taken up again, and its file runs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mrff.data.prepare import prepare
from tests.support.command import MRFF, mrff, running_below

pytestmark = pytest.mark.slow
FEW = ("-c", "num-server-rounds=3", "-c", "evaluate-every=1", "-c", "window-length=16")


def nothing_works_below(folder: Path, within: float = 90.0) -> bool:
    """Whether they have all ended; Ray's take some seconds on a busy machine."""
    deadline = time.monotonic() + within
    while running_below(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not running_below(folder)


def hears_ctrl_c() -> None:
    """Also where the tests run in a shell's background, which switches SIGINT off."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.long
def test_a_search_is_interrupted_goes_on_and_its_file_runs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    prepare("synthetic", out=home / "data" / "tiny", options={"users": 60, "items": 20})
    environment = {**os.environ, "MRFF_HOME": str(home)}
    command = [MRFF, "tune", "tiny", "--budget", "6m", *FEW]

    with (tmp_path / "first.log").open("wb") as log:
        first = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=log, stderr=log, preexec_fn=hears_ctrl_c
        )
        began = time.monotonic()
        deadline = began + 500
        history, one = home / "tune" / "tiny" / "runs", 0.0
        while time.monotonic() < deadline and not list(history.glob("*-1/history.jsonl")):
            assert first.poll() is None, (tmp_path / "first.log").read_text()[-2000:]
            if not one and "trial 0" in (tmp_path / "first.log").read_text():
                one = time.monotonic() - began
            time.sleep(0.2)
        first.send_signal(signal.SIGINT)  # in the second trial
        assert first.wait(timeout=120) == 130
    told = (tmp_path / "first.log").read_text()
    assert "trial 0 (fitted defaults): 0." in told
    assert "mrff: interrupted" in told
    assert nothing_works_below(home)

    refused = mrff("tune", "tiny", "--budget", "1s", *FEW, home=home)
    assert refused.returncode == 2
    assert "mrff: the budget of 1 s is too small for one run: a run of 3 rounds" in refused.stderr

    enough = f"{1.8 * one + 10:.0f}s"  # for one run, and not for two
    second = mrff("tune", "tiny", "--budget", enough, *FEW, home=home)
    assert second.returncode == 0, second.stdout[-2000:] + second.stderr[-2000:]
    assert "going on after 1 trials that are done" in second.stderr
    assert "(fitted defaults)" not in second.stderr  # it is done
    assert "(defaults): 0." in second.stderr
    assert "best floor 0." in second.stdout
    best = home / "tune" / "tiny" / "best.toml"
    text = best.read_text()
    assert "score-test" not in text
    assert "num-server-rounds = 3" in text
    assert nothing_works_below(home)

    run = mrff("run", "--nodes", "1", "--config", best, "-c", "run.name=tuned", home=home)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert (home / "runs" / "tuned" / "summary.json").is_file()
