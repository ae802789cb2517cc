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
from torch import Tensor

from mrff.data.schema import ITEMS_FILE, SCHEMA_FILE
from mrff.io.files import write_json
from mrff.linear import Mixture, told
from mrff.ops.device_model import OUTPUTS, PROBABILITIES, DeviceModel
from mrff.ops.histories import asked_after
from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import BestModel, RunError
from mrff.ops.user_model import UserModel
from mrff_model.building import tensors_of

MODEL_FILE, PARAMETERS_FILE, META_FILE = "model.onnx", "parameters.safetensors", "meta.json"
FORMAT_VERSION = 2  # 1 knew probabilities only
TOLERANCE = 1e-4  # of a logit or score, between PyTorch and onnxruntime (float32, other sums)
CHECKED_CANDIDATES = 512
PAUSE = 10**13  # between two moments of an example, in nanoseconds: some hours


def export_user(user: UserModel, nodes: NodesAtHand, out: Path) -> float | None:
    """Writes the folder ``out``; all of it, or nothing.

    Returns:
        The largest difference between onnxruntime's and PyTorch's logits and scores; None where
        onnxruntime is not installed.

    Raises:
        RunError: no node knows the user, a package is missing, ``out`` exists, the network has
            something that ONNX lacks, or the exported model does not agree with PyTorch.
    """
    if not user.is_known:
        raise RunError(
            f"user {user.name!r} is not in {nodes.dataset_folder}, nothing was exported; "
            "mrff recommend shows what the shared model says to a user without history"
        )
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise RunError(
            f"mrff export needs {' and '.join(missing)}, not installed here; "
            "install the extra: pip install 'mrff[export]'"
        )
    known = user.node.dataset.schema
    if known.schema_hash != nodes.best.schema_hash:
        raise RunError(
            f"run {nodes.best.training_id} knows the first {known.num_items} items of a catalogue "
            "that has grown since: export a run that goes on from it (run.start-from)"
        )
    config = user.node.config
    if config.gate_mode == "evidence" and (
        config.network.history_rates or config.network.item_statistics
    ):
        raise RunError(
            "network.gate-mode=evidence with network.history-rates or network.item-statistics "
            "cannot be written as ONNX: the rates of a whole history need an operation that it "
            "lacks; train with both off, or serve the user by mrff serve"
        )
    if out.exists():
        raise RunError(f"{out} exists already; name a new folder with --out, or remove it")
    with _all_or_nothing(out) as folder:
        model = DeviceModel(user).eval()
        _write_onnx(model, user, folder / MODEL_FILE)
        difference = check_onnx(model, user, folder / MODEL_FILE)
        save_file(_parameters(user), folder / PARAMETERS_FILE)
        shutil.copyfile(nodes.dataset_folder / ITEMS_FILE, folder / ITEMS_FILE)
        user.node.dataset.schema.public.save(folder)
        write_json(folder / META_FILE, _meta(model, user, nodes.best, difference))
    return difference


def check_onnx(model: DeviceModel, user: UserModel, path: Path) -> float | None:
    """The largest difference of logits and scores over several histories; None: no onnxruntime.

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
        inputs = _example(model, user, length, candidates)
        with torch.no_grad():
            expected = dict(zip(model.output_names, model(**inputs), strict=True))
        answers = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        found = dict(zip(model.output_names, map(torch.tensor, answers), strict=True))
        if not torch.equal(found["groups"], expected["groups"]):
            raise RunError(
                f"the exported model sends a history of {length} to groups "
                f"{found['groups'].tolist()}, PyTorch to {expected['groups'].tolist()}: "
                "it must not be used"
            )
        for name in model.scores:
            ours, theirs = expected[name].double(), found[name].double()
            if name == PROBABILITIES:
                ours, theirs = torch.logit(ours), torch.logit(theirs)
            worst = max(worst, float((ours - theirs).abs().max()))
    if not worst <= TOLERANCE:
        raise RunError(
            f"the exported model's logits differ from PyTorch's by {worst:.3g}, more than "
            f"{TOLERANCE:g}: it must not be used"
        )
    return worst


def _write_onnx(model: DeviceModel, user: UserModel, path: Path) -> None:
    candidates = torch.arange(1, min(7, user.node.dataset.schema.num_items) + 1)
    inputs = _example(model, user, min(5, user.most_history), candidates)
    n = torch.export.Dim("n", min=0, max=user.most_history)
    dims = {"candidates": torch.export.Dim("candidates"), "times": n + 1}
    shapes = {name: {0: dims.get(name, n)} for name in inputs}
    with warnings.catch_warnings(), _quiet(logging.getLogger("torch.onnx")):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, tuple(inputs.values()), path,
            input_names=model.input_names,
            output_names=model.output_names,
            dynamic_shapes=shapes, dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip


def _example(
    model: DeviceModel, user: UserModel, length: int, candidates: Tensor
) -> dict[str, Tensor]:
    """A history of that length: the user's own, repeated or filled up where it is too short.

    Every second item has the time of the one before it.
    """
    items, labels = user.recent()
    if not len(items):
        items, labels = np.arange(1, user.node.dataset.schema.num_items + 1), np.ones(1)
    values = {
        "history": torch.from_numpy(np.resize(items, length).astype(np.int64)),
        "feedback": torch.from_numpy(np.resize(labels, length).astype(np.int64) + 1),
        "candidates": candidates,
        "times": torch.from_numpy(asked_after(np.arange(length)[None] // 2 * PAUSE))[0],
    }
    return {name: values[name] for name in model.input_names}


def _parameters(user: UserModel) -> dict[str, Tensor]:
    """Every tensor by its name in the network, the user's private ones included."""
    return {
        name: value.clone().contiguous()
        for scope in ("public", "group", "private")
        for name, value in tensors_of(user.network, scope).items()
    }


def _meta(
    model: DeviceModel, user: UserModel, best: BestModel, difference: float | None
) -> dict[str, Any]:
    schema = user.node.dataset.schema
    numbers: dict[str, Any] = {"dtype": "int64", "shape": ["n"]}
    codes = {**numbers, "low": 1, "high": schema.num_items}
    inputs = {
        "history": {
            **codes, "most": user.most_history,
            "meaning": "item codes the user met, newest last; of more, the latest",
        },
        "feedback": {
            **codes, "high": 2,
            "meaning": "of each history item: 2 if its label was 1, 1 if it was 0",
        },
        "candidates": {**codes, "shape": ["N"], "meaning": "item codes to score"},
        "times": {
            **numbers, "shape": ["n + 1"],
            "meaning": "of each history item, then of the question; never falling; nanoseconds "
            "since 1970 where the data has real times",
        },
    }  # fmt: skip
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
        "inputs": {name: inputs[name] for name in model.input_names},
        "outputs": {name: OUTPUTS[name] for name in model.output_names},
        "left_out": None if user.mixture is None else network_alone(user.mixture),
        "user_codes": {name: codes[0].tolist() for name, codes in user.user_codes.items()},
        "private_parameters": sorted(tensors_of(user.network, "private")),
        "largest_logit_difference_onnxruntime": difference,
        "config": best.config.to_flat(),
    }  # fmt: skip


def network_alone(mixture: Mixture) -> str:
    """What an export lacks of a run that ranks by a mix."""
    return (
        f"the network alone is exported; the run ranks by {told(mixture.mixes[0])}, "
        "and its linear models stay behind"
    )


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
