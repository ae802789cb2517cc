"""A Ray cluster before a run: it answers, its versions are ours, its machines see what nodes read.

Every machine is asked by a task of its own there. What it is asked by is sent as it is, so that a
machine without this project answers as well.
"""

from __future__ import annotations

import logging
import socket
import sys
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mrff.io.sqlite import declare_shared
from mrff.ops.control import FlowerError
from mrff.ops.federation import Federation, Machine

PACKAGES = ("flwr", "torch", "numpy", "pyarrow")  # what workers compute with
ANSWER_SECONDS = 10.0  # until something listens at the address
ASK_SECONDS = 120.0  # Ray starts a process on each machine
_TOKEN = ".cluster-check"


class ClusterError(FlowerError):
    """No run is possible on this cluster; nothing was started."""


def check_cluster(federation: Federation, home: Path, files: list[Path]) -> list[Machine]:
    """The machines of the cluster that have room for a node.

    Args:
        home: for data, runs and private state; from now on it is one that machines share.
        files: what every machine has to see, of the same size.

    Raises:
        ClusterError: it does not answer, runs another Ray or Python, or a machine lacks something.
        OSError: the home cannot be written.
    """
    declare_shared(home)
    token = home / f"{_TOKEN}-{uuid.uuid4().hex}"
    token.write_text(socket.gethostname())
    try:
        with _connected(federation.ray_address):
            machines = dict(_machines(federation.cpus_per_node))
            said = _ask(machines, [token, *files])
    finally:
        token.unlink(missing_ok=True)
    for key, answer in said.items():
        if fault := _fault(answer, [token, *files], home):
            raise ClusterError(f"{machines[key].name} of the cluster {fault}")
    return list(machines.values())


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Ray's driver in this process, on that cluster."""
    import ray  # heavy

    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"--ray-address is HOST:PORT, got {address!r}")
    start = "start one with: ray start --head --port=6379"
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster answers at {address} ({error}); {start}") from error
    try:
        with warnings.catch_warnings():  # of Ray's coming versions
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # whatever Ray says of a cluster that it cannot join
        reason = " ".join(str(error.__cause__ or error).split())
        if "Version mismatch" in reason:
            raise ClusterError(
                f"the Ray cluster at {address} has other versions: {_of_both(reason)}; give its "
                "machines and this one the same environment"
            ) from error
        raise ClusterError(
            f"this machine cannot join the Ray cluster at {address} ({reason[:200]}); it has to be "
            f"one of its machines: ray start --address={address}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _of_both(reason: str) -> str:
    """Ray's text without what surrounds the versions."""
    its, _, ours = reason.partition("This process")
    return f"{its.partition('started with:')[2].strip()}, here {ours.partition('with:')[2].strip()}"


def _machines(cpus_per_node: int) -> Iterator[tuple[str, Machine]]:
    import ray  # heavy

    nodes: Any = ray.nodes  # without types
    for node in nodes():
        has = node["Resources"] if node["Alive"] else {}
        if has.get("CPU", 0) >= cpus_per_node:
            yield node["NodeID"], Machine(_name(node), has["CPU"], has.get("GPU", 0.0))


def _name(node: Mapping[str, Any]) -> str:
    return f"machine {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _ask(machines: Mapping[str, Machine], files: list[Path]) -> dict[str, Any]:
    import ray  # heavy
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # heavy

    pickling: Any = ray.cloudpickle
    pickling.register_pickle_by_value(sys.modules[__name__])
    task = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = {
        key: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(key, soft=False)
        ).remote([str(file) for file in files], PACKAGES)
        for key in machines
    }
    try:
        answers = ray.get(list(asked.values()), timeout=ASK_SECONDS)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ClusterError(f"a machine of the cluster does not answer ({reason})") from error
    return dict(zip(asked, answers, strict=True))


def _look(files: list[str], packages: tuple[str, ...]) -> dict[str, Any]:
    """Runs on a machine of the cluster: needs Python alone."""
    sizes = {file: Path(file).stat().st_size if Path(file).is_file() else None for file in files}
    versions: dict[str, str | None] = {}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {"sizes": sizes, "versions": versions}


def _fault(answer: Mapping[str, Any], files: list[Path], home: Path) -> str | None:
    """What is wrong with a machine, and how to mend it; None: nothing."""
    for name, there in answer["versions"].items():
        if there != version(name):
            has = f"has {name} {there}" if there else f"has no {name}"
            return f"{has}, here it is {version(name)}; give it the same environment"
    missing = [file for file in files if answer["sizes"][str(file)] is None]
    if files[0] in missing:
        return f"does not see the home {home}; mount it there at the same place (MRFF_HOME)"
    for file in files[1:]:
        if file in missing:
            return f"does not have the data ({file} is missing); put it where all machines see it"
        if answer["sizes"][str(file)] != file.stat().st_size:
            return f"has other data ({file} differs); put it where all machines see it"
    return None
