"""Outside of the checkout: a wheel in an empty folder, and the bundle alone."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from mrff.data.prepare import prepare
from mrff.ops.processes import stop_marked
from tests.support.command import running_below
from tests.support.installed import ROOT, Environment, build_wheel

FINAL_LINE = re.compile(r"test auc \d\.\d{4} logloss \d\.\d{4} best-round \d+")
BUNDLE = """
import hashlib
from flwr.cli.build import build_fab_from_disk
from mrff.ops.flower_app import app_folder
print(hashlib.sha256(build_fab_from_disk(app_folder(None))).hexdigest())
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


def test_the_wheel_carries_the_app_and_what_its_pages_are_made_of(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"mrff/app/pyproject.toml", "mrff/app/LICENSE", "client_app/app.py"} <= names
    assert {"mrff/experiments/reports/templates/run.html.j2", "mrff/serving/page.html"} <= names
    assert not any(name.startswith(("tests/", "build/")) for name in names)


def test_the_demo_of_an_installed_wheel_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    environment, empty, home = Environment.made(tmp_path / "env"), tmp_path / "x", tmp_path / "home"
    environment.install(wheel)
    empty.mkdir()
    done = environment.run("mrff", "demo", "-c", "num-server-rounds=2", cwd=empty, home=home)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert FINAL_LINE.fullmatch(done.stdout.strip().splitlines()[-1])
    assert list(empty.iterdir()) == []
    (run,) = (home / "runs").iterdir()
    assert environment.run("mrff", "report", run.name, cwd=empty, home=home).returncode == 0
    examined = environment.run("mrff", "doctor", cwd=empty, home=home)
    assert examined.returncode == 0, examined.stdout
    refused = environment.run("mrff", "settings", "--write", cwd=empty, home=home)
    assert refused.returncode == 2
    assert "is installed and no checkout" in refused.stderr
    bundle = environment.run("python", "-c", BUNDLE, cwd=empty, home=home)
    assert bundle.stdout.strip() == hashlib.sha256(build_fab_from_disk(ROOT)).hexdigest()
    assert running_below(home) == []


def test_the_bundle_alone_runs(tmp_path: Path) -> None:
    """Unpacked in an empty folder and run by plain Flower, in an environment without mrff."""
    environment, home, app = Environment.made(tmp_path / "env"), tmp_path / "home", tmp_path / "app"
    (tmp_path / "app.fab").write_bytes(build_fab_from_disk(ROOT))
    zipfile.ZipFile(tmp_path / "app.fab").extractall(app)
    assert environment.run("python", "-c", "import mrff", cwd=tmp_path, home=home).returncode == 1
    prepare("synthetic", out=home / "data/few", options={"users": 20, "items": 20})
    settings = f'data.home="{home}" data.dataset="few" server.num-server-rounds=1 run.name="alone"'
    words = ("flwr", "run", ".", "--stream", "--run-config", settings)
    try:
        done = environment.run(*words, cwd=app, home=home)
    finally:
        stop_marked(str(home))  # Flower leaves its SuperLink running
    assert (home / "runs/alone/summary.json").is_file(), done.stdout[-3000:] + done.stderr[-2000:]
