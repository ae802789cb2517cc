"""Whatever a terminal's encoding, no table is lost to a title that it cannot print."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.data.prepare import prepare
from mrff.io.printing import escape_unprintable
from server_app.run.results import print_table
from tests.support.federation import run_federation

WORDS = (
    ["recommend", "RUN", "--user", "Žofie1", "--top", "3", "--explain"],
    ["recommend", "RUN", "--history", "映画1", "--top", "3"],
    ["data", "describe", "DATA"],
    ["privacy", "report", "RUN"],
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and all names in it beyond Latin 1."""
    folder = tmp_path_factory.mktemp("映画")
    rows = [f"Žofie{u},映画{(u + 3 * n) % 8},{(u + n) % 2},{n}" for u in range(6) for n in range(7)]
    (folder / "rows.csv").write_text("u,i,y,t\n" + "\n".join(rows) + "\n", encoding="utf-8")
    columns = 'user = "u"\nitem = "i"\nlabel = "y"\ntime = "t"\n'
    (folder / "own.toml").write_text(f'[interactions]\nfile = "rows.csv"\n{columns}')
    prepare("csv", source=folder / "own.toml", out=folder / "d")
    run_federation(
        folder / "d", folder, nodes=2, name="run", num_server_rounds=1, evaluate_every=1,
        window_length=6, sampling_rate=1.0,
    )  # fmt: skip
    return folder


@contextmanager
def printing(encoding: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """Standard output of this encoding."""
    printed = io.BytesIO()
    stream = io.TextIOWrapper(printed, encoding=encoding)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        yield printed
        stream.detach()  # flushes it, and leaves what was printed


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_table_is_printed_whole(
    home: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"RUN": str(home / "runs" / "run"), "DATA": str(home / "d")}
    said = {}
    for encoding in ("utf-8", "latin-1", "ascii"):
        with printing(encoding, monkeypatch) as printed:
            assert main([places.get(word, word) for word in words]) == 0
        said[encoding] = printed.getvalue().decode(encoding)
    escaped = said["utf-8"].encode("ascii", "backslashreplace").decode()
    assert said["ascii"].split() == escaped.split()
    assert len(said["latin-1"].splitlines()) == len(said["utf-8"].splitlines())


def test_a_process_that_is_told_its_encoding(home: Path) -> None:
    command = [sys.executable, "-m", "mrff.cli.main", "recommend", str(home / "runs" / "run")]
    command += ["--history", "映画1", "--top", "3"]
    environment = {"PYTHONIOENCODING": "latin-1", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u6620\u753b" in done.stdout


def test_a_run_ends_with_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server prints it last: an error there would be a failed run."""
    with printing("latin-1", monkeypatch) as printed:
        escape_unprintable()
        print_table(SUMMARY)
    assert rb"/home/[\u6620]" in printed.getvalue()  # and no markup of the printer's


SUMMARY = {
    "dataset": "映画", "test": {}, "best_by": "auc", "ranking_candidates": None, "test_parts": {},
    "test_users": 1, "test_targets": 1, "skipped_users": 0, "best_round": 1, "rounds": 1,
    "validation_auc": 0.5, "nodes_missing": {}, "bytes_down": 1, "bytes_up": 1, "seconds": 1.0,
    "path": "/home/[映]",
}  # fmt: skip
