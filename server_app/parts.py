"""The parts of a run's strategy, as the configuration asks for them."""

from __future__ import annotations

from mrff.config import RunConfig, ServerSettings
from mrff.data.schema import Schema
from mrff.metrics import evaluation_of, metric_named
from mrff.privacy.mechanisms.base import ServerHalf
from mrff.sums import ServerView
from mrff.wire.aggregation import aggregation_of
from strategies.learning_rates import LearningRates
from strategies.model_step import ModelStep
from strategies.mrff import MRFF
from strategies.reports import Observer
from strategies.schedule import Conduct, Schedule
from strategies.server_optimizer import make_server_optimizer
from strategies.state import TrainingState

ADAM_BETA2, ADAM_EPSILON = 0.99, 1e-8
SEND_WINDOW = 32  # measured: docs/performance.md


def make_strategy(
    config: RunConfig,
    state: TrainingState,
    mechanism: ServerHalf,
    observer: Observer,
    num_items: int = 0,
) -> MRFF:
    """The strategy that the configuration asks for; ``num_items`` are in the catalogue."""
    server, evaluation = config.server, config.evaluation
    beside = not (evaluation.early_stop_patience or mechanism.hides_routes)
    conduct = Conduct(
        schedule=Schedule(
            evaluate_every=evaluation.evaluate_every,
            early_stop_patience=evaluation.early_stop_patience or 0,
            # A round that was opened is not asked for once more: with other nodes the difference of
            # the two sums would be somebody's own, and nodes refuse.
            checkpoint_every=1
            if config.privacy.secure_aggregation
            else config.run.checkpoint_every,
            best_by=metric_named(config.best_by),
            beside=beside,
            validates=mechanism.noisy_test is None,
        ),
        observer=observer,
        aggregation=aggregation_of(config).server(config),
        send_window=server.send_window or SEND_WINDOW,
        reply_timeout=server.reply_timeout_seconds,
        min_reply_fraction=server.min_reply_fraction,
        chooses_groups=server.groups == "validated",
        tests=config.asks_test,
        linear_items=config.training.linear_items if evaluation.score_test else None,
        catalogue=num_items,
        seed=config.training.seed,
    )
    asked = evaluation_of(config, private=mechanism.hides_routes)
    return MRFF(state, model_step(config), mechanism, asked, conduct)


def model_step(config: RunConfig) -> ModelStep:
    """How the server moves the model."""
    server = config.server
    optimizer = make_server_optimizer(
        server.server_optimizer,
        learning_rate=server.server_learning_rate,
        momentum=server.server_momentum,
        beta2=ADAM_BETA2,
        epsilon=ADAM_EPSILON,
    )
    pooling = server.expert_pooling if config.pools_experts else 0.0
    return ModelStep(optimizer, learning_rates_of(server), server.balance_rate, pooling)


def learning_rates_of(server: ServerSettings) -> LearningRates:
    """The factors of the server's learning rate, by array and round."""
    return LearningRates(
        gate_factor=server.gate_learning_rate_factor,
        item_bias_factor=server.item_bias_learning_rate_factor,
        body_factor=server.body_learning_rate_factor,
        decay_rounds=server.server_decay_rounds or server.num_server_rounds,
        final_factor=server.server_final_rate,
    )


def server_view(config: RunConfig, schema: Schema, training: str) -> ServerView:
    """What a mechanism may know of the run; ``training`` is its name, for the ledger."""
    return ServerView(
        config=config,
        units=_most_units(config, schema),
        population=schema.known_as,
        ledger_folder=config.home / "state",
        training=training,
    )


def _most_units(config: RunConfig, schema: Schema) -> int:
    """Users, or at most how many records, the dataset has."""
    users = int(schema.counts.get("users", 0))
    if config.privacy.unit == "user":
        return users
    windows = int(schema.counts.get("interactions", 0)) // config.data.window_length + users
    most = config.data.max_windows_per_user
    return min(windows, users * most) if most else windows
