"""A backup of a node at work is a state the node was in, and can be put in its place."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from client_app.private_store import PrivateStore
from mrff.io.files import OutputError
from mrff.io.sqlite import opened
from mrff.ops.backup import backup
from mrff.ops.processes import wait_for
from mrff.privacy.ledger import Ledger
from mrff.wire.aggregation.secure.state import OPENED, SESSIONS

KEYS = np.arange(1, 301, dtype=np.uint64)
# Every round notes a release, then stores every user's version: as a node does.
NODE = """
    import sys
    from itertools import count
    from pathlib import Path
    import numpy as np, torch
    from client_app.private_store import PrivateStore
    from mrff.privacy.accounting import Release
    from mrff.privacy.ledger import Ledger

    state, keys = Path(sys.argv[1]), np.arange(1, 301, dtype=np.uint64)
    for number in count(1):
        Ledger(state / "privacy", "data", "user").append(keys, Release(4.0), {"round": number})
        PrivateStore(state / "run").save(
            keys, {"own": torch.full((300, 500), float(number))}, np.zeros((300, 2), np.int64),
            round_number=number, keep_up_to=[number - 1],
        )
"""


def values(state: Path) -> torch.Tensor:
    """(users,) the one number in each user's newest parameters."""
    initial = {"own": torch.zeros(1, 500)}
    found, _ = PrivateStore(state / "run").load(
        KEYS, up_to_round=10**6, initial=initial, num_layers=2
    )
    assert (found["own"] == found["own"][:, :1]).all()
    return found["own"][:, 0]


def test_a_node_at_work_is_backed_up_and_restored(tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [sys.executable, "-c", textwrap.dedent(NODE), str(state)]
    with subprocess.Popen(command) as node:
        try:
            wait_for("a round is stored", lambda: (state / "run/private.sqlite").exists(), 60)
            for number in range(5):
                assert backup(state, tmp_path / f"copy-{number}") == [
                    Path("privacy/ledger.sqlite"), Path("run/private.sqlite"),
                ]  # fmt: skip
            assert node.poll() is None  # it was never stopped
        finally:
            node.kill()
    for number in range(5):
        copy = tmp_path / f"copy-{number}"
        rounds = values(copy)
        assert (rounds == rounds[0]).all()  # one round of all users, never a mixture
        ledger = Ledger(copy / "privacy", "data", "user")
        assert ledger.users() == KEYS.tolist()
        assert ledger.releases(1)[0].steps > 0
    restored = tmp_path / "copy-4"
    number = int(values(restored)[0])
    PrivateStore(restored / "run").save(
        KEYS, {"own": torch.full((300, 500), -1.0)}, np.zeros((300, 2), np.int64),
        round_number=number + 1, keep_up_to=[number],
    )  # fmt: skip
    assert (values(restored) == -1.0).all()


def test_what_cannot_be_backed_up_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no private store and no ledger"):
        backup(tmp_path, tmp_path / "out")
    (tmp_path / "state").mkdir()
    (tmp_path / "state/private.sqlite").touch()
    for out in (tmp_path, tmp_path / "state/copy"):
        with pytest.raises(OutputError, match="must be a new folder outside"):
            backup(tmp_path / "state", out)


def test_secrets_of_a_secure_sum_are_in_no_backup(tmp_path: Path) -> None:
    """Restored, they would open masks once more; what was opened for whom is kept."""
    state = tmp_path / "state"
    for name in (f"run/{SESSIONS}", OPENED):
        with opened(state / name, "CREATE TABLE there (row INTEGER);"):
            pass
    assert backup(state, tmp_path / "copy") == [Path(OPENED)]
    assert not list((tmp_path / "copy").rglob(f"*{SESSIONS}*"))
