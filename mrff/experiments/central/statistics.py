"""Item statistics of a network whose data lies in one place: the same sums, the same steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from client_app.item_sums import moments_of, rates_of
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.data.windows import training_users
from mrff.privacy.mechanisms.none import PlainServer
from mrff.sums import CohortSums, Expected
from mrff.wire.requests import ITEM_RATES, Arrays
from mrff_model.network import MRFFNetwork
from strategies.statistics_phase import statistics


@dataclass(frozen=True)
class Everybody:
    """Answers as all nodes together would, see `strategies.queries.Asking`."""

    dataset: Dataset
    users: np.ndarray  # (U,) who train
    config: RunConfig

    def __call__(
        self,
        message_type: str,
        arrays: Arrays,
        expected: Expected,
        check: Callable[[CohortSums], None],
        /,
    ) -> CohortSums:
        """The sum over everybody."""
        dataset, users, config = self.dataset, self.users, self.config
        if message_type == ITEM_RATES:
            return rates_of(dataset, users, config, dataset.schema.num_items)
        return moments_of(dataset, users, config, arrays)

    def of_step(self, number: int) -> Everybody:
        """The same: nobody counts the steps here."""
        return self


def fill_statistics(network: MRFFNetwork, dataset: Dataset, config: RunConfig) -> None:
    """Fills the network's item statistics with those of who trains, if it has any."""
    if network.item_statistics is None:
        return
    users = training_users(dataset)
    users = users if dataset.trains is None else users[dataset.trains[users]]
    own = {f"statistics.{n}": v for n, v in network.item_statistics.named_parameters()}
    shared = {name: value.detach().cpu().numpy() for name, value in own.items()}
    shared.pop("statistics.noise", None)  # nothing is noised here
    everybody = Everybody(dataset, users, config)
    found = statistics(everybody, PlainServer(0.0), shared, config.training.seed)
    with torch.no_grad():
        for name, values in found.items():
            own[name].copy_(torch.from_numpy(values))
