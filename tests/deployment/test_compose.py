"""The container demo, run for real where there is Docker; elsewhere skipped, with the reason."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import reference
from tests.support.deployment import CHECKOUT, Values

pytestmark = pytest.mark.slow
ENGINE = CHECKOUT.parent / "shared/tools/docker-engine"  # of some of our own machines
SHARES = Path("/sys/fs/cgroup/cpu/docker/cpu.shares")  # of all containers; 1024 at first
SETTINGS: Values = {"num_server_rounds": 2, "evaluate_every": 1}


@pytest.fixture(scope="module")
def compose() -> str:
    """A compose command whose engine answers."""
    if ENGINE.exists() and os.geteuid() == 0:
        started = subprocess.run([ENGINE, "up"], capture_output=True, text=True, check=False)
        if started.returncode == 0:
            if SHARES.exists():  # they stand for machines: else one of many sessions' share is all,
                SHARES.write_text("2048")  # and nodes may start too slowly to get any message
            return f"{ENGINE} compose"
        pytest.skip(f"docker-engine up failed: {started.stderr.strip()[-300:]}")
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.skip(f"no Docker engine answers: {answer.stderr.strip()[-300:]}")
    return "docker compose"


def test_the_demo_trains_in_containers_as_in_one_process(
    compose: str, tmp_path: Path, ml_100k: Path
) -> None:
    settings = [f"{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    project = f"mrff-test-{os.getpid()}"
    done = subprocess.run(
        [CHECKOUT / "docker/demo.sh", *settings],
        env={
            **os.environ,
            "COMPOSE": f"{compose} -p {project}",
            "MRFF_DEMO_HOME": str(tmp_path / "demo"),
            "MRFF_DEMO_PURGE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    last = done.stdout.splitlines()[-1]
    match = re.fullmatch(r"test auc (\d\.\d+) logloss (\d\.\d+) best-round (\d+)", last)
    assert match, last
    assert "MRFF on ml-100k" in done.stdout

    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={project}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert left.stdout == "", "containers were left"

    reference.run_in_process(tmp_path, ml_100k, nodes=4, absent={}, settings=SETTINGS)
    summary = json.loads((tmp_path / "runs/reference/summary.json").read_text())
    assert float(match[1]) == pytest.approx(summary["test"]["auc"], abs=1e-3)
    assert float(match[2]) == pytest.approx(summary["test"]["log_loss"], abs=1e-3)
    assert int(match[3]) == summary["best_round"]


def test_the_doctor_finds_the_image_fit_for_a_node(compose: str) -> None:
    """Without a network, on a file system that cannot be written, as an executor is."""
    subprocess.run(
        [*compose.split(), "-f", CHECKOUT / "docker/compose.yaml", "build", "--quiet", "keys"],
        env={**os.environ, "MRFF_SHARDS": "/nowhere"}, capture_output=True, check=True,
    )  # fmt: skip
    looks = [
        "docker", "run", "--rm", "--read-only", "--cap-drop=ALL", "--network=none",
        "--tmpfs=/tmp:exec", "--env=MRFF_HOME=/tmp/home", "mrff:local",
        "mrff", "doctor", "--json",
    ]  # fmt: skip
    node = subprocess.run([*looks, "--deployment"], capture_output=True, text=True, check=False)
    assert node.returncode == 0, node.stdout + node.stderr
    of_the_image = {"Python", "packages", "write permission", "proxies", "Ray", "Flower"}
    found = {line["check"]: line["state"] for line in json.loads(node.stdout)}
    assert {found[check] for check in of_the_image} == {"ok"}, node.stdout
    whole = subprocess.run(looks, capture_output=True, text=True, check=False)
    faults = [line["check"] for line in json.loads(whole.stdout) if line["state"] == "fault"]
    assert faults == ["packages", "Ray"], "of a simulation, which the image is not for"
