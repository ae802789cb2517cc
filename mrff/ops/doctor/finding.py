"""What a check is told, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

OK: Final = "ok"
WARNING: Final = "warning"  # runs work, but not all or not as well
FAULT: Final = "fault"  # something fails


@dataclass(frozen=True)
class Place:
    """What is looked at.

    Args:
        home: the folder for data, runs and private state; it need not be there yet.
        app: the folder of pyproject.toml.
        superlink_port: where a SuperLink of a deployment is to listen; None: the usual one, which
            a simulation does without.
        deployment: a server or node is to run here, and no simulation: what only simulations and
            pages of results need may be missing.
    """

    home: Path
    app: Path
    superlink_port: int | None = None
    deployment: bool = False

    @property
    def nearest(self) -> Path:
        """The home, or the folder above it in which it would be made."""
        return next(path for path in (self.home, *self.home.parents) if path.exists())


@dataclass(frozen=True)
class Finding:
    """What a check found, and how to mend it."""

    state: Literal["ok", "warning", "fault"]
    found: str
    mend: str = ""
