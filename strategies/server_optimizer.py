"""Server optimisers: how the mean update of a round moves the shared parameters.

Every array is a block with a state of its own (Reddi et al., "Adaptive Federated Optimization",
2021, algorithm 2, with the mean update as pseudo-gradient). A block nobody trained in a round
keeps value and state bit for bit: Adam's step count is the block's, not the round's.

Optimisers hold settings only. State is passed in and returned, so that a step which turns out
non-finite leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strategies.aggregation import Arrays
from strategies.pooling import Means

Block = NDArray[np.float32]
Mean = NDArray[np.float64]
BlockState = dict[str, NDArray[Any]]
OptimizerState = dict[str, BlockState]


class ServerOptimizer(Protocol):
    """One step of one block."""

    def step(
        self, value: Block, mean: Mean, state: BlockState, *, factor: float = 1.0
    ) -> tuple[Block, BlockState]:
        """The block's next value and state.

        Args:
            state: of the block; empty before its first step.
            factor: of the learning rate for this block.
        """
        ...


@dataclass(frozen=True)
class Average:
    """``theta += learning_rate * mean``; with rate 1 it is federated averaging."""

    learning_rate: float = 1.0

    def step(
        self, value: Block, mean: Mean, state: BlockState, *, factor: float = 1.0
    ) -> tuple[Block, BlockState]:
        """See `ServerOptimizer.step`."""
        return _moved(value, factor * self.learning_rate * mean), state


@dataclass(frozen=True)
class Momentum:
    """``v = momentum * v + mean; theta += learning_rate * v``."""

    learning_rate: float
    momentum: float

    def step(
        self, value: Block, mean: Mean, state: BlockState, *, factor: float = 1.0
    ) -> tuple[Block, BlockState]:
        """See `ServerOptimizer.step`."""
        velocity = self.momentum * state["velocity"] + mean if state else mean
        return _moved(value, factor * self.learning_rate * velocity), {"velocity": velocity}


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction by the number of steps of the block."""

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float

    def step(
        self, value: Block, mean: Mean, state: BlockState, *, factor: float = 1.0
    ) -> tuple[Block, BlockState]:
        """See `ServerOptimizer.step`."""
        first = (1.0 - self.beta1) * mean
        second = (1.0 - self.beta2) * np.square(mean)
        steps = 1
        if state:
            first += self.beta1 * state["first"]
            second += self.beta2 * state["second"]
            steps += int(state["steps"][0])
        unbiased = first / (1.0 - self.beta1**steps)
        scale = np.sqrt(second / (1.0 - self.beta2**steps)) + self.epsilon
        moments: BlockState = {"first": first, "second": second, "steps": np.array([steps])}
        return _moved(value, factor * self.learning_rate * unbiased / scale), moments


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


def _moved(value: Block, change: Mean) -> Block:
    return (value + change).astype(np.float32)
