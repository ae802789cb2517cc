"""Keeps a node's test predictions beside its private parameters, where a comparison asks for them.

Off by default (``keep-test-scores``) and refused in private modes. The file stays in the node's own
folder: no message carries it. Only `mrff compare`, on the machine that simulates all the nodes,
reads it, since a paired test over users needs every user's own outcomes.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mrff.metrics.metric import Scored

FILE = "kept-scores.safetensors"


class KeptScoresError(ValueError):
    """Kept predictions are missing or damaged."""


@dataclass(frozen=True)
class KeptScores:
    """Test predictions of U users, k targets each, in time order; users by rising key."""

    user_keys: np.ndarray  # (U,) uint64
    logits: np.ndarray  # (U, k) float64
    labels: np.ndarray  # (U, k) uint8, 0 or 1


def keep_scores(folder: Path, user_keys: np.ndarray, groups: Sequence[Scored]) -> None:
    """Writes the scores of a node's users, given group by group, into its folder in one step."""
    logits = np.concatenate([scores.logits for scores in groups])
    labels = np.concatenate([scores.labels for scores in groups])
    write_scores(folder / FILE, KeptScores(user_keys, logits, labels))


def write_scores(path: Path, scores: KeptScores) -> None:
    """Replaces the file at ``path``; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save(
        {
            "user-keys": np.ascontiguousarray(scores.user_keys, dtype=np.uint64),
            "logits": np.ascontiguousarray(scores.logits, dtype=np.float64),
            "labels": np.ascontiguousarray(scores.labels > 0.5, dtype=np.uint8),
        }
    )
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    temporary.write_bytes(content)
    os.replace(temporary, path)


def read_scores(files: list[Path]) -> KeptScores:
    """The users of all the files together, by rising key.

    Raises:
        KeptScoresError: no file, a damaged one, or a user in two of them.
    """
    parts = [_read(file) for file in files]
    if not parts:
        raise KeptScoresError("no node kept test scores; run with keep-test-scores=true")
    keys = np.concatenate([part["user-keys"] for part in parts])
    order = np.argsort(keys, kind="stable")
    if (np.diff(np.sort(keys).view(np.int64)) == 0).any():
        raise KeptScoresError(f"a user has test scores in two of the files beside {files[0]}")
    logits, labels = (
        np.concatenate([part[name] for part in parts])[order] for name in ("logits", "labels")
    )
    return KeptScores(keys[order], logits, labels)


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        stored: dict[str, np.ndarray] = load_file(file)
        return {name: stored[name] for name in ("user-keys", "logits", "labels")}
    except (SafetensorError, OSError, KeyError) as error:
        raise KeptScoresError(
            f"the test scores in {file} are damaged ({error}); remove the run to do it again"
        ) from error
