"""How the server moves the model, as the settings say."""

from __future__ import annotations

from mrff.config import ServerSettings
from strategies.learning_rates import LearningRates
from strategies.server_optimizer import ServerOptimizer, make_server_optimizer


def optimizer_of(server: ServerSettings) -> ServerOptimizer:
    """The configured server optimiser."""
    return make_server_optimizer(
        server.server_optimizer,
        learning_rate=server.server_learning_rate,
        momentum=server.server_momentum,
        beta2=server.server_beta2,
        epsilon=server.server_epsilon,
    )


def learning_rates_of(server: ServerSettings) -> LearningRates:
    """The factors of its learning rate, by array and round."""
    return LearningRates(
        gate_factor=server.gate_learning_rate_factor,
        item_bias_factor=server.item_bias_learning_rate_factor,
        decay_rounds=server.server_decay_rounds,
        final_factor=server.server_final_rate,
    )
