"""What does one phone pay for one user's round: memory, operations, bytes, time on one thread?

    python benchmarks/device_cost.py --dataset ~/.mrff/data/kuaisar-r

The user is the one with the most training targets that fill a window; every backbone is measured.
Without ``--dataset`` a small population is made up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_table import print_table
from population import (
    Population,
    open_population,
    parse_settings,
    plain_client,
    prepared_folder,
)
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from client_app.learners import Cohort
from client_app.learners.base import training_batch
from client_app.learners.serial import SerialLearner
from mrff_model.backbones import BACKBONES
from mrff_model.building import tensors_of
from mrff_model.losses import LossWeights, user_losses


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="a prepared folder")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = parse_settings(arguments.set)
    with prepared_folder(arguments.dataset) as folder:
        results = [
            measure(open_population(folder, users=0, settings={**settings, "backbone": name}))
            for name in BACKBONES
        ]
    print_table(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(population: Population) -> dict[str, Any]:
    """What the longest user's round costs."""
    cohort, config, network = population.cohort, population.config, population.network
    longest = int(np.argmax(np.diff(cohort.dataset.offsets)[cohort.users]))
    one = cohort.part(np.array([longest]))
    batch = training_batch(one.dataset, one.users, config)
    with FlopCounterMode(display=False) as counter:
        losses, _ = user_losses(network(batch), batch, LossWeights(balance=0.0))
        losses.sum().backward()
    sizes = {
        scope: sum(value.numel() for value in tensors_of(network, scope).values())
        for scope in ("public", "group", "private")
    }
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        mechanism = plain_client(config, one.keys)
        trained = SerialLearner(network, config).train(population.model, one, mechanism)
        seconds.append(time.perf_counter() - began)
    uploaded = sum(update.size for update in trained.sums.updates.values())
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
        "ms_on_one_thread": 1e3 * statistics.median(seconds),
    }


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

    batch = training_batch(one.dataset, one.users, population.config)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # The output is held: what it keeps alive cannot be counted twice at one address.
        output = network(batch, torch.zeros(1, dtype=torch.int64))
        losses, _ = user_losses(output, batch, LossWeights(balance=0.0))
    del losses
    return sum(kept.values())


if __name__ == "__main__":
    main()
