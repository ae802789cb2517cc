"""Small private rounds for tests, with everything secret replaced by what the test dictates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from client_app.privacy_sgd import NoisyOptimizer
from client_app.privacy_upload import PrivateRound
from client_app.training import Cohort, Start
from mrff.config import PrivacySettings, RunConfig
from mrff.data.dataset import Dataset
from mrff.privacy.bound import Bound
from mrff.privacy.noise import NoiseSource
from mrff_model.building import initial_shared, tensors_of
from mrff_model.network import MRFFNetwork
from tests.support.small_data import small_config, small_network


def private_round(
    dataset: Dataset,
    users: np.ndarray,
    *,
    privacy: PrivacySettings,
    order: int = 2,
    seed: int = 0,
    spread: float = 1.0,
    **changes: bool | int | float | str,
) -> tuple[MRFFNetwork, PrivateRound]:
    """A round of ``users`` from random parameters; keywords are settings in snake_case.

    Args:
        privacy: used as it is, without the checks that a run configuration goes through.
        seed, spread: of the random parameters, private ones included.
    """
    config: RunConfig = small_config(**{"dropout": 0.2, "seed": seed, **changes})
    network = small_network(config, dataset)
    random = torch.Generator().manual_seed(seed)

    def moved(value: Tensor) -> Tensor:
        return value + spread * torch.randn(value.shape, generator=random)

    public, group = (
        {name: moved(torch.from_numpy(array)) for name, array in part.items()}
        for part in initial_shared(network)
    )
    everyone = {  # drawn for all users of the dataset: a user's row does not depend on the others
        name: moved(value.expand(dataset.num_users, *value.shape[1:]))
        for name, value in tensors_of(network, "private").items()
    }
    layers, experts = len(network.layers), network.num_experts
    task = PrivateRound(
        start=Start(1, public, group, torch.full((layers, experts), 1.0 / experts)),
        cohort=Cohort(
            dataset, users, {n: rows[torch.from_numpy(users)] for n, rows in everyone.items()}
        ),
        data=config.data,
        training=config.training,
        privacy=privacy,
        bound=Bound(
            privacy.clipping_norm, privacy.route_share, layers, experts, 1 if order == 1 else 2
        ),
    )
    return network, task


class LeftOut(NoiseSource):
    """Coins that take every record but one."""

    def __init__(self, record: int | None) -> None:
        super().__init__(0)
        self._record = record

    def coins(self, count: int, rate: float) -> np.ndarray:
        """All true, but for the record left out."""
        taken = np.ones(count, dtype=bool)
        if self._record is not None:
            taken[self._record] = False
        return taken


@dataclass(frozen=True)
class ScriptedRound(PrivateRound):
    """A round from whose every step the record ``left_out`` is missing."""

    left_out: int | None = None

    def source(self, purpose: str) -> NoiseSource:
        """See `PrivateRound.source`."""
        return LeftOut(self.left_out if purpose == "records" else None)

    @classmethod
    def of(cls, task: PrivateRound, left_out: int | None) -> ScriptedRound:
        """``task`` without that record."""
        fields = {name: getattr(task, name) for name in PrivateRound.__dataclass_fields__}
        return replace(cls(**fields), left_out=left_out)


class Watched(NoisyOptimizer):
    """Notes the exact clipped sums, and answers with noise that does not depend on them.

    A step's guarantee holds for every outcome of the earlier steps (adaptive composition), so two
    neighbouring runs are compared with the earlier outcomes held equal.
    """

    released_sums: list[list[Tensor]]

    def __init__(self, *arguments: object, **limits: object) -> None:
        super().__init__(*arguments, **limits)  # type: ignore[arg-type]
        self.released_sums = []
        Watched.last = self

    last: Watched

    def released(self, sums: list[Tensor]) -> list[Tensor]:  # type: ignore[override]
        """See `NoisyOptimizer.released`."""
        self.released_sums.append([total.detach().clone().double() for total in sums])
        random = torch.Generator().manual_seed(len(self.released_sums))
        return [torch.randn(total.shape, generator=random).to(total.device) for total in sums]

    def steps(self, releases_per_step: int) -> list[Tensor]:
        """The whole vector of every step: what is released together, joined."""
        flat = [torch.cat([t.flatten() for t in sums]) for sums in self.released_sums]
        return [
            torch.cat(flat[first : first + releases_per_step])
            for first in range(0, len(flat), releases_per_step)
        ]
