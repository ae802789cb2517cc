from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import safetensors.numpy
import torch

from mrff.cli.main import main
from mrff.data.dataset import load_dataset
from mrff.ops import export as exporting
from mrff.ops.device_model import DeviceModel
from mrff.ops.export import check_onnx
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import next_scores, score
from mrff.ops.trained_run import RunError, find_run, load_best
from mrff.ops.user_model import UserModel, open_user
from mrff_model.backbones import BACKBONES
from mrff_model.building import tensors_of
from tests.support.federation import run_federation
from tests.support.trained import RUN

NETWORKS: list[dict[str, Any]] = [
    {"gate_mode": "hard", "gate_input": "hidden", "history_feedback": False, "window_length": 200},
    {"user_network_dim": "off", "user_embedding_dim": "off", "user_bias": False, "num_experts": 1},
    {"item_bias": True},
    {"hidden_dim": 6, "num_heads": 2, "num_layers": 1},
]
USER = 3  # row in the dataset

pytestmark = pytest.mark.slow  # PyTorch's exporter takes seconds for each model


@pytest.fixture(scope="module")
def device(trained_home: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one user of the run ``small``."""
    out = tmp_path_factory.mktemp("exported") / "device"
    assert export(str(trained_home / "runs" / RUN), name_of(small_data), out) == 0
    return out


@pytest.fixture
def written_before(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export writes the graph of ``device``, which is that user's; PyTorch takes seconds."""
    monkeypatch.setattr(
        exporting, "_write_onnx", lambda model, user, path: shutil.copy(device / "model.onnx", path)
    )


@pytest.fixture
def user(at_home: Path, small_data: Path) -> UserModel:
    return open_user(NodesAtHand(load_best(find_run(RUN))), name_of(small_data))


def name_of(data: Path) -> str:
    return str(load_dataset(data).user_ids[USER])


def run_onnx(folder: Path, user: UserModel, candidates: np.ndarray) -> list[np.ndarray]:
    """What a device gets for this user, with nothing but the folder."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    items, labels = user.recent()
    inputs = {"history": items, "feedback": labels + 1, "candidates": candidates}
    return session.run(["probabilities", "groups", "group_probabilities"], inputs)


def shortened(user: UserModel, length: int) -> UserModel:
    first = len(user.items) - length
    return replace(user, items=user.items[first:], labels=user.labels[first:])


def export(run: str, user: str, out: Path) -> int:
    return main(["export", run, "--user", user, "--out", str(out)])


@pytest.mark.parametrize(
    ("backbone", "network"),
    [
        *zip(BACKBONES, NETWORKS[: len(BACKBONES)], strict=True),
        ("sasrec", {"head": "target-attention", "num_experts": 1, "num_layers": 1}),
        ("sasrec", {"head": "linear", "num_experts": 1, "num_layers": 1}),
        ("sasrec", {"item_ids": "hashed", "hash_rows": 7, "hidden_dim": 6}),
        ("sasrec", {"gate_mode": "evidence", "hidden_dim": 6, "history_rates": False}),
    ],
)
def test_a_device_computes_what_pytorch_does(
    backbone: str,
    network: dict[str, Any],
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    settings = {"num_server_rounds": 2, "evaluate_every": 2, "sampling_rate": 1.0, **network}
    run_federation(small_data, tmp_path, nodes=1, name="run", backbone=backbone, **settings)
    name = name_of(small_data)
    assert export("run", name, tmp_path / "device") == 0
    user = open_user(NodesAtHand(load_best(find_run("run"))), name)
    everything = np.arange(1, user.node.dataset.schema.num_items + 1)
    for length in (0, 1, 2, 9, len(user.recent()[0])):
        shorter = shortened(user, length)
        logits, groups, chosen = score(shorter, everything)
        probabilities, device_groups, device_chosen = run_onnx(
            tmp_path / "device", shorter, everything
        )
        np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-5)
        assert device_groups.tolist() == groups.tolist()
        np.testing.assert_allclose(device_chosen, chosen, atol=1e-5)


def test_what_onnx_lacks_is_said_in_one_line(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    run_federation(
        small_data, tmp_path, nodes=1, name="run", num_server_rounds=1, gate_mode="evidence"
    )
    assert export("run", name_of(small_data), tmp_path / "device") == 2
    assert "cannot be written as ONNX" in capsys.readouterr().err
    assert not (tmp_path / "device").exists()


def test_what_lies_in_the_folder(device: Path, user: UserModel, small_data: Path) -> None:
    assert sorted(p.name for p in device.iterdir()) == [
        "items.parquet", "meta.json", "model.onnx", "parameters.safetensors", "schema.json",
    ]  # fmt: skip
    assert device.stat().st_mode & 0o077 == 0  # private parameters: for the owner alone

    parameters = safetensors.numpy.load_file(device / "parameters.safetensors")
    for scope in ("public", "group", "private"):
        for parameter, value in tensors_of(user.network, scope).items():
            np.testing.assert_array_equal(parameters.pop(parameter), value.numpy())
    assert not parameters

    meta = json.loads((device / "meta.json").read_text())
    assert meta["user"] == name_of(small_data)
    assert meta["has_own_parameters"] is True
    assert meta["best_round"] == load_best(find_run(RUN)).round
    assert meta["inputs"]["history"]["most"] == user.most_history
    assert 0 <= meta["largest_logit_difference_onnxruntime"] < 1e-4
    session = onnxruntime.InferenceSession(device / "model.onnx")
    assert {i.name: (i.type, len(i.shape)) for i in session.get_inputs()} == {
        name: ("tensor(int64)", len(meta["inputs"][name]["shape"])) for name in meta["inputs"]
    }
    assert [o.name for o in session.get_outputs()] == list(meta["outputs"])


@pytest.mark.parametrize("run", ["next", "both", "mixed"])
def test_a_device_scores_the_next_item_as_the_run_does(
    run: str, small_data: Path, next_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = next_home / "runs" / run, tmp_path / "device"
    assert export(str(path), name_of(small_data), out) == 0
    said = capsys.readouterr().out
    user = open_user(NodesAtHand(load_best(find_run(str(path)))), name_of(small_data))
    everything = np.arange(1, user.node.dataset.schema.num_items + 1)
    session = onnxruntime.InferenceSession(out / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    meta = json.loads((out / "meta.json").read_text())
    learned = ["probabilities", "scores"] if run == "both" else ["scores"]
    assert names == list(meta["outputs"]) == [*learned, "groups", "group_probabilities"]
    for length in (0, 1, 4, user.most_history):
        items, labels = (v[len(v) - length :] for v in (user.items, user.labels))
        inputs = {"history": items, "feedback": labels + 1, "candidates": everything}
        found = dict(zip(names, session.run(None, inputs), strict=True))
        history = user.batch(items[None], labels[None])  # items before the window are constants
        np.testing.assert_allclose(found["scores"], next_scores(user, history)[0], atol=1e-5)
        if run == "both":
            with torch.no_grad():
                logits = user.network.score_items(history, torch.from_numpy(everything)).logits[0]
            np.testing.assert_allclose(found["probabilities"], torch.sigmoid(logits), atol=1e-5)
    alone = "the network alone is exported; the run ranks by"
    assert (alone in said) == (run == "mixed")
    assert (alone in (meta["left_out"] or "")) == (run == "mixed")


def test_a_model_that_disagrees_is_refused(device: Path, user: UserModel) -> None:
    path = device / "model.onnx"
    assert check_onnx(DeviceModel(user), user, path) is not None
    exported_group = score(shortened(user, 0), np.array([1]))[1][0]
    with torch.no_grad():
        user.network.head.down.bias += 0.001
    with pytest.raises(RunError, match=r"differ from PyTorch's by 0\.001, more than 0\.0001"):
        check_onnx(DeviceModel(user), user, path)
    with torch.no_grad():
        user.network.layers[0].gate.linear.bias[(exported_group + 1) % 3] = 90.0
    with pytest.raises(RunError, match="sends a history of 0 to groups"):
        check_onnx(DeviceModel(user), user, path)


@pytest.mark.usefixtures("written_before")
def test_mistakes_are_one_line_and_leave_nothing(
    at_home: Path,
    small_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = name_of(small_data)
    (tmp_path / "there").mkdir()
    for user, out, message in (
        ("nobody", "new", "user 'nobody' is not in"),
        (name, "there", "exists already; name a new folder"),
    ):
        assert export(RUN, user, tmp_path / out) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1

    def without(*names: str) -> None:
        monkeypatch.setattr(
            exporting,
            "find_spec",
            lambda asked: None if asked in names else importlib.util.find_spec(asked),
        )

    without("onnxscript")
    assert export(RUN, name, tmp_path / "new") == 2
    said = capsys.readouterr().err
    assert "mrff export needs onnxscript, not installed here" in said
    assert "pip install 'mrff[export]'" in said
    assert [p.name for p in tmp_path.iterdir()] == ["there"]

    without("onnxruntime")
    assert export(RUN, name, tmp_path / "new") == 0
    assert "NOT CHECKED against PyTorch" in capsys.readouterr().out
    meta = json.loads((tmp_path / "new" / "meta.json").read_text())
    assert meta["largest_logit_difference_onnxruntime"] is None


@pytest.mark.usefixtures("written_before")
def test_a_failed_export_leaves_no_folder(
    at_home: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)  # even the same number is too far away
    name = name_of(small_data)
    assert export(RUN, name, tmp_path / "device") == 2
    assert list(tmp_path.iterdir()) == []
