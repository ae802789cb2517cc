"""How fast is a training round of many users: our cohort against pfl-research, user after user?

    pip install pfl==0.6.0     # in an environment of its own: it pins packages of other people's
    python benchmarks/against_pfl.py --dataset ~/.mrff/data/kuaisar-r --threads 1

Both train the same users from the same model in one process: one shared network as in the method
`fedadam`, one full gradient step of every user, the mean of the changes. pfl (Granqvist et al.,
"pfl-research: simulation framework for accelerating research in private federated learning",
NeurIPS 2024) gets records that are in memory already; ours reads them in the round. The means have
to agree. The two take turns; seconds are medians.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import cycle

import numpy as np
import torch
from measuring import read_options, show, take_turns, text
from population import POPULATION, Population, chosen_population
from round_speed import train_round
from torch import Tensor, nn

from client_app.learners.base import Work, work_on
from mrff.config.methods import METHODS
from mrff_model.losses import user_losses
from mrff_model.network import Beforehand

try:
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.metrics import Metrics, Weighted
    from pfl.model.pytorch import PyTorchModel
except ImportError as error:
    raise SystemExit(f"{error}; pip install pfl==0.6.0") from error

Means = dict[str, Tensor]


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    options = read_options(__doc__, *POPULATION, "threads", "json", repeats=3)
    torch.set_num_threads(options.threads)
    overrides = METHODS["fedadam"].overrides
    options.set += [f"{name}={text(value)}" for name, value in overrides.items()]
    population = chosen_population(options)
    sides = {"pfl": pfl_round(population), "ours": lambda: our_means(population)}
    sides["ours"]()  # the first one is not counted
    pfl, ours = take_turns(sides, options.repeats).values()
    difference = max(
        float((mean - ours.result[name]).abs().max()) for name, mean in pfl.result.items()
    )
    if difference > 1e-5:
        raise SystemExit(f"the means differ by {difference:g}")
    result = {
        "users": len(population.cohort),
        "threads": options.threads,
        "pfl_seconds": pfl.median,
        "our_seconds": ours.median,
        "ratio": pfl.median / ours.median,
        "largest_difference": difference,
    }
    show([result], options.json)


def our_means(population: Population) -> Means:
    """By parameter, the mean of the users' changes."""
    sums = train_round(population, "cohort").sums
    weight = sums.number("weight")
    return {name: torch.from_numpy(total / weight) for name, total in sums.updates.items()}


def pfl_round(population: Population) -> Callable[[], Means]:
    """The same by pfl's simulation, in this process."""
    network, users = UserLoss(population), len(population.cohort)
    model = PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(network.parameters(), lr=1.0))
    everybody = cycle(range(users))
    data = FederatedDataset(lambda user: Dataset([torch.tensor([user])]), lambda: next(everybody))
    backend, algorithm = SimulatedBackend(data, data), FederatedAveraging()
    params = NNAlgorithmParams(
        central_num_iterations=2, evaluation_frequency=2, train_cohort_size=users, val_cohort_size=0
    )
    rate = population.config.training.local_learning_rate
    local = NNTrainHyperParams(local_num_epochs=1, local_learning_rate=rate, local_batch_size=None)

    def train() -> Means:
        contexts = algorithm.get_next_central_contexts(model, 1, params, local)[0]
        total = backend.gather_results(model, algorithm, central_context=contexts[0])[0]
        return {
            name.removeprefix("network."): change / total.weight
            for name, change in total.items()
            if change.numel()
        }

    return train


class UserLoss(nn.Module):
    """The network with what pfl asks of one: the loss of a user, by number."""

    def __init__(self, population: Population) -> None:
        super().__init__()
        self.network = deepcopy(population.network)
        shared = {*population.model.public, *population.model.group}
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in shared)
        self.works = [work_of(population, user) for user in range(len(population.cohort))]

    def loss(self, user: Tensor) -> Tensor:
        """Of one user's records."""
        work = self.works[int(user)]
        known = Beforehand(work.rates)
        output = self.network(work.batch, work.dropout_keys[0], shared_look_ups=True, known=known)
        return user_losses(output, work.batch, work.loss)[0].sum()

    def metrics(self, user: Tensor) -> Metrics:
        """Nothing is measured while the clock runs."""
        return Metrics([("loss", Weighted(0.0, 1.0))])


def work_of(population: Population, user: int) -> Work:
    """One user's records, and what the head reads of them, ready in memory."""
    some = next(population.network.parameters())
    cohort = population.cohort.part(np.array([user]))
    work = work_on(population.model, cohort, population.config, some)
    return replace(work, rates=population.network.rates_of(work.batch))


if __name__ == "__main__":
    main()
