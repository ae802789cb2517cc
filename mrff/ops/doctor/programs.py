"""Python, packages, Ray and Flower: there, of the right version, and starting."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL as MOST_START_SECONDS
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mrff.ops.control import FlowerError
from mrff.ops.doctor.finding import FAULT, OK, WARNING, Finding, Place
from mrff.ops.engine import FlowerEngine
from mrff.ops.federation import Federation

SHOWN = ("flwr", "torch", "ray")
# What docker/requirements.txt leaves out, Ray aside: reports and comparisons need it.
NOT_IN_DEPLOYMENTS = ("scikit-learn", "plotly")
SHARED_MEMORY = Path("/dev/shm")
EASY_SHARED_BYTES = 1_000_000_000
# What flwr-clientapp imports before it fetches the message that it was started for.
CLIENT_IMPORTS = "import flwr.supernode.cli.flwr_clientapp"
EASY_START_SECONDS = 10.0
LEAST_SHARE = 0.05  # of the disk: with less, Ray makes no object that memory has no room for


def python(place: Place) -> Finding:
    """The interpreter."""
    wanted, here = str(_project(place)["requires-python"]), platform.python_version()
    if here in SpecifierSet(wanted, prereleases=True):
        return Finding(OK, f"{here}, as pyproject.toml allows ({wanted})")
    return Finding(
        FAULT, f"{here}, pyproject.toml allows {wanted}", "make an environment of such a Python"
    )


def packages(place: Place) -> Finding:
    """All that pyproject.toml needs; for a deployment what that needs of it."""
    wrong, versions = {}, {}
    requirements = [Requirement(text) for text in _project(place)["dependencies"]]
    if place.deployment:
        requirements = [r for r in requirements if r.name not in NOT_IN_DEPLOYMENTS]
        for requirement in requirements:
            requirement.extras.clear()  # Flower's simulation
    for needed in _needed(requirements):
        try:
            versions[needed.name] = found = version(needed.name)
            fits = needed.specifier.contains(found, prereleases=True)
        except PackageNotFoundError:
            found, fits = "missing", False
        if not fits:
            wrong[f"{needed.name}{needed.specifier}"] = f"{needed.name} {found}"
    if wrong:
        named = " ".join(f"'{requirement}'" for requirement in wrong)
        told = ", ".join(f"{here} for {needed}" for needed, here in wrong.items())
        return Finding(FAULT, told, f"pip install {named}")
    shown = [f"{name} {versions.pop(name)}" for name in SHOWN if name in versions]
    others = f"{len(versions)} others, as pyproject.toml allows"
    return Finding(OK, ", ".join([*shown, others]))


def ray(place: Place) -> Finding:
    """Whether workers of a simulation can be had, and how they hand messages on."""
    if place.deployment:
        return Finding(OK, "not looked at: a deployment does without")
    try:
        import ray  # heavy, and perhaps broken
    except (ImportError, OSError) as error:
        return Finding(FAULT, f"it cannot be imported ({error})", "install flwr[simulation] again")
    cluster = os.environ.get("RAY_ADDRESS")
    if cluster:
        return Finding(OK, f"{ray.__version__}, mrff run computes on the cluster at {cluster}")
    disk = shutil.disk_usage(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    if disk.free < LEAST_SHARE * disk.total:
        return Finding(
            WARNING,
            f"{disk.free / disk.total:.0%} of the disk with its folder is free, it wants 5 %",
            "free some, or set RAY_TMPDIR to a folder of another disk",
        )
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        if free < EASY_SHARED_BYTES:
            return Finding(
                WARNING,
                f"{SHARED_MEMORY} has {free / 1e6:.0f} MB free: messages go over the disk",
                "give a container --shm-size=2g",
            )
        return Finding(OK, f"{ray.__version__}, {free / 1e9:.1f} GB of shared memory free")
    return Finding(OK, f"{ray.__version__}; no {SHARED_MEMORY}: messages go over the disk")


def flower(place: Place) -> Finding:
    """Starts a SuperLink as a simulation does, and ends it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with FlowerEngine(Path(folder), Federation(nodes=1)):
                return Finding(OK, "a SuperLink started, answered and was ended")
        except FlowerError as error:
            logs = [path.read_text(errors="replace") for path in Path(folder).glob("*/*.log")]
            last = [line.strip() for log in logs for line in log.splitlines() if line.strip()]
            told = f"{error}; its log ends: {last[-1]}" if last else str(error)
            return Finding(FAULT, told, "mend what the log names, and look again")


def client_process(place: Place) -> Finding:
    """How long a node's process for a message takes to start.

    Flower gives it 30 s, then takes the message back and starts another: on a machine that is
    slower than this none ever gets it, and the node answers nothing.
    """
    began = time.monotonic()
    try:
        subprocess.run(
            [sys.executable, "-c", CLIENT_IMPORTS],
            capture_output=True, check=True, timeout=MOST_START_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        took = f"not started after {MOST_START_SECONDS} s: a node here would answer nothing"
        return Finding(WARNING, took, "simulate here, or give nodes a faster or less busy machine")
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").strip().splitlines()
        return Finding(FAULT, told[-1] if told else str(error), "install flwr again")
    seconds = time.monotonic() - began
    took = f"starts in {seconds:.1f} s, Flower allows {MOST_START_SECONDS}"
    if seconds > EASY_START_SECONDS:
        return Finding(WARNING, took, "give a node here more of the processor")
    return Finding(OK, took)


def _project(place: Place) -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((place.app / "pyproject.toml").read_text("utf-8"))
    return content["project"]


def _needed(requirements: list[Requirement]) -> Iterator[Requirement]:
    """The requirements that hold here, and what their extras need (Ray, of Flower)."""
    for needed in requirements:
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        yield needed
        for extra in needed.extras:
            try:
                all_of_it = [Requirement(text) for text in requires(needed.name) or ()]
            except PackageNotFoundError:
                continue
            yield from (
                Requirement(f"{one.name}{one.specifier}")
                for one in all_of_it
                if one.marker
                and one.marker.evaluate({"extra": extra})
                and not one.marker.evaluate({"extra": ""})
            )
