"""The command line as a whole: signals, mistakes, help, what it imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from mrff.cli import main
from mrff.cli.compare import spread

HEAVY = {"torch", "pandas", "plotly", "ray", "flwr", "opacus", "sklearn", "pyarrow"}


@pytest.mark.parametrize("times", [1, 2])  # timeout(1) sends it to the command and to its group
def test_sigterm_lets_the_command_clean_up_and_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    cleaned: list[str] = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        finally:
            for _again in range(times - 1):
                os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append("up")

    monkeypatch.setattr(main, "COMMANDS", (*main.COMMANDS, ("work", work)))
    before = signal.getsignal(signal.SIGTERM)
    assert main.main(["work"]) == 128 + signal.SIGTERM
    assert cleaned == ["up"]
    assert capsys.readouterr().err == "mrff: terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_ends_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "COMMANDS", (*main.COMMANDS, ("work", work)))
    assert main.main(["work"]) == 128 + signal.SIGINT
    assert capsys.readouterr().err == "mrff: interrupted\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dat"], "No such command 'dat'. Did you mean 'data'?; see: mrff --help"),
        (["data", "lst"], "No such command 'lst'. Did you mean 'list'?; see: mrff data --help"),
        (["run", "--node", "2"], "Did you mean '--nodes'?; see: mrff run --help"),
        (["run", "--nodes", "0"], "0 is not in the range x>=1; see: mrff run --help"),
        (["export", "RUN", "--out", "x"], "Missing option '--user'; see: mrff export --help"),
        (
            ["recommend", "RUN"],
            "give one of --user, --history and --all-users, got none of them; "
            "see: mrff recommend --help",
        ),
        (["report"], "Missing argument 'RUN'; see: mrff report --help"),
        (["data"], "Missing command; see: mrff data --help"),
        (
            ["deploy", "keys", "f", "--nodes", "1", "--renew", "all"],
            "'all' is not one of 'certificates', 'node-keys', 'secure-keys'; see: mrff deploy keys "
            "--help",
        ),
    ],
)
def test_a_mistake_in_the_words_is_one_line_with_a_hint(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("mrff: ")
    assert said in error
    assert error.count("\n") == 1


def test_every_command_has_a_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name, _ in main.COMMANDS:
        assert main.main([name, "--help"]) == 0
        assert f"Usage: mrff {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["--help"], ["deploy", "submit", "--superlink", "localhost:1", "--ca", "no-such-file"]],
)
def test_the_command_line_starts_without_what_is_slow_to_import(words: list[str]) -> None:
    script = (
        "import sys, mrff.cli.main\nmrff.cli.main.main(sys.argv[1:])\nprint()\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.splitlines()[-1].split())
    allowed = {"pyarrow"} if "submit" in words else set()
    assert imported & HEAVY <= allowed
    assert "mrff.cli.main" in imported


def test_the_shell_is_told_how_a_word_goes_on() -> None:
    asked = {"_MRFF_COMPLETE": "complete_bash", "COMP_WORDS": "mrff re", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mrff.cli.main"],
        env={**os.environ, **asked}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["report", "recommend"]


def test_options_of_a_comparison_take_several_words() -> None:
    words = ["compare", "a.toml", "--methods", "mrff", "fedper", "--seeds", "3", "4", "--name", "x"]
    assert spread(words) == [
        "compare", "a.toml", "--methods", "mrff", "--methods", "fedper", "--seeds", "3",
        "--seeds", "4", "--name", "x",
    ]  # fmt: skip
