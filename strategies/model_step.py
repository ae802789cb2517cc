"""How the released mean update of a round moves the shared model."""

from __future__ import annotations

from dataclasses import dataclass, field

from mrff.privacy.mechanisms.base import Released
from strategies.balancing import balanced_gates
from strategies.learning_rates import LearningRates
from strategies.pooling import pool_experts
from strategies.server_optimizer import ServerOptimizer, apply_means
from strategies.state import TrainingState


@dataclass(frozen=True)
class ModelStep:
    """One step of everything shared.

    Args:
        optimizer: how mean updates move the model.
        learning_rates: factors of the optimiser's learning rate by array and round.
        balance_rate: how far the loads of a round move the gates, see `strategies.balancing`.
        expert_pooling: how far experts follow everybody's mean, see `strategies.pooling`.
    """

    optimizer: ServerOptimizer
    learning_rates: LearningRates = field(default_factory=LearningRates)
    balance_rate: float = 0.0
    expert_pooling: float = 0.0

    def take(self, state: TrainingState, released: Released, server_round: int) -> None:
        """Moves public parameters, experts, gates, and what the next round starts with.

        Raises:
            FloatingPointError: an array would become non-finite; nothing has changed then.
        """
        means = pool_experts(released.means, released.weights, self.expert_pooling)
        moved, optimizer = apply_means(
            self.optimizer,
            {**state.public, **state.group},
            means,
            state.optimizer,
            factor_of=lambda name: self.learning_rates.factor(name, server_round),
        )
        if released.loads is not None:
            state.loads = released.loads.ravel().tolist()
        if released.next_clipping_norm:
            state.clipping_norm = released.next_clipping_norm
        public = {name: moved[name] for name in state.public}
        balance_step = self.balance_rate * self.learning_rates.of_round(server_round)
        state.public = balanced_gates(public, state.loads, balance_step, trained=means)
        state.group = {name: moved[name] for name in state.group}
        state.optimizer = optimizer
