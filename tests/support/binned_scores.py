"""Scores that are calibrated by construction, and their histograms."""

from __future__ import annotations

import numpy as np


def binned(scores: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Histograms (bins,) of positives' and of negatives' scores."""
    places = np.minimum((scores * bins).astype(int), bins - 1)
    positive = labels > 0.5
    return (
        np.bincount(places[positive], minlength=bins),
        np.bincount(places[~positive], minlength=bins),
    )


def sample(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores in [0, 1], and labels that are 1 as often as they say."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(2, 2, size)
    return scores, (rng.random(size) < scores).astype(int)
