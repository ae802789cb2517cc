"""When a run validates, saves and stops, and how messages are sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from mrff.config import RunConfig
from mrff.metrics import METRICS
from mrff.metrics.metric import Metric
from mrff.wire.aggregation import AGGREGATIONS, ServerSums
from strategies.reports import Observer, Silent
from strategies.state import TrainingState


@dataclass(frozen=True)
class Schedule:
    """When to do what.

    Args:
        evaluate_every: rounds between validations; the last round is always validated.
        early_stop_patience: validations without a better one before training ends; 0: never.
        checkpoint_every: rounds between checkpoints; a new best model and the end also make one.
        best_by: the metric that says which model is best.
        beside: a round's train messages also ask for the validation of the model they carry, which
            saves a phase and changes no number. Early stopping has to know before it trains on,
            and in private modes there are no validations.
        validates: the best validated round's model counts; otherwise the last round's does.
    """

    evaluate_every: int = 5
    early_stop_patience: int = 0
    checkpoint_every: int = 10
    best_by: Metric = METRICS["auc"]
    beside: bool = False
    validates: bool = True

    def goes_on(self, state: TrainingState, num_rounds: int) -> bool:
        """Whether another round is to be trained."""
        return state.round < num_rounds and not self._has_stopped_improving(state)

    def validation_due(self, state: TrainingState, num_rounds: int) -> bool:
        """Whether the current model is to be validated."""
        on_schedule = state.round % self.evaluate_every == 0 or state.round >= num_rounds
        return self.validates and on_schedule and state.validated_round < state.round

    def phase_due(self, state: TrainingState, num_rounds: int) -> bool:
        """Whether a validation is due that cannot go with the next round's training."""
        beside = self.beside and state.round < num_rounds
        return self.validation_due(state, num_rounds) and not beside

    def checkpoint_due(self, state: TrainingState, num_rounds: int) -> bool:
        """A new best model is saved at once: nodes that hear of it drop older private state."""
        on_schedule = state.round % self.checkpoint_every == 0 or state.round >= num_rounds
        is_best = state.best_round == state.round
        return on_schedule or is_best or self._has_stopped_improving(state)

    def _has_stopped_improving(self, state: TrainingState) -> bool:
        return 0 < self.early_stop_patience <= state.stale_validations


@dataclass(frozen=True)
class Conduct:
    """How a run is conducted, whatever it trains.

    Args:
        schedule: see `Schedule`.
        observer: told of rounds, evaluations and states to save.
        aggregation: how sums get from nodes to the server.
        chooses_groups: whether one expert for all takes the place of groups that bring nothing.
        linear_items: of the linear models that are fitted after training; None: there are none.
        tests: whether there is a test, and it is wanted.
        catalogue: number of items; 0: what lists are made of is not counted.
        seed: of what the server draws before the first round.
        send_window: messages outstanding at once.
        reply_timeout: seconds per phase; nodes without a reply by then are missing.
        min_reply_fraction: share of the nodes asked whose replies must count, else the run fails.
    """

    schedule: Schedule = field(default_factory=Schedule)
    observer: Observer = field(default_factory=Silent)
    aggregation: ServerSums = field(
        default_factory=lambda: AGGREGATIONS["plain"].server(RunConfig.from_flat({}))
    )
    chooses_groups: bool = False
    linear_items: int | None = None
    tests: bool = True
    catalogue: int = 0
    seed: int = 0
    send_window: int = 32
    reply_timeout: float = 600.0
    min_reply_fraction: float = 0.5
