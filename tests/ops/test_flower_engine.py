"""How Flower is started and reached; tests/flower/test_simulation.py has it run an app."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from mrff.ops.control import environment, is_healthy, program
from mrff.ops.engine import FlowerEngine
from mrff.ops.federation import Federation


class WrongAnswers(BaseHTTPRequestHandler):
    """A proxy that knows no host of this machine."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(502)

    do_CONNECT = do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class Healthy(WrongAnswers):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a proxy is asked that the environment names for everything."""
    WrongAnswers.asked.clear()
    with serving(WrongAnswers) as port:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("NO_PROXY", "intranet.example")
        yield WrongAnswers.asked


def test_loopback_is_reached_by_no_proxy(through_a_proxy: list[str]) -> None:
    with serving(Healthy) as port:
        assert is_healthy(port)
    assert through_a_proxy == []


def test_flowers_programs_reach_loopback_by_no_proxy(
    through_a_proxy: list[str], tmp_path: Path
) -> None:
    """The hosts that the user has excepted stay excepted."""
    variables = environment(tmp_path)
    for name in ("no_proxy", "NO_PROXY"):
        assert variables[name] == "intranet.example,localhost,127.0.0.1,::1"
    assert variables["http_proxy"].startswith("http://127.0.0.1:")  # for the rest of the world


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_flowers_json_has_no_colours_where_they_are_forced(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, "1")
    command = [program("flwr"), "config", "list", "--format", "json"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, check=True)
    assert "superlink" in json.loads(done.stdout)


@pytest.mark.slow
def test_the_engine_starts_behind_a_proxy(through_a_proxy: list[str], tmp_path: Path) -> None:
    with FlowerEngine(tmp_path, Federation(1)) as engine:
        assert engine.is_running
        assert engine._control.runs() == []
    assert through_a_proxy == []
