"""What leaves a node in a private mode: the same from everybody, with noise on all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from scipy.stats import kstest

from client_app.learners import silo
from mrff.config import PrivacySettings
from mrff.privacy.mechanisms.clipping import STATISTICS
from mrff.privacy.noise import predictable
from mrff.wire.records import arrays_in
from mrff_model.scopes import is_expert
from tests.support.federation import run_federation
from tests.support.private_rounds import private_round
from tests.support.small_data import small_dataset

MODES = ["local-dp-sgd", "central-user", "laplace"]
LEVEL = 1e-6  # a test of fresh secret noise fails once in a million runs


def contents(replies: list[bytes]) -> list[RecordDict]:
    return [recorddict_from_proto(ProtoRecordDict.FromString(data)) for data in replies]


def shape_of(content: RecordDict) -> list[tuple[str, str, tuple[int, ...], str]]:
    arrays = [
        (record, name, array.shape, array.dtype.name)
        for record in content.array_records
        for name, array in arrays_in(content, record).items()
    ]
    numbers = [
        ("numbers", name, (), type(value).__name__)
        for name, value in content.metric_records["numbers"].items()
    ]
    return sorted(arrays + numbers)


@pytest.mark.parametrize("mode", MODES)
def test_every_users_reply_has_the_same_arrays_shapes_and_bytes(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    grid = run_federation(
        small_data, tmp_path, nodes=15, name="one-user-nodes", record=True, num_server_rounds=1,
        evaluate_every=1, mode=mode, sampling_rate=0.5 if mode == "central-user" else 1.0,
        delta=1e-3,
    )  # fmt: skip
    replies = [data for data in grid.replies if b"units" in data]
    assert len(replies) == 15
    assert len({len(data) for data in replies}) == 1
    first, *others = [shape_of(content) for content in contents(replies)]
    assert all(other == first for other in others)
    names = {name for record, name, _, _ in first if record == "updates"}
    experts = {name for name in names if is_expert(name)}
    assert {".experts.0.", ".experts.1.", ".experts.2.", ".experts.3."} == {
        name[name.index(".experts") : name.index(".experts") + 11] for name in experts
    }
    assert STATISTICS in names - experts
    for content in contents(replies):  # numbers that are public anyway, and nothing else
        numbers = content.metric_records["numbers"]
        assert set(numbers) == {"round", "units", "noise_variance"}
        assert numbers["units"] == 1


@pytest.mark.parametrize("mode", ["local-dp-sgd", "laplace"])
def test_no_number_that_a_node_noises_itself_tells_an_unrouted_expert(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    grid = run_federation(
        small_data, tmp_path, nodes=15, name="noised", record=True, num_server_rounds=1,
        evaluate_every=1, mode=mode, sampling_rate=1.0, delta=1e-3,
    )  # fmt: skip
    for content in contents([data for data in grid.replies if b"units" in data]):
        deviation = content.metric_records["numbers"]["noise_variance"] ** 0.5
        arrays = arrays_in(content, "updates")
        experts = {name: array for name, array in arrays.items() if is_expert(name)}
        assert experts
        for name, array in experts.items():
            assert (array != 0.0).all(), name
            assert array.std() > 0.3 * deviation or array.size < 64


@pytest.mark.parametrize("mode", ["local-dp-sgd", "laplace"])
def test_the_noise_of_repeated_rounds_has_the_distribution_it_should(mode: str) -> None:
    """Two rounds that differ in nothing but their secret noise."""
    dataset, noise, clipping_norm = small_dataset((9, 4, 14)), 1.5, 0.7
    privacy = PrivacySettings(mode=mode, noise_multiplier=noise, clipping_norm=clipping_norm)
    uploads = []
    for _ in range(2):
        task = private_round(dataset, np.arange(3), privacy=privacy)
        uploads.append(task.release(task.train().sums))
    one, other = (
        np.concatenate([v.ravel() for n, v in upload.updates.items() if n != STATISTICS])
        for upload in uploads
    )
    difference = (one - other) / np.sqrt(2.0)  # what is exact in both cancels
    deviation = uploads[0].number("noise_variance") ** 0.5
    if mode == "laplace":
        assert deviation == pytest.approx(noise * clipping_norm * np.sqrt(6.0))
        assert difference.std() == pytest.approx(deviation, rel=0.1)
    else:  # learning rate times noise over 3 expected records, for 3 users
        assert deviation == pytest.approx(0.1 * noise * clipping_norm)
        assert kstest(difference / deviation, "norm").pvalue > LEVEL


def test_an_empty_sample_of_records_still_takes_a_noisy_step() -> None:
    dataset = small_dataset((9, 4, 14))
    privacy = PrivacySettings(mode="local-dp-sgd", record_sampling_rate=1e-9, noise_multiplier=1.0)
    task = private_round(dataset, np.arange(3), privacy=privacy)
    trained = task.train()
    assert not trained.kept.any()
    upload = task.release(trained.sums)
    assert STATISTICS in upload.updates
    for name, value in upload.updates.items():
        assert bool((value != 0.0).all()), name


def test_steps_that_are_taken_apart_into_chunks_are_the_same_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clipped sums and noise do not depend on how many records are held at once."""
    dataset = small_dataset((9, 4, 14, 6, 12, 30))
    privacy = PrivacySettings(mode="local-dp-sgd", unit="record", private_training="noised")
    results = []
    for chunk in (silo.MOST_CHUNK_BYTES, 1):
        monkeypatch.setattr(silo, "MOST_CHUNK_BYTES", chunk)
        task = private_round(
            dataset, np.arange(6), privacy=privacy, local_steps=3, max_windows_per_user="all",
            window_length=5,
        )  # fmt: skip
        with predictable(1):
            results.append(task.train().sums)
    statistics = [sums.updates.pop(STATISTICS) for sums in results]
    assert results[0].updates.keys() == results[1].updates.keys()
    for name, value in results[0].updates.items():
        np.testing.assert_allclose(results[1].updates[name], value, atol=2e-4)
    np.testing.assert_allclose(*statistics, atol=1e-4)
