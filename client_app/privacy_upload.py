"""What every private mode is given and gives back, and what its upload looks like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client_app.training import Cohort, Start, Tensors
from mrff.config import ConfigError, DataSettings, PrivacySettings, TrainingSettings
from mrff.privacy.bound import Bound
from mrff.privacy.noise import NoiseSource
from mrff_model.building import tensors_of
from mrff_model.network import MRFFNetwork


@dataclass(frozen=True)
class PrivateRound:
    """One round of a node under a privacy mode."""

    start: Start
    cohort: Cohort
    data: DataSettings
    training: TrainingSettings
    privacy: PrivacySettings
    bound: Bound

    def source(self, purpose: str) -> NoiseSource:
        """A fresh secret stream; a test seed makes it depend on round and purpose only."""
        if self.privacy.noise_is_secret:
            return NoiseSource()
        return NoiseSource(
            self.privacy.noise_seed, f"node, round {self.start.round_number}, {purpose}"
        )


@dataclass(frozen=True)
class Upload:
    """What a mechanism lets out, and what stays on the node."""

    shared: Tensors  # summed weighted updates by network name, everything that is trained
    statistics: np.ndarray  # see `mrff.privacy.bound.Bound.statistics`
    private: Tensors  # (U, ...) each; stays
    routes: np.ndarray  # (U, layers), -1 unknown; stays
    kept: np.ndarray  # (U,) bool, whose private parameters are new; stays
    noise_deviation: float = 0.0  # of every number in ``shared``


def trained_names(network: MRFFNetwork, privacy: PrivacySettings) -> list[str]:
    """Names of the shared parameters that the mode trains and uploads, in the network's order.

    Raises:
        ConfigError: a prefix in ``frozen-parameters`` fits nothing, or everything is frozen.
    """
    names = [*tensors_of(network, "public"), *tensors_of(network, "group")]
    for prefix in privacy.frozen_prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise ConfigError(
                f"frozen-parameters: no shared parameter begins with {prefix!r}; "
                f"there are {', '.join(names[:5])}, ..."
            )
    trained = [name for name in names if not name.startswith(privacy.frozen_prefixes)]
    if not trained:
        raise ConfigError("frozen-parameters freezes everything; leave something to train")
    return trained
