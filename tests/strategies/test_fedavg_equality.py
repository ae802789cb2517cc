from __future__ import annotations

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg

from mrff.wire.records import array_record, arrays_of
from strategies.server_optimizer import Adam, Average, ServerOptimizer
from strategies.state import TrainingState
from tests.support.replies import message, record, strategy_of


def test_one_expert_without_private_part_and_averaging_is_flowers_fedavg() -> None:
    """The same local models: FedAvg gets the models and weights, MRFF the weighted updates."""
    assert_same_after_rounds(Average(1.0), FedAvg(fraction_evaluate=0.0))


def test_adam_on_the_server_is_flowers_fedadam() -> None:
    """Bias corrections are equal if Flower's rounds are counted from 0; tau must be tiny.

    Flower adds tau to the uncorrected root, Adam (Kingma and Ba 2015) to the corrected one.
    """
    reference = FedAdam(fraction_evaluate=0.0, eta=0.05, beta_1=0.9, beta_2=0.99, tau=1e-9)
    assert_same_after_rounds(Adam(0.05, 0.9, 0.99, 1e-9), reference, first_round=0)


def assert_same_after_rounds(
    optimizer: ServerOptimizer, flower: FedAvg, *, first_round: int = 1
) -> None:
    """Three rounds of four nodes with one user each, through both strategies."""
    rng = np.random.default_rng(3)
    shapes = {
        "public": {"positions.weight": (6, 4), "head.output.bias": (1,)},
        "group": {"layers.0.experts.0.up_weight": (4, 4), "layers.0.experts.0.up_bias": (4,)},
    }
    start = {
        scope: {name: rng.normal(size=shape).astype(np.float32) for name, shape in named.items()}
        for scope, named in shapes.items()
    }
    state = TrainingState(public=start["public"], group=start["group"])
    strategy = strategy_of(optimizer, state, experts=1)
    reference: ArrayRecord | None = array_record({**start["public"], **start["group"]})

    for number in range(3):
        models, ours, theirs = arrays_of(reference), [], []
        for node in range(4):
            weight = float(rng.integers(1, 9))
            local = {
                name: (value + rng.normal(size=value.shape)).astype(np.float32)
                for name, value in models.items()
            }
            theirs.append(message(fedavg_content(local, weight), node + 2))
            ours.append(message(mrff_content(local, models, weight, number + 1), node + 2))
        if isinstance(flower, FedAdam):  # what configure_train would note
            flower.current_arrays = models
        reference, _ = flower.aggregate_train(number + first_round, theirs)
        strategy.aggregate_train(number + 1, ours)

    assert reference is not None
    for name, value in {**strategy.state.public, **strategy.state.group}.items():
        np.testing.assert_allclose(value, reference[name].numpy(), atol=1e-5)
        assert not np.allclose(value, {**start["public"], **start["group"]}[name], atol=1e-2)


def fedavg_content(local: dict[str, np.ndarray], weight: float) -> RecordDict:
    return RecordDict(
        {
            "arrays": array_record(local),
            "metrics": MetricRecord({"num-examples": weight, "loss": 0.5}),
        }
    )


def mrff_content(
    local: dict[str, np.ndarray], start: dict[str, np.ndarray], weight: float, server_round: int
) -> RecordDict:
    updates = {name: weight * (local[name] - start[name]) for name in local}
    numbers = {
        "round": server_round,
        "users": 1,
        "targets": 10,
        "weight": weight,
        "expert_weight": [weight],
        "expert_users": [1],
        "loss": 1.5,
        "changed": 0,
        "compared": 0,
        "dropped": 0,
    }
    return RecordDict({"updates": record(updates), "numbers": MetricRecord(numbers)})
