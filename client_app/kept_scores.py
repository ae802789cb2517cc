"""Keeps a node's test predictions beside its private parameters, where a comparison asks for them.

They are scores of clicks, ranks of next items, or both: what the run learns.

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

from mrff.metrics.metric import Ranks, Scored

FILE = "kept-scores.safetensors"


class KeptScoresError(ValueError):
    """Kept predictions are missing or damaged."""


@dataclass(frozen=True)
class KeptScores:
    """Test predictions of U users, k targets each, in time order; users by rising key."""

    user_keys: np.ndarray  # (U,) uint64
    logits: np.ndarray | None  # (U, k) float64; None where clicks are not learned
    labels: np.ndarray  # (U, k) uint8, 0 or 1
    ranks: Ranks | None = None  # by the run's own mix; None where next items are not learned

    def taken(self, places: np.ndarray) -> KeptScores:
        """The users at ``places``, in that order."""
        return KeptScores(
            self.user_keys[places],
            None if self.logits is None else self.logits[places],
            self.labels[places],
            None if self.ranks is None else Ranks.joined([self.ranks], places),
        )

    def has_items_of(self, other: KeptScores) -> bool:
        """Whether both are of the same users and ask for the same items among as many."""
        same = np.array_equal(self.labels, other.labels)
        ours, theirs = self.ranks, other.ranks
        if not same or ours is None or theirs is None:
            return same
        return all(
            np.array_equal(getattr(ours, field), getattr(theirs, field))
            for field in ("candidates", "apart", "counts")
        )


def keep_scores(
    folder: Path, user_keys: np.ndarray, groups: Sequence[Scored], *, clicks: bool = True
) -> None:
    """Writes the scores of a node's users, given group by group, into its folder in one step.

    Args:
        clicks: whether the run learns clicks, so that logits mean something.
    """
    logits = np.concatenate([scored.logits for scored in groups])
    labels = np.concatenate([scored.labels for scored in groups])
    ranked = [scored.ranks for scored in groups if scored.ranks is not None]
    ranks = Ranks.joined(ranked, np.arange(len(labels))) if ranked else None
    kept = KeptScores(user_keys, logits if clicks else None, labels, ranks)
    write_scores(folder / FILE, kept)


def write_scores(path: Path, scores: KeptScores) -> None:
    """Replaces the file at ``path``; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {
        "user-keys": np.ascontiguousarray(scores.user_keys, dtype=np.uint64),
        "labels": np.ascontiguousarray(scores.labels > 0.5, dtype=np.uint8),
    }
    if scores.logits is not None:
        arrays["logits"] = np.ascontiguousarray(scores.logits, dtype=np.float64)
    if scores.ranks is not None:
        own = scores.ranks.first_mix()
        for name, values in vars(own).items():
            arrays[f"ranks.{name}"] = np.ascontiguousarray(values)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    temporary.write_bytes(save(arrays))
    os.replace(temporary, path)


def read_scores(files: list[Path]) -> KeptScores:
    """The users of all the files together, by rising key.

    Raises:
        KeptScoresError: no file, a damaged one, or a user in two of them.
    """
    parts = [_read(file) for file in files]
    if not parts:
        raise KeptScoresError("no node kept test scores; run with keep-test-scores=true")
    keys = np.concatenate([part.user_keys for part in parts])
    if len(np.unique(keys)) < len(keys):
        raise KeptScoresError(f"a user has test scores in two of the files beside {files[0]}")
    logits = [part.logits for part in parts if part.logits is not None]
    ranks = [part.ranks for part in parts if part.ranks is not None]
    if len(logits) not in (0, len(parts)) or len(ranks) not in (0, len(parts)):
        raise KeptScoresError(
            f"the files beside {files[0]} are of different runs; remove the run to do it again"
        )
    return KeptScores(
        keys,
        np.concatenate(logits) if logits else None,
        np.concatenate([part.labels for part in parts]),
        Ranks.joined(ranks, np.arange(len(keys))) if ranks else None,
    ).taken(np.argsort(keys, kind="stable"))


def _read(file: Path) -> KeptScores:
    try:
        stored: dict[str, np.ndarray] = load_file(file)
        prefix = "ranks."
        ranks = {n.removeprefix(prefix): a for n, a in stored.items() if n.startswith(prefix)}
        return KeptScores(
            stored["user-keys"],
            stored.get("logits"),
            stored["labels"],
            Ranks(**ranks) if ranks else None,
        )
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise KeptScoresError(
            f"the test scores in {file} are damaged ({error}); remove the run to do it again"
        ) from error
