"""The command line as a whole: what a signal does to it."""

from __future__ import annotations

import argparse
import os
import signal
import time

import pytest

from mrff.cli import data_commands, main


@pytest.mark.parametrize("times", [1, 2])  # timeout(1) sends it to the command and to its group
def test_sigterm_lets_the_command_clean_up_and_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    cleaned: list[str] = []

    def works(_: argparse.Namespace) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        finally:
            for _again in range(times - 1):
                os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append("up")
        return 0

    def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        subparsers.add_parser("work").set_defaults(handler=works)

    monkeypatch.setattr(data_commands, "add_parser", add_parser)
    before = signal.getsignal(signal.SIGTERM)
    assert main.main(["work"]) == 128 + signal.SIGTERM
    assert cleaned == ["up"]
    assert capsys.readouterr().err == "mrff: terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before
