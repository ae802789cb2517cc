"""Writes what a device needs to score items for its user: ONNX, safetensors and their description.

The ONNX graph takes a history of any length up to window-length - 1, so that the device appends
what its user does and asks again; the user's private parameters and features are constants in it.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mrff.data.schema import ITEMS_FILE, SCHEMA_FILE
from mrff.io.files import write_json
from mrff.ops.nodes import NodesAtHand, UserModel, windows_of
from mrff.ops.trained_run import BestModel, RunError
from mrff_model.building import tensors_of

MODEL_FILE, PARAMETERS_FILE, META_FILE = "model.onnx", "parameters.safetensors", "meta.json"
FORMAT_VERSION = 1
TOLERANCE = 1e-4  # of a logit, between PyTorch and onnxruntime (float32, other order of sums)
CHECKED_CANDIDATES = 512


class DeviceModel(nn.Module):
    """The network of one user as a device calls it."""

    def __init__(self, user: UserModel) -> None:
        super().__init__()
        self.network = user.network
        self.code_names = list(user.user_codes)
        for name in self.code_names:
            self.register_buffer(f"codes_{name}", user.user_codes[name].clone())
        self.register_buffer("earlier", user.earlier.clone())

    def forward(
        self, history: Tensor, feedback: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores ``candidates`` after ``history``.

        Args:
            history: (n,) int64 item codes, newest last, 0 <= n < window-length.
            feedback: (n,) int64, 2 for liked, 1 for not.
            candidates: (N,) int64 item codes.

        Returns:
            Probabilities (N,), the user's group per layer (layers,), its probability (layers,).
        """
        codes = {name: self.get_buffer(f"codes_{name}") for name in self.code_names}
        batch = windows_of(history[None], feedback[None], codes)
        earlier = self.get_buffer("earlier")
        batch = batch._replace(earlier=(earlier,) if earlier.shape[1] else ())
        output = self.network.score_items(batch, candidates)
        return torch.sigmoid(output.logits[0]), output.routes[0], output.chosen[0]


def export_user(user: UserModel, nodes: NodesAtHand, out: Path) -> float | None:
    """Writes the folder ``out``; all of it, or nothing.

    Returns:
        The largest difference between onnxruntime's and PyTorch's logits; None where onnxruntime
        is not installed.

    Raises:
        RunError: no node knows the user, a package is missing, ``out`` exists, or the exported
            model does not agree with PyTorch.
    """
    if not user.is_known:
        raise RunError(
            f"user {user.name!r} is not in {nodes.dataset_folder}, nothing was exported; "
            "mrff recommend shows what the shared model says to a user without history"
        )
    if user.network.head is None:
        raise RunError(
            f"run {nodes.best.training_id} learned training.objective=next only, and the exported "
            "model answers how likely a click is; run with training.objective=both"
        )
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise RunError(
            f"mrff export needs {' and '.join(missing)}, not installed here; "
            "install the extra: pip install 'mrff[export]'"
        )
    if out.exists():
        raise RunError(f"{out} exists already; name a new folder with --out, or remove it")
    with _all_or_nothing(out) as folder:
        model = DeviceModel(user).eval()
        _write_onnx(model, user, folder / MODEL_FILE)
        difference = check_onnx(model, user, folder / MODEL_FILE)
        save_file(_parameters(user), folder / PARAMETERS_FILE)
        for name in (ITEMS_FILE, SCHEMA_FILE):
            shutil.copyfile(nodes.dataset_folder / name, folder / name)
        write_json(folder / META_FILE, _meta(user, nodes.best, difference))
    return difference


def check_onnx(model: DeviceModel, user: UserModel, path: Path) -> float | None:
    """The largest difference of logits over several lengths of history; None: no onnxruntime.

    Raises:
        RunError: it is larger than `TOLERANCE`, or a group differs.
    """
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime  # heavy, and an extra

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    num_items = user.node.dataset.schema.num_items
    candidates = torch.arange(1, num_items + 1, max(1, num_items // CHECKED_CANDIDATES))
    worst = 0.0
    for length in sorted({0, 1, user.most_history // 2, user.most_history}):
        history, feedback = _example(user, length)
        inputs = {"history": history, "feedback": feedback, "candidates": candidates}
        with torch.no_grad():
            expected = model(**inputs)
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        if not np.array_equal(found[1], expected[1].numpy()):
            raise RunError(
                f"the exported model sends a history of {length} to groups {found[1].tolist()}, "
                f"PyTorch to {expected[1].tolist()}: it must not be used"
            )
        ours, theirs = (torch.logit(p.double()) for p in (expected[0], torch.tensor(found[0])))
        worst = max(worst, float((ours - theirs).abs().max()))
    if not worst <= TOLERANCE:
        raise RunError(
            f"the exported model's logits differ from PyTorch's by {worst:.3g}, more than "
            f"{TOLERANCE:g}: it must not be used"
        )
    return worst


def _write_onnx(model: DeviceModel, user: UserModel, path: Path) -> None:
    history, feedback = _example(user, min(5, user.most_history))
    candidates = torch.arange(1, min(7, user.node.dataset.schema.num_items) + 1)
    n = {0: torch.export.Dim("n", min=0, max=user.most_history)}
    shapes = {"history": n, "feedback": n, "candidates": {0: torch.export.Dim("candidates")}}
    with warnings.catch_warnings(), _quiet(logging.getLogger("torch.onnx")):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (history, feedback, candidates), path,
            input_names=["history", "feedback", "candidates"],
            output_names=["probabilities", "groups", "group_probabilities"],
            dynamic_shapes=shapes, dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip


def _example(user: UserModel, length: int) -> tuple[Tensor, Tensor]:
    """A history of that length: the user's own, repeated or filled up where it is too short."""
    items, labels = user.recent()
    if not len(items):
        items, labels = np.arange(1, user.node.dataset.schema.num_items + 1), np.ones(1)
    history = torch.from_numpy(np.resize(items, length).astype(np.int64))
    return history, torch.from_numpy(np.resize(labels, length).astype(np.int64) + 1)


def _parameters(user: UserModel) -> dict[str, Tensor]:
    """Every tensor by its name in the network, the user's private ones included."""
    return {
        name: value.clone().contiguous()
        for scope in ("public", "group", "private")
        for name, value in tensors_of(user.network, scope).items()
    }


def _meta(user: UserModel, best: BestModel, difference: float | None) -> dict[str, Any]:
    schema = user.node.dataset.schema
    codes = {"dtype": "int64", "shape": ["n"], "low": 1, "high": schema.num_items}
    return {
        "format_version": FORMAT_VERSION,
        "user": user.name,
        "has_own_parameters": user.has_own,
        "training_id": best.training_id,
        "best_round": best.round,
        "schema_hash": best.schema_hash,
        "dataset": schema.name,
        "label": schema.label_rule,
        "files": {
            MODEL_FILE: "the user's whole model",
            PARAMETERS_FILE: "the same parameters by name, to build the network in PyTorch",
            ITEMS_FILE: "the public catalogue: row i is item code i + 1",
            SCHEMA_FILE: "features and vocabularies",
        },
        "inputs": {
            "history": {
                **codes, "most": user.most_history,
                "meaning": "item codes the user met, newest last; of more, the latest",
            },
            "feedback": {
                **codes, "high": 2,
                "meaning": "of each history item: 2 if its label was 1, 1 if it was 0",
            },
            "candidates": {**codes, "shape": ["N"], "meaning": "item codes to score"},
        },
        "outputs": {
            "probabilities": {"dtype": "float32", "shape": ["N"], "meaning": "of label 1"},
            "groups": {"dtype": "int64", "shape": ["layers"], "meaning": "group from 0, per layer"},
            "group_probabilities": {"dtype": "float32", "shape": ["layers"]},
        },
        "user_codes": {name: codes[0].tolist() for name, codes in user.user_codes.items()},
        "private_parameters": sorted(tensors_of(user.network, "private")),
        "largest_logit_difference_onnxruntime": difference,
        "config": best.config.to_flat(),
    }  # fmt: skip


@contextmanager
def _quiet(log: logging.Logger) -> Iterator[None]:
    """The exporter says on every call which packages it could also translate."""
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _all_or_nothing(out: Path) -> Iterator[Path]:
    """A new folder that gets its name when it is complete; for its owner alone."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "export"
        folder.mkdir(mode=0o700)
        yield folder
        os.rename(folder, out)
