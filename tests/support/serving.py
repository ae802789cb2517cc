"""The HTTP interface of a run, asked in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi.testclient import TestClient

from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import load_best
from mrff.serving.api import application
from mrff.serving.newest import Newest
from server_app.run.run_folder import RunFolder

TOKEN = "a-token-of-the-tests"


def newest_of(home: Path, run: str) -> Newest:
    """The run's newest model, looked for ten times a second."""
    folder = RunFolder(home / "runs" / run)
    return Newest(folder, lambda: NodesAtHand(load_best(folder)), every=0.1)


@contextmanager
def asking(home: Path, run: str, *, token: str = TOKEN) -> Iterator[TestClient]:
    """Somebody who knows the token."""
    app = application(newest_of(home, run), TOKEN)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with TestClient(app, "http://127.0.0.1", headers=headers) as client:
        yield client
