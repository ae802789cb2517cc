"""What a private run leaves behind tells nothing that its noise was to hide."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from mrff.cli.main import main
from mrff.privacy.mechanisms.central_user import CentralServer
from mrff.privacy.noised_evaluation import VECTOR, NoisyTest
from mrff.sums import CohortSums
from server_app.run.history import TIMED, read_history
from tests.support.federation import run_federation


def test_the_servers_noise_has_no_low_bits(small_data: Path, tmp_path: Path) -> None:
    """Shares in the history would show them: of float64 noise they tell what it was added to."""
    divided, measured = CentralServer.divided, NoisyTest.measured
    seen: list[np.ndarray] = []

    def watched(self: CentralServer, sums: CohortSums, *arguments: Any) -> Any:
        seen.extend(sums.updates.values())
        return divided(self, sums, *arguments)

    def watched_test(self: NoisyTest, sums: CohortSums) -> CohortSums:
        seen.append(sums.updates[VECTOR])
        return measured(self, sums)

    with (
        patch.object(CentralServer, "divided", watched),
        patch.object(NoisyTest, "measured", watched_test),
    ):
        run_federation(small_data, tmp_path, nodes=2, name="n", mode="central-user", delta=1e-3)
    assert len(seen) > 4
    for array in seen:
        assert array.any()
        np.testing.assert_array_equal(array, array.astype(np.float32))


@pytest.mark.parametrize(
    ("mode", "timed"), [("none", True), ("central-user", False), ("laplace", False)]
)
def test_private_histories_hold_no_bytes_and_no_times(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, timed: bool
) -> None:
    """Where nodes have one user, a round in which a certain one was drawn takes longer."""
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    run_federation(
        small_data, tmp_path, nodes=2, name="n", mode=mode, delta=1e-3, tensorboard=True,
        evaluate_every=1,
    )  # fmt: skip
    entries = read_history(tmp_path / "runs/n/history.jsonl")
    assert {entry["kind"] for entry in entries} >= {"round", "test"}
    for entry in entries:
        assert (entry.keys() & set(TIMED)) == (set(TIMED) if timed else set())
    (file,) = (tmp_path / "runs/n").rglob("events.*")
    events = [event for event in EventFileLoader(str(file)).Load() if event.summary.value]
    tags = {value.tag for event in events for value in event.summary.value}
    assert ("traffic/seconds" in tags) == ("traffic/bytes up" in tags) == timed
    assert "traffic/missing" in tags
    assert (len({event.wall_time for event in events}) > 1) == timed
    assert main(["report", "n", "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert ("Seconds per round" in page) == ("time in phases" in page) == timed
