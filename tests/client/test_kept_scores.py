"""Test scores that a node keeps: complete, its own, and in no message."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from client_app.kept_scores import FILE, KeptScoresError, keep_scores, read_scores
from mrff.config.methods import method_named
from mrff.data.dataset import load_dataset
from mrff.experiments.comparison.measures import auc_of, measured
from mrff.metrics.metric import Scored
from tests.support.federation import run_federation


def scored(logits: np.ndarray, labels: np.ndarray) -> Scored:
    routes = np.zeros((len(logits), 1), dtype=np.int64)
    return Scored(logits, labels, routes, before=routes)


def test_the_kept_scores_are_those_the_server_measured_and_no_message_changes(
    small_data: Path, tmp_path: Path
) -> None:
    replies = {}
    for keep in (False, True):
        grid = run_federation(
            small_data, tmp_path, nodes=4, name=f"keep-{keep}", record=True, holdout=2,
            keep_test_scores=keep,
        )  # fmt: skip
        replies[keep] = [len(reply) for reply in grid.replies]
    assert not list((tmp_path / "state" / "keep-False").rglob(FILE))
    files = sorted((tmp_path / "state" / "keep-True").rglob(FILE))
    assert len(files) == 4
    kept = read_scores(files)
    dataset = load_dataset(small_data)
    assert kept.user_keys.tolist() == sorted(dataset.user_keys.tolist())
    assert kept.logits.shape == kept.labels.shape == (15, 2)
    for key, labels in zip(kept.user_keys, kept.labels, strict=True):
        user = int(np.flatnonzero(dataset.user_keys == key)[0])
        assert labels.tolist() == dataset.labels[: dataset.offsets[user + 1]][-2:].tolist()
    test = json.loads((tmp_path / "runs" / "keep-True" / "summary.json").read_text())["test"]
    losses = np.logaddexp(0, np.where(kept.labels == 1, -kept.logits, kept.logits))
    assert losses.mean() == pytest.approx(test["log_loss"], abs=1e-9)
    travelled = b"".join(grid.requests + grid.replies)
    for logit in kept.logits.ravel():
        assert np.float64(logit).tobytes() not in travelled
    assert len(replies[True]) == len(replies[False])


@pytest.mark.parametrize("name", ["local-only", "fedper", "ifca", "gate-hidden"])
def test_every_kind_of_method_keeps_what_the_server_measured(
    name: str, small_data: Path, tmp_path: Path
) -> None:
    changes = {key.replace("-", "_"): value for key, value in method_named(name).overrides.items()}
    run_federation(small_data, tmp_path, nodes=2, name="one", keep_test_scores=True, **changes)
    kept = read_scores(sorted((tmp_path / "state" / "one").rglob(FILE)))
    test = json.loads((tmp_path / "runs" / "one" / "summary.json").read_text())["test"]
    auc = auc_of(kept.logits, kept.labels)([1.0] * len(kept.user_keys))[0]
    assert abs(auc - test["auc"]) <= test["auc_error_bound"] + 1e-9
    losses = np.logaddexp(0, np.where(kept.labels == 1, -kept.logits, kept.logits))
    assert losses.mean() == pytest.approx(test["log_loss"], abs=1e-9)


@pytest.mark.parametrize(("objective", "learns_clicks"), [("next", False), ("both", True)])
def test_kept_ranks_are_those_the_server_measured_and_no_message_changes(
    objective: str, learns_clicks: bool, small_data: Path, tmp_path: Path
) -> None:
    run_federation(
        small_data, tmp_path, nodes=3, name="one", holdout=2, keep_test_scores=True,
        objective=objective, gate_input="earlier", linear_items=5,
    )  # fmt: skip
    kept = read_scores(sorted((tmp_path / "state" / "one").rglob(FILE)))
    assert (kept.logits is not None) == learns_clicks
    assert kept.ranks is not None
    assert kept.ranks.better.shape == (15, 2, 1)
    test = json.loads((tmp_path / "runs" / "one" / "summary.json").read_text())["test"]
    of = measured(kept)
    for name in ("hr10", "ndcg10"):
        assert of[name]([1.0] * 15)[0] == pytest.approx(test[name], abs=1e-9)
    assert kept.ranks.candidates.mean() == pytest.approx(test["candidates"])


def test_users_are_ordered_by_key_and_groups_are_joined(tmp_path: Path) -> None:
    keys = np.array([9, 2**63 + 5, 4], dtype=np.uint64)
    logits, labels = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [0.0], [1.0]])
    groups = [scored(logits[part], labels[part]) for part in (slice(0, 2), slice(2, 3))]
    keep_scores(tmp_path / "node", keys, groups)
    kept = read_scores([tmp_path / "node" / FILE])
    assert kept.user_keys.tolist() == [4, 9, 2**63 + 5]
    assert kept.logits.ravel().tolist() == [3.0, 1.0, 2.0]
    assert kept.labels.ravel().tolist() == [1, 1, 0]


def test_missing_damaged_and_doubled_scores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeptScoresError, match="run with keep-test-scores=true"):
        read_scores([])
    scores = scored(np.zeros((1, 1)), np.zeros((1, 1)))
    for node in "ab":
        keep_scores(tmp_path / node, np.array([7], dtype=np.uint64), [scores])
    files = [tmp_path / node / FILE for node in "ab"]
    with pytest.raises(KeptScoresError, match="a user has test scores in two"):
        read_scores(files)
    files[0].write_bytes(files[0].read_bytes()[:20])
    with pytest.raises(KeptScoresError, match="are damaged"):
        read_scores(files)
