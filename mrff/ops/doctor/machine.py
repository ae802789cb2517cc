"""The machine: disk, permission to write, GPU, clock."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
import zoneinfo
from pathlib import Path

from mrff.io.sqlite import not_local
from mrff.ops.doctor.finding import FAULT, OK, WARNING, Finding, Place

# A run on ml-1m takes some 50 MB with its data; Ray's logs of a day some hundreds.
LEAST_BYTES, EASY_BYTES = 200_000_000, 2_000_000_000
MOST_SECONDS = 5.0  # that a file's time may differ from the clock's


def permission(place: Place) -> Finding:
    """Whether a file can be written where the home is, or would be made."""
    try:
        with tempfile.TemporaryFile(dir=place.nearest) as file:
            file.write(b"mrff")
    except OSError as error:
        return Finding(
            FAULT,
            f"{place.home} cannot be written ({error.strerror})",
            "set MRFF_HOME to a folder that you may write",
        )
    kind = ", on a network file system: private state is written more slowly"
    return Finding(OK, f"{place.home}{kind if not_local(place.nearest) else ''}")


def disk(place: Place) -> Finding:
    """Room in the home."""
    free = shutil.disk_usage(place.nearest).free
    found, mend = f"{free / 1e9:.1f} GB free in {place.home}", "free some, or set MRFF_HOME"
    if free < LEAST_BYTES:
        return Finding(FAULT, f"{found}, a run needs {LEAST_BYTES / 1e9:.1f}", mend)
    if free < EASY_BYTES:
        return Finding(WARNING, f"{found}, which runs will fill", mend)
    return Finding(OK, found)


def gpu(place: Place) -> Finding:
    """What PyTorch sees. Without a GPU everything works."""
    try:
        import torch  # heavy, and perhaps broken
    except (ImportError, OSError) as error:
        return Finding(FAULT, f"PyTorch cannot be imported ({error})", "install it again")
    if torch.cuda.is_available():
        names = (torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))
        return Finding(OK, ", ".join(names))
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return Finding(
            WARNING,
            f"the machine has one, and PyTorch {torch.__version__} does not see it",
            "install PyTorch's CUDA build and a driver for it; without, nodes use the CPU",
        )
    return Finding(OK, "none: nodes compute on the CPU, which is fine")


def clock(place: Place) -> Finding:
    """Whether the clock agrees with the times of files, and the time zone is one."""
    zone = os.environ.get("TZ", "")
    mend = "set the clock (NTP): certificates and Flower's key check go by it, to 5 minutes"
    try:
        with tempfile.NamedTemporaryFile(dir=place.nearest) as file:
            apart = os.stat(file.name).st_mtime - time.time()
    except OSError:
        apart = 0.0  # `permission` tells
    ahead = (place.app / "pyproject.toml").stat().st_mtime - time.time()
    if ahead > MOST_SECONDS:
        return Finding(WARNING, f"{_now()}: the program's own files are of later", mend)
    if abs(apart) > MOST_SECONDS:
        return Finding(WARNING, f"{_now()}: {apart:+.0f} s apart from that of {place.home}", mend)
    if zone and not _is_zone(zone):
        return Finding(
            WARNING,
            f"{_now()}: TZ={zone!r} is no time zone known here, times are shown in UTC",
            "set TZ to a name as Europe/Berlin, or install tzdata",
        )
    return Finding(OK, f"{_now()}, as files say; compared with no other clock")


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M %z")


def _is_zone(name: str) -> bool:
    """A name that is known, a file, or a rule as ``CET-1CEST``."""
    name = name.removeprefix(":")
    if re.match(r"(\w{3,}|<[-+\w]+>)[-+]?\d", name) or Path(name).is_absolute():
        return True
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
