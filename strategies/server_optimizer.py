"""Server optimisers: how the mean update of a round moves the shared parameters.

They are the functions behind `torch.optim`, array by array (Reddi et al., "Adaptive Federated
Optimization", 2021, algorithm 2, with minus the mean update as gradient); the classes would bring
PyTorch's compiler into the server, whose import takes seconds. An array nobody trained in a round
keeps value and state bit for bit: Adam's step count is the array's, not the round's.

Optimisers hold settings only. State is passed in and returned, so that a step which turns out
non-finite leaves nothing behind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from mrff.privacy.mechanisms.base import Means
from mrff.wire.requests import Arrays

Block = NDArray[np.float32]
Mean = NDArray[np.float64]
BlockState = dict[str, NDArray[Any]]
OptimizerState = dict[str, BlockState]
Slots = dict[str, Tensor]


@dataclass(frozen=True)
class ServerOptimizer(ABC):
    """One step of one array, in double precision."""

    learning_rate: float

    @abstractmethod
    def move(self, parameter: Tensor, gradient: Tensor, state: Slots, rate: float) -> Slots:
        """Moves ``parameter`` in place and returns the state after; at the start there is none."""

    def step(
        self, value: Block, mean: Mean, state: BlockState, *, factor: float = 1.0
    ) -> tuple[Block, BlockState]:
        """The array's next value and state.

        Args:
            state: of the array; empty before its first step.
            factor: of the learning rate for this array.
        """
        parameter = torch.from_numpy(value.astype(np.float64))
        slots = {slot: torch.from_numpy(array.copy()) for slot, array in state.items()}
        rate = factor * self.learning_rate
        after = self.move(parameter, torch.from_numpy(-mean), slots, rate)
        return (
            parameter.numpy().astype(np.float32),
            {slot: tensor.numpy() for slot, tensor in after.items()},
        )


class Average(ServerOptimizer):
    """``theta += learning_rate * mean``; with rate 1 it is federated averaging."""

    def move(self, parameter: Tensor, gradient: Tensor, state: Slots, rate: float) -> Slots:
        """See `ServerOptimizer.move`."""
        parameter.add_(gradient, alpha=-rate)
        return {}


@dataclass(frozen=True)
class Momentum(ServerOptimizer):
    """``v = momentum * v + mean; theta += learning_rate * v``."""

    momentum: float

    def move(self, parameter: Tensor, gradient: Tensor, state: Slots, rate: float) -> Slots:
        """See `ServerOptimizer.move`."""
        buffers: list[Tensor | None] = [state.get("momentum_buffer")]
        sgd(
            [parameter], [gradient], buffers, lr=rate, momentum=self.momentum,
            weight_decay=0.0, dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip
        (buffer,) = buffers
        return {} if buffer is None else {"momentum_buffer": buffer}


@dataclass(frozen=True)
class Adam(ServerOptimizer):
    """Adam with bias correction by the number of steps of the array."""

    beta1: float
    beta2: float
    epsilon: float

    def move(self, parameter: Tensor, gradient: Tensor, state: Slots, rate: float) -> Slots:
        """See `ServerOptimizer.move`."""
        zero = torch.zeros_like(parameter)
        begun = {"step": torch.zeros(()), "exp_avg": zero, "exp_avg_sq": zero.clone(), **state}
        adam(
            [parameter], [gradient], [begun["exp_avg"]], [begun["exp_avg_sq"]], [],
            [begun["step"]], lr=rate, beta1=self.beta1, beta2=self.beta2, eps=self.epsilon,
            weight_decay=0.0, amsgrad=False, maximize=False,
        )  # fmt: skip
        return begun


def make_server_optimizer(
    name: str, *, learning_rate: float, momentum: float, beta2: float, epsilon: float
) -> ServerOptimizer:
    """The optimiser of that name; ``momentum`` is also Adam's first beta.

    Raises:
        ValueError: no optimiser has that name.
    """
    if name == "average":
        return Average(learning_rate)
    if name == "momentum":
        return Momentum(learning_rate, momentum)
    if name == "adam":
        return Adam(learning_rate, momentum, beta2, epsilon)
    raise ValueError(f"server-optimizer must be average, momentum or adam, got {name!r}")


def apply_means(
    optimizer: ServerOptimizer,
    blocks: Arrays,
    means: Means,
    states: OptimizerState,
    *,
    factor_of: Callable[[str], float] = lambda name: 1.0,
) -> tuple[Arrays, OptimizerState]:
    """One step of every block that has a mean; the others are handed on untouched.

    Args:
        factor_of: the factor of the learning rate for the block of that name.

    Raises:
        FloatingPointError: a block would become non-finite; nothing has changed then.
    """
    new_blocks, new_states = dict(blocks), dict(states)
    for name, mean in means.items():
        with np.errstate(over="ignore", invalid="ignore"):
            value, state = optimizer.step(
                blocks[name], mean, states.get(name, {}), factor=factor_of(name)
            )
        if not np.isfinite(value).all():
            raise FloatingPointError(
                f"array {name} would become non-finite; lower the learning rates"
            )
        new_blocks[name] = value
        if state:
            new_states[name] = state
    return new_blocks, new_states


def flatten_states(states: OptimizerState) -> dict[str, NDArray[Any]]:
    """States as flat arrays named ``block/slot``, for a checkpoint."""
    return {f"{block}/{slot}": array for block, s in states.items() for slot, array in s.items()}


def unflatten_states(flat: Mapping[str, NDArray[Any]]) -> OptimizerState:
    """The inverse of `flatten_states`."""
    states: OptimizerState = {}
    for name, array in flat.items():
        block, _, slot = name.rpartition("/")
        states.setdefault(block, {})[slot] = array
    return states
