"""MRFF as a Flower strategy: public means, a mean per expert, loads, and the loop over rounds.

Zhang et al., "Multifaceted User Modeling in Recommendation: A Federated Foundation Models
Approach" (AAAI 2025). Nodes send sums over their users; this class checks them, divides them,
moves the shared model and decides when to validate, to checkpoint and to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from logging import getLogger

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from mrff.privacy.ledger import BudgetExceededError
from strategies.balancing import balanced_gates
from strategies.evaluating import Evaluation, beside_traffic
from strategies.learning_rates import LearningRates
from strategies.messages import (
    array_record,
    arrays_of,
    content_bytes,
    largest_reply,
    model_record,
    requests,
    round_record,
)
from strategies.receiving import RoundFailedError, receive
from strategies.replies import Expected
from strategies.reports import (
    EvaluationReport,
    Observer,
    RoundReport,
    Silent,
    Traffic,
    metric_record,
)
from strategies.round_sums import Aggregation, PlainAggregation
from strategies.server_optimizer import ServerOptimizer, apply_means
from strategies.state import TrainingState
from strategies.window import Exchange

log = getLogger("flwr")


class MRFF(Strategy):
    """Trains the shared part of the network: public parameters and expert banks.

    Args:
        state: where the run begins; a resumed run hands in the state of its checkpoint.
        optimizer: how mean updates move the model.
        observer: told of rounds, evaluations and states to save.
        learning_rates: factors of the optimiser's learning rate by array and round.
        balance_rate: how far the loads of a round move the gates, see `strategies.balancing`.
        send_window: messages outstanding at once.
        reply_timeout: seconds per phase; nodes without a reply by then are missing.
        min_reply_fraction: share of the nodes asked whose replies must count, else the run fails.
        evaluate_every: rounds between validations; the last round is always validated.
        early_stop_patience: validations without a better AUC before training ends; 0: never.
        checkpoint_every: rounds between checkpoints; a new best model and the end also make one.
        histogram_bins: score bins of the evaluation.
        aggregation: how replies become means; another one in every privacy mode.
        validate_beside_training: a round's train message also asks for the validation of the model
            it carries, which saves a phase and changes no number. Not with early stopping, which
            has to know before it trains on, and not in a privacy mode.
        routes_shape: layers and experts, where the experts are not among the shared arrays.
    """

    def __init__(
        self,
        state: TrainingState,
        optimizer: ServerOptimizer,
        *,
        observer: Observer | None = None,
        learning_rates: LearningRates | None = None,
        balance_rate: float = 0.0,
        send_window: int = 32,
        reply_timeout: float = 600.0,
        min_reply_fraction: float = 0.5,
        evaluate_every: int = 5,
        early_stop_patience: int = 0,
        checkpoint_every: int = 10,
        histogram_bins: int = 2048,
        aggregation: Aggregation | None = None,
        validate_beside_training: bool = False,
        routes_shape: tuple[int, int] | None = None,
    ) -> None:
        self.state = state
        self.optimizer = optimizer
        self.observer = observer or Silent()
        self.learning_rates = learning_rates or LearningRates()
        self.balance_rate = balance_rate
        self.send_window = send_window
        self.reply_timeout = reply_timeout
        self.evaluate_every = evaluate_every
        self.early_stop_patience = early_stop_patience
        self.checkpoint_every = checkpoint_every
        self.aggregation = aggregation or PlainAggregation()
        self.expected = Expected.of(state.public, state.group, routes_shape)
        hidden = self.aggregation.routes_are_hidden
        self._evaluation = partial(
            Evaluation, expected=self.expected, bins=histogram_bins, routes_are_hidden=hidden
        )
        most_bytes = largest_reply(self.expected, histogram_bins)
        self._receive = partial(receive, min_fraction=min_reply_fraction, most_bytes=most_bytes)
        self._validates_beside = validate_beside_training and not (early_stop_patience or hidden)
        self.result = Result()
        self._beside: Evaluation | None = None  # of the model that the round's messages carry

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Trains until ``num_rounds`` rounds are done in all, then tests the best model once.

        Args:
            initial_arrays: the public parameters to begin with; experts come with the state.
            timeout: seconds per phase, if shorter than the strategy's own limit.
            train_config, evaluate_config: settings every message of the phase carries.
            evaluate_fn: measured on the server after every round, if given.

        Returns:
            The metrics by round, and the public parameters of the best validated round.

        Raises:
            RoundFailedError: too few replies counted, or the model would become non-finite.
        """
        self.reply_timeout = min(self.reply_timeout, timeout)
        self.state.public = arrays_of(initial_arrays)
        train_config = train_config or ConfigRecord()
        evaluate_config = evaluate_config or ConfigRecord()
        state, self.result = self.state, Result()
        self.summary()
        try:
            if self._phase_due(num_rounds):  # the run broke off between round and validation
                self._validate(grid, evaluate_config)
                self._checkpoint()
            while state.round < num_rounds and not self._has_stopped_improving():
                try:
                    self._train(grid, train_config)
                except BudgetExceededError as error:
                    if not state.round:
                        raise
                    log.warning("training ends after round %d: %s", state.round, error)
                    num_rounds = state.round  # what there is, is validated, saved and tested
                    if self._validation_due(num_rounds):
                        self._validate(grid, evaluate_config)
                    self._checkpoint()
                    break
                if evaluate_fn and (measured := evaluate_fn(state.round, self._public())):
                    self.result.evaluate_metrics_serverapp[state.round] = measured
                if self._phase_due(num_rounds):
                    self._validate(grid, evaluate_config)
                if self._checkpoint_due(num_rounds):
                    self._checkpoint()
            self._test(grid, evaluate_config)
        except Exception:
            if state.round > state.checkpoint_round:
                self._checkpoint()
            raise
        self.result.arrays = array_record(state.best_public)
        return self.result

    # Training

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """A train message for every connected node; nodes sample their users themselves.

        Raises:
            BudgetExceededError: the privacy budget does not allow the round.
        """
        record = round_record(config, self.state, server_round)
        for key, value in self.aggregation.prepare(server_round, self.state).items():
            record[key] = value
        if self._validates_beside and self._validation_due(server_round):
            record["validate"] = True
            self._beside = self._evaluation("valid", self.state.round)
        content = model_record(arrays_of(arrays), self.state.group, record)
        return self._requests(content, MessageType.TRAIN, grid, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Adds replies up as they arrive and moves the model once.

        Raises:
            RoundFailedError: see `start`; nothing has changed then.
        """
        report = self._aggregate_round(server_round, replies)
        return self._public(), metric_record(report)

    def _train(self, grid: Grid, config: ConfigRecord) -> None:
        server_round = self.state.round + 1
        messages = self.configure_train(server_round, self._public(), config, grid)
        report = self._aggregate_round(server_round, self._exchange(grid, messages))
        self._count(report.traffic, messages)
        self.result.train_metrics_clientapp[server_round] = metric_record(report)
        self.observer.round_finished(report)

    def _aggregate_round(self, server_round: int, replies: Iterable[Message]) -> RoundReport:
        state = self.state
        sums = self.aggregation.begin(server_round, self.expected, state)
        beside, self._beside = self._beside, None
        read = beside.beside(sums.read) if beside else sums.read
        traffic = self._receive(replies, read, phase=f"training round {server_round}")
        if beside and self._note_validation(beside.report(beside_traffic(traffic))):
            self._checkpoint()  # while the model is still the one that was validated
        blocks = {**state.public, **state.group}
        means = sums.finish(state)
        try:
            moved, optimizer = apply_means(
                self.optimizer,
                blocks,
                means,
                state.optimizer,
                factor_of=lambda name: self.learning_rates.factor(name, server_round),
            )
        except FloatingPointError as error:
            raise RoundFailedError(f"training round {server_round}: {error}") from error
        public = {name: moved[name] for name in state.public}
        balance_step = self.balance_rate * self.learning_rates.of_round(server_round)
        state.public = balanced_gates(public, state.loads, balance_step, trained=means)
        state.group = {name: moved[name] for name in state.group}
        state.optimizer = optimizer
        state.round = server_round
        return sums.report(server_round, traffic)

    # Evaluation

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """A validation message of the current model for every connected node."""
        record = round_record(config, self.state, server_round, split="valid")
        content = model_record(arrays_of(arrays), self.state.group, record)
        return self._requests(content, MessageType.EVALUATE, grid, server_round)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord:
        """The measures over all users.

        Raises:
            RoundFailedError: too few replies counted.
        """
        return metric_record(self._aggregate_evaluation("valid", server_round, replies))

    def _validate(self, grid: Grid, config: ConfigRecord) -> None:
        server_round = self.state.round
        messages = self.configure_evaluate(server_round, self._public(), config, grid)
        replies = self._exchange(grid, messages)
        report = self._aggregate_evaluation("valid", server_round, replies)
        self._count(report.traffic, messages)
        self._note_validation(report)

    def _note_validation(self, report: EvaluationReport) -> bool:
        self.result.evaluate_metrics_clientapp[report.round] = metric_record(report)
        is_best = self.state.note_validation(report.auc)
        self.observer.evaluated(report, is_best=is_best)
        return is_best

    def _test(self, grid: Grid, config: ConfigRecord) -> None:
        state = self.state
        record = round_record(config, state, state.best_round, split="test")
        content = model_record(state.best_public, state.best_group, record)
        messages = self._requests(content, MessageType.EVALUATE, grid, state.best_round)
        replies = self._exchange(grid, messages)
        report = self._aggregate_evaluation("test", state.best_round, replies)
        self._count(report.traffic, messages)
        self.observer.evaluated(report, is_best=True)

    def _aggregate_evaluation(
        self, split: str, server_round: int, replies: Iterable[Message]
    ) -> EvaluationReport:
        evaluation = self._evaluation(split, server_round)
        phase = f"evaluation ({split}) of round {server_round}"
        return evaluation.report(self._receive(replies, evaluation.read, phase=phase))

    # Messages

    def _requests(
        self, content: RecordDict, message_type: str, grid: Grid, server_round: int
    ) -> list[Message]:
        nodes = grid.get_node_ids()
        return requests(
            content, message_type, nodes, server_round=server_round, ttl=self.reply_timeout
        )

    def _exchange(self, grid: Grid, messages: Sequence[Message]) -> Exchange:
        return Exchange(grid, messages, window=self.send_window, timeout=self.reply_timeout)

    def _count(self, traffic: Traffic, messages: Sequence[Message]) -> None:
        if messages:
            traffic.bytes_down = content_bytes(messages[0].content) * len(messages)
        self.state.bytes_down += traffic.bytes_down
        self.state.bytes_up += traffic.bytes_up
        self.state.seconds += traffic.seconds

    def _public(self) -> ArrayRecord:
        return array_record(self.state.public)

    # When to do what

    def _validation_due(self, num_rounds: int) -> bool:
        current = self.state.round
        on_schedule = current % self.evaluate_every == 0 or current >= num_rounds
        return on_schedule and self.state.validated_round < current

    def _phase_due(self, num_rounds: int) -> bool:
        """Whether a validation is due that cannot go with the next round's training."""
        beside = self._validates_beside and self.state.round < num_rounds
        return self._validation_due(num_rounds) and not beside

    def _checkpoint_due(self, num_rounds: int) -> bool:
        """A new best model is saved at once: nodes that hear of it drop older private state."""
        current = self.state.round
        on_schedule = current % self.checkpoint_every == 0 or current >= num_rounds
        return on_schedule or self.state.best_round == current or self._has_stopped_improving()

    def _has_stopped_improving(self) -> bool:
        return 0 < self.early_stop_patience <= self.state.stale_validations

    def _checkpoint(self) -> None:
        self.state.checkpoint_round = self.state.round
        self.observer.save(self.state)

    def summary(self) -> None:
        """Logs what will be done."""
        numbers = sum(a.size for a in (*self.state.public.values(), *self.state.group.values()))
        log.info(
            "MRFF: %s shared parameters, %s layers of %s experts, server optimiser %s",
            f"{numbers:,}",
            self.expected.num_layers,
            self.expected.num_experts,
            self.optimizer,
        )
