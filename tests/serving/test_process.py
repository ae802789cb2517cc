"""``mrff serve`` as its own process: its page in a browser, its end, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from mrff.cli.main import main
from tests.support.chromium import dom_of
from tests.support.trained import RUN

pytestmark = pytest.mark.slow
LIST = r'<ol id="{}">(.*?)</ol>'


@contextmanager
def serving(home: Path, run: str = RUN) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The process, its address and its token."""
    command = [sys.executable, "-m", "mrff.cli.main", "serve", run, "--port", "0"]
    environment = {**os.environ, "MRFF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        told = ""
        while "Ctrl-C" not in told:
            line = process.stdout.readline()
            assert line, f"it ended: {told}"
            told += line
        found = re.search(r"page: +(http://127\.0\.0\.1:\d+)/#token=(\S+)", told)
        assert found, told
        yield process, found[1], found[2]
    finally:
        process.kill()
        process.wait()


def test_a_page_for_people_and_an_end_by_ctrl_c(trained_home: Path, tmp_path: Path) -> None:
    with serving(trained_home) as (process, address, token):
        ask = Request(f"{address}/v1/users?limit=1", headers={"Authorization": f"Bearer {token}"})
        user = json.load(build_opener(ProxyHandler({})).open(ask))[0]
        page = dom_of(f"{address}/#token={token}", tmp_path)
        for name, least in (("history", 5), ("mine", 1), ("popular", 1)):
            found = re.search(LIST.format(name), page, re.S)
            assert found, page
            assert found[1].count("<li>") >= least
        assert "because of" in page
        assert f'<option value="{user}">' in page
        assert "how likely the user likes an item" in page  # which objective ordered it
        without = dom_of(f"{address}/", tmp_path)
        assert "This page needs the address that mrff serve printed" in without
        assert "<li>" not in without
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0  # the way to end it is no failure


def test_what_it_cannot_begin_with_is_one_line(
    at_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "no-such-run"]) == 2
    assert "there is no run 'no-such-run'" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        token = str(tmp_path / "token")
        assert main(["serve", RUN, "--port", str(port), "--token-file", token]) == 2
    assert f"port {port} of 127.0.0.1 cannot be taken" in capsys.readouterr().err
    unfinished = at_home / "runs" / "unfinished"
    unfinished.mkdir(exist_ok=True)
    (unfinished / "history.jsonl").write_text("")
    assert main(["serve", "unfinished"]) == 2
    said = capsys.readouterr().err
    assert "has no best model yet" in said
    assert said.count("\n") == 1
