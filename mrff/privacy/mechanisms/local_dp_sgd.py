"""Mechanism ``local-dp-sgd``: every local step of a node is clipped and noised (Opacus).

The unit is the record, or the user where there is one window per user; the server and everyone
after it are kept out (Abadi et al., "Deep Learning with Differential Privacy", 2016).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mrff.config import RunConfig
from mrff.privacy.accounting import Release
from mrff.privacy.mechanisms.base import Needs
from mrff.privacy.mechanisms.noised import NoisedClient, NoisedMechanism
from mrff.privacy.mechanisms.settings import item_conflicts, private_conflicts
from mrff.sums import CohortSums


class LocalClient(NoisedClient):
    """See `ClientHalf`; it is used by the learner ``silo`` only."""

    needs: Needs = "each_record"

    def release_node(self, sums: CohortSums, admitted: NDArray[np.bool_]) -> CohortSums:
        """The noise is in the sums already; its variance comes with them."""
        deviation = float(sums.number("noise_deviation"))
        return self.released(sums, units=int(admitted.sum()), deviation=deviation)


class LocalDpSgd(NoisedMechanism):
    """See `Mechanism`."""

    name = "local-dp-sgd"
    client_half = LocalClient

    def conflicts(self, config: RunConfig) -> Iterator[str]:
        yield from private_conflicts(config)
        yield from _record_conflicts(config)
        yield from item_conflicts(
            config, "the gradient of one record would read its user's other rows"
        )

    def release(self, config: RunConfig) -> Release:
        privacy, steps = config.privacy, config.training.local_steps
        return Release(privacy.noise_multiplier, privacy.record_sampling_rate, steps)


def _record_conflicts(config: RunConfig) -> Iterator[str]:
    privacy, windows = config.privacy, config.data.max_windows_per_user
    if privacy.unit == "user" and windows != 1:
        yield (
            "privacy.unit=user in privacy.mode=local-dp-sgd needs data.max-windows-per-user=1, got "
            f"{windows or 'all'}: with several records a user's share is several "
            "times privacy.clipping-norm; use one window, privacy.unit=record, "
            "or privacy.mode=central-user"
        )
    if privacy.private_training == "free" and windows != 1:
        yield (
            "privacy.private-training=free cannot go with several windows per user in "
            "privacy.mode=local-dp-sgd: one record would move the user's private parameters, and "
            "through them the gradients of their other records; use privacy.private-training="
            "noised or frozen, or data.max-windows-per-user=1"
        )
    if config.training.local_optimizer != "sgd":
        yield (
            "training.local-optimizer=adam cannot go with privacy.mode=local-dp-sgd: it makes full "
            "steps of coordinates that hold nothing but noise; use sgd, and Adam on the server"
        )
