"""What a Ray cluster that cannot be used says, in one line and before anything is started."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mrff.cli.main import main
from mrff.data.prepare import prepare
from mrff.ops.processes import free_port, wait_for
from tests.support.ray_cluster import ray_cluster

NO_MOUNTS = "no unprivileged mount namespaces here (unshare)"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("MRFF_HOME", str(home))
    prepare("synthetic", out=home / "data/small", options={"users": 10, "items": 20})
    return home


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster(1) as cluster:
        yield cluster


def refusal(capsys: pytest.CaptureFixture[str], address: str, *more: str) -> str:
    """The line that ``mrff run`` ends with."""
    words = ["run", "--ray-address", address, "-c", "dataset=small", *more]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("mrff: ")
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize("address", ["auto", "ray://10.0.0.1:10001x", ":6379", "host:"])
def test_an_address_that_is_none(
    address: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"--ray-address is HOST:PORT, got '{address}'" in refusal(capsys, address)


def test_an_address_that_does_not_answer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    said = refusal(capsys, address)
    assert f"no Ray cluster answers at {address} (" in said
    assert "start one with: ray start --head" in said
    assert not (home / "flower").exists()
    assert not (home / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("other", ["ray_version", "python_version"])
def test_another_version(
    other: str, cluster: Any, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray's own check, against what another head would have noted."""
    from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
    from ray._raylet import GcsClient

    store = GcsClient(address=cluster.address)
    place = {"namespace": KV_NAMESPACE_CLUSTER}
    true = store.internal_kv_get(b"CLUSTER_METADATA", **place)
    changed = json.dumps({**json.loads(true), other: "3.1.4"}).encode()
    store.internal_kv_put(b"CLUSTER_METADATA", changed, True, **place)
    try:
        said = refusal(capsys, cluster.address)
    finally:
        store.internal_kv_put(b"CLUSTER_METADATA", true, True, **place)
    assert "has other versions: Ray: " in said
    assert said.count("3.1.4") == 1
    assert "give its machines and this one the same environment" in said
    assert not (home / "flower").exists()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["home", "data"])
def test_a_machine_without_the_home_or_the_data(
    what: str, cluster: Any, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A raylet of its own mount namespace: an empty folder covers what others see there."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-rm", "true"], check=False).returncode:
        pytest.skip(NO_MOUNTS)
    data = shutil.copytree(home / "data/small", tmp_path / "elsewhere")
    covered = home if what == "home" else data
    ray = Path(sys.executable).parent / "ray"
    join = f"mount -t tmpfs none {covered} && exec {ray} start --block --num-cpus=1"
    machine = subprocess.Popen(
        [unshare, "-rm", "sh", "-c", f"{join} --address={cluster.address}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for("a second raylet", lambda: len(cluster.global_state._live_node_ids()) == 2, 120)
        said = refusal(capsys, cluster.address, "-c", f"data-dir={data}")
    finally:
        machine.terminate()
        machine.wait()
    missing = f"does not see the home {home}" if what == "home" else "does not have the data ("
    assert missing in said
    assert not (home / "flower").exists()
    assert not list(home.glob(".cluster-check*"))
