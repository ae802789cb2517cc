"""The package as pip installs it: sdist, wheel, an environment that has no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from mrff.ops.control import ENVIRONMENT
from mrff.ops.processes import MARK, free_port

ROOT = Path(__file__).parents[2]
_NOT_SOURCE = (
    ".*", "__pycache__", "*.egg-info", "build", "dist", "benchmarks", "docs", "tests", "docker",
)  # fmt: skip
_SDIST = "import sys, setuptools.build_meta as b; print(b.build_sdist(sys.argv[1]))"


def build_wheel(folder: Path) -> Path:
    """A wheel, made of the sdist that a copy of the checkout gives."""
    source = folder / "mrff"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*_NOT_SOURCE))
    _run(sys.executable, "-c", _SDIST, str(folder), cwd=source)
    (sdist,) = folder.glob("mrff-*.tar.gz")
    _run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--no-index", "-w", str(folder), str(sdist), cwd=folder,
    )  # fmt: skip
    shutil.rmtree(source)
    (wheel,) = folder.glob("mrff-*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the libraries of this one, but not with its editable packages."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Environment:
        """With Flower's programs, which look for code where their own Python does."""
        venv.create(folder)
        made = cls(folder)
        libraries = sysconfig.get_paths()["purelib"]
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "libraries.pth").write_text(f"{libraries}\n")
        for entry in distribution("flwr").entry_points.select(group="console_scripts"):
            script = folder / "bin" / entry.name
            call = f"import sys; from {entry.module} import {entry.attr}; sys.exit({entry.attr}())"
            script.write_text(f"#!{made.python}\n{call}\n")
            script.chmod(0o755)
        return made

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def install(self, wheel: Path) -> None:
        """The wheel alone."""
        _run(
            sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet",
            "--no-deps", "--no-index", str(wheel), cwd=self.folder,
        )  # fmt: skip

    def run(self, *words: str, cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
        """One of its programs; what it starts can be ended by the mark ``home``."""
        variables = {
            **ENVIRONMENT, MARK: str(home), "MRFF_HOME": str(home), "FLWR_HOME": str(home / "flwr"),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        return subprocess.run(
            [str(self.folder / "bin" / words[0]), *words[1:]],
            cwd=cwd, env=_outside() | variables, capture_output=True, text=True, check=False,
            timeout=900,
        )  # fmt: skip


def _outside() -> dict[str, str]:
    """Without what leads to the checkout, whose own metadata pip would take for the package."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=_outside(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
