"""Each check of ``mrff doctor`` meets what it is for: a port that is taken, a broken package."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.ops.doctor import CHECKS, Place, machine, programs
from mrff.ops.doctor.finding import FAULT, OK, WARNING, Finding
from tests.support.command import MRFF

ROOT = Path(__file__).parents[2]
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return Place(tmp_path / "not" / "yet" / "there", ROOT)


def app_that_wants(folder: Path, python: str, *dependencies: str) -> Place:
    text = f"[project]\nrequires-python = '{python}'\ndependencies = {list(dependencies)}\n"
    (folder / "pyproject.toml").write_text(text)
    return Place(folder, folder)


def test_this_environment_is_what_pyproject_allows(place: Place) -> None:
    for check in ("Python", "packages", "write permission", "disk space", "clock", "proxies"):
        finding = CHECKS[check](place)
        assert finding.state == OK, finding
        assert finding.mend == ""
    assert "torch 2." in CHECKS["packages"](place).found
    assert not place.home.exists(), "looking makes nothing"


def test_another_python_than_allowed(tmp_path: Path) -> None:
    finding = CHECKS["Python"](app_that_wants(tmp_path, ">=3.99"))
    assert finding.state == FAULT
    assert "pyproject.toml allows >=3.99" in finding.found


def test_packages_that_are_missing_old_or_of_an_extra(tmp_path: Path) -> None:
    """A marker that does not hold here asks for nothing; an extra's packages count."""
    wanted = ("numpy>=99", "no-such-package-at-all>=1", "colorama; sys_platform == 'win32'")
    finding = CHECKS["packages"](app_that_wants(tmp_path, ">=3", *wanted))
    assert finding.state == FAULT
    assert "for numpy>=99" in finding.found
    assert "no-such-package-at-all missing" in finding.found
    assert "colorama" not in finding.found
    assert finding.mend == "pip install 'numpy>=99' 'no-such-package-at-all>=1'"
    finding = CHECKS["packages"](app_that_wants(tmp_path, ">=3", "flwr[simulation]"))
    assert finding.state == OK
    assert ", ray 2." in finding.found


def test_a_deployment_needs_neither_ray_nor_what_shows_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the image, which has none of them."""
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it fails
    wanted = app_that_wants(tmp_path, ">=3", "flwr[simulation]", "plotly>=99", "scikit-learn>=99")
    node = replace(wanted, deployment=True)
    for check in ("packages", "Ray"):
        assert CHECKS[check](wanted).state == FAULT
        assert CHECKS[check](node).state == OK


@pytest.mark.parametrize("home", ["{tmp}/file/home", "/proc/home"])
def test_a_home_that_cannot_be_written(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_text("in the way")
    finding = CHECKS["write permission"](Place(Path(home.format(tmp=tmp_path)), ROOT))
    assert finding.state == FAULT
    assert finding.mend == "set MRFF_HOME to a folder that you may write"


@pytest.mark.parametrize(("limit", "state"), [("LEAST_BYTES", FAULT), ("EASY_BYTES", WARNING)])
def test_a_disk_with_less_room_than_runs_need(
    place: Place, monkeypatch: pytest.MonkeyPatch, limit: str, state: str
) -> None:
    monkeypatch.setattr(machine, limit, 1 << 60)
    finding = CHECKS["disk space"](place)
    assert finding.state == state
    assert "GB free" in finding.found
    assert finding.mend


def test_little_shared_memory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(programs, "EASY_SHARED_BYTES", 1 << 60)
    assert CHECKS["Ray"](place).state == WARNING
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "on the cluster at 10.0.0.1:6379" in CHECKS["Ray"](place).found


def test_a_process_that_starts_too_slowly_for_flower(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = CHECKS["process of a node"]
    assert programs.MOST_START_SECONDS == 30, "said in the documents"
    monkeypatch.setattr(programs, "MOST_START_SECONDS", 600)  # other tests share the machine
    monkeypatch.setattr(programs, "EASY_START_SECONDS", 600.0)
    assert check(place).state == OK
    assert check(place).found.endswith("Flower allows 600")
    monkeypatch.setattr(programs, "EASY_START_SECONDS", 0.0)
    assert check(place).state == WARNING
    monkeypatch.setattr(programs, "CLIENT_IMPORTS", "raise ImportError('flwr is broken')")
    assert check(place).found == "ImportError: flwr is broken"
    monkeypatch.setattr(programs, "CLIENT_IMPORTS", "import time; time.sleep(60)")
    monkeypatch.setattr(programs, "MOST_START_SECONDS", 0.2)
    assert "would answer nothing" in check(place).found


def test_a_port_that_is_taken_matters_where_it_was_asked_for(place: Place) -> None:
    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
        taken = CHECKS["ports"](Place(place.home, ROOT, port))
    assert taken.state == FAULT
    assert f"{port} cannot be opened (Address already in use)" in taken.found
    assert f"ss -ltnp | grep :{port}" in taken.mend
    assert CHECKS["ports"](Place(place.home, ROOT, port)).state == OK


def test_flowers_usual_port_taken_is_a_warning(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("", 0)) as listener:
        monkeypatch.setattr("mrff.ops.doctor.network.SUPERLINK_PORT", listener.getsockname()[1])
        assert CHECKS["ports"](place).state == WARNING


def test_a_proxy_that_would_be_asked_for_this_machine(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://name:secret@proxy.example:3128")
    finding = CHECKS["proxies"](place)
    assert finding.state == WARNING
    assert "secret" not in finding.found
    assert finding.mend == "export no_proxy=localhost,127.0.0.1,::1"
    monkeypatch.setenv("no_proxy", finding.mend.partition("=")[2])
    assert CHECKS["proxies"](place) == Finding(OK, "http_proxy, with this machine excepted")


def test_a_clock_behind_its_own_files_and_a_time_zone_that_is_none(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = app_that_wants(tmp_path, ">=3")
    os.utime(tmp_path / "pyproject.toml", (time.time() + 3600, time.time() + 3600))
    finding = CHECKS["clock"](later)
    assert finding.state == WARNING
    assert "the program's own files are of later" in finding.found
    for zone, state in (("Europ/Berlin", WARNING), ("CET-1CEST", OK), ("Europe/Berlin", OK)):
        monkeypatch.setenv("TZ", zone)
        assert CHECKS["clock"](place).state == state, zone


def doctor(home: Path, *words: str, **variables: str) -> tuple[int, dict[str, dict[str, str]], str]:
    done = subprocess.run(
        [MRFF, "doctor", "--json", *words],
        env={**os.environ, "MRFF_HOME": str(home), **variables}, cwd=home,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = {line["check"]: line for line in json.loads(done.stdout)}
    return done.returncode, lines, done.stderr


@pytest.mark.slow
def test_all_is_well_behind_a_proxy_that_nobody_excepted(tmp_path: Path) -> None:
    """A SuperLink is really started; what mrff needs works, and what else would not is told."""
    proxies = dict.fromkeys(PROXIES[:3], "http://127.0.0.1:9")
    status, lines, error = doctor(tmp_path, **proxies, no_proxy="", NO_PROXY="")
    assert (status, error) == (0, "")
    assert list(lines) == list(CHECKS)
    assert lines["Flower"]["state"] == OK
    assert lines["proxies"]["state"] == WARNING
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


@pytest.mark.slow
def test_what_is_broken_is_named_and_ends_with_2(tmp_path: Path) -> None:
    """Packages that are there and cannot be imported: as after an upgrade that failed."""
    broken, home = tmp_path / "broken", tmp_path / "home"
    broken.mkdir()
    home.mkdir()
    for name in ("torch", "ray", "uvicorn"):
        (broken / f"{name}.py").write_text(f"raise ImportError('{name} is broken')\n")
    paths = os.pathsep.join([str(broken), *filter(None, [os.environ.get("PYTHONPATH")])])
    status, lines, error = doctor(home, PYTHONPATH=paths)
    assert (status, error) == (2, "")
    assert {name for name, line in lines.items() if line["state"] == FAULT} == {
        "GPU", "Ray", "Flower", "process of a node",
    }  # fmt: skip
    assert "torch is broken" in lines["GPU"]["found"]
    assert "uvicorn is broken" in lines["Flower"]["found"]


def test_what_is_told_to_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    found = {"disk": Finding(OK, "room"), "port": Finding(FAULT, "taken", "free it")}
    checks = {name: lambda _place, finding=finding: finding for name, finding in found.items()}
    monkeypatch.setattr("mrff.ops.doctor.CHECKS", checks)
    assert main(["doctor"]) == 2
    said = capsys.readouterr().out
    assert "free it" in said
    assert said.endswith("would fail: port\n")
