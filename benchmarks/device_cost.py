"""What does one phone pay for one user's round: memory, operations, bytes, time on one thread?

    python benchmarks/device_cost.py --dataset ~/.mrff/data/kuaisar-r
    python benchmarks/device_cost.py --dataset ~/.mrff/data/ml-1m --config conf/ml-1m-next.toml

The user is the one with the most training targets that fill a window; every backbone is measured.
Without ``--dataset`` a small population is made up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from measuring import read_options, show, take_turns
from population import Population, open_population, plain_client, prepared_folder
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from client_app.learners import Cohort
from client_app.learners.base import loss_weights, training_batch, with_drawn_items
from client_app.learners.serial import SerialLearner
from mrff.ops.simulation import read_settings
from mrff_model.backbones import BACKBONES
from mrff_model.batch import Batch
from mrff_model.building import tensors_of
from mrff_model.losses import LossWeights, user_losses


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    options = read_options(__doc__, "dataset", "config", "set", "json")
    torch.set_num_threads(1)
    settings = read_settings(options.config, options.set)
    with prepared_folder(options.dataset) as folder:
        results = [
            measure(
                open_population(folder, users=0, settings={**settings, "network.backbone": name})
            )
            for name in BACKBONES
        ]
    show(results, options.json)


def measure(population: Population) -> dict[str, Any]:
    """What the longest user's round costs."""
    cohort, config, network = population.cohort, population.config, population.network
    longest = int(np.argmax(np.diff(cohort.dataset.offsets)[cohort.users]))
    one = cohort.part(np.array([longest]))
    batch, weights = _work(population, one)
    with FlopCounterMode(display=False) as counter:
        losses, _ = user_losses(network(batch), batch, weights)
        losses.sum().backward()
    sizes = {
        scope: sum(value.numel() for value in tensors_of(network, scope).values())
        for scope in ("public", "group", "private")
    }
    mechanism, learner = plain_client(config, one.keys), SerialLearner(network, config)
    training = take_turns({0: lambda: learner.train(population.model, one, mechanism)}, 9)[0]
    uploaded = sum(update.size for update in training.result.sums.updates.values())
    return {
        "backbone": config.network.backbone,
        "positions": batch.targets.numel(),
        "public_parameters": sizes["public"],
        "group_parameters": sizes["group"],
        "expert_parameters": sizes["group"] // network.num_experts,
        "private_parameters": sizes["private"],
        "megaflop": counter.get_total_flops() / 1e6,
        # Received, working copy, gradients; and what the forward pass keeps for the backward one.
        "parameter_mb": 4 * 3 * sum(sizes.values()) / 2**20,
        "activation_mb": _activation_bytes(population, one) / 2**20,
        "kb_down": 4 * (sizes["public"] + sizes["group"]) / 1024,
        "kb_up": 4 * uploaded / 1024,
        "ms_on_one_thread": 1e3 * training.median,
    }


def _work(population: Population, one: Cohort) -> tuple[Batch, LossWeights]:
    """The user's records, what they are compared with, and what counts in the loss."""
    config = population.config
    batch = training_batch(one.dataset, one.users, config)
    batch = with_drawn_items(batch, one, config, round_number=1)
    return batch, replace(loss_weights(config), balance=0.0)


def _activation_bytes(population: Population, one: Cohort) -> int:
    """Bytes that the forward pass of a training step keeps, parameters left out."""
    network = population.network
    own = {value.untyped_storage().data_ptr() for value in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch, weights = _work(population, one)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # The output is held: what it keeps alive cannot be counted twice at one address.
        output = network(batch, torch.zeros(1, dtype=torch.int64))
        losses, _ = user_losses(output, batch, weights)
    del losses
    return sum(kept.values())


if __name__ == "__main__":
    main()
