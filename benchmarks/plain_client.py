"""The client of `plain_flower.py`: one user, one network, one step, as any Flower app has it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from population import Population, open_population, plain_client
from torch import Tensor

from client_app.learners.base import loss_weights, trained_parameters, training_batch
from mrff.config.declaration import Value
from mrff_model.losses import user_losses


def make_client(folder: Path, settings: dict[str, Value]) -> ClientApp:
    """A client that takes the step of the user with its partition's number."""
    app, given = ClientApp(), tuple(settings.items())

    @app.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        population = opened(folder, given)
        network, config = population.network, population.config
        network.load_state_dict(message.content["arrays"].to_torch_state_dict(), strict=False)
        user = population.cohort.users[[int(context.node_config["partition-id"])]]
        batch = training_batch(population.cohort.dataset, user, config)
        parameters = shared_parameters(population)
        rate = config.training.local_learning_rate
        optimizer = torch.optim.SGD(parameters.values(), lr=rate)
        optimizer.zero_grad()
        key = torch.from_numpy(np.array([int(user[0])]))
        output = network(batch, key, shared_look_ups=True)
        loss = user_losses(output, batch, loss_weights(config))[0].sum()
        loss.backward()
        optimizer.step()
        metrics = MetricRecord({"num-examples": 1, "loss": loss.item()})
        content = {
            "arrays": ArrayRecord({n: Array(v.detach().numpy()) for n, v in parameters.items()}),
            "metrics": metrics,
        }
        return Message(RecordDict(content), reply_to=message)

    return app


@lru_cache(maxsize=1)
def opened(folder: Path, settings: tuple[tuple[str, Value], ...]) -> Population:
    """Read once in a process."""
    return open_population(folder, users=0, settings=dict(settings))


def shared_parameters(population: Population) -> dict[str, Tensor]:
    """What is averaged: the same as in a run of ours."""
    mechanism = plain_client(population.config, population.cohort.keys)
    return trained_parameters(population.network, mechanism)
