"""MRFF as a Flower strategy: the loop over rounds.

Zhang et al., "Multifaceted User Modeling in Recommendation: A Federated Foundation Models
Approach" (AAAI 2025). Nodes send sums over their users; the round's mechanism makes a mean update
of them, which moves the shared model once. Flower's own names are the path that runs:
`configure_train`, `aggregate_train`, `configure_evaluate`, `aggregate_evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from logging import getLogger
from typing import Literal

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from mrff.metrics import Evaluation
from mrff.privacy.ledger import BudgetExceededError
from mrff.privacy.mechanisms.base import ModelShapes, ServerHalf
from mrff.sums import CohortSums, require
from mrff.wire.aggregation import Asked, ModelCopy, RoundFailedError
from mrff.wire.records import array_record, arrays_of, content_bytes
from mrff.wire.requests import BESIDE, Arrays, Part, Request, RoundFacts, RunFacts
from mrff.wire.traffic import Traffic
from mrff_model.scopes import is_fixed
from strategies.exchange import Exchange, messages_for
from strategies.finish import Finish, asked_to_evaluate
from strategies.groups_phase import chosen_groups
from strategies.model_step import ModelStep
from strategies.queries import Query
from strategies.reports import Collected, EvaluationReport, RoundReport, metric_record
from strategies.schedule import Conduct
from strategies.state import TrainingState
from strategies.statistics_phase import statistics

log = getLogger("flwr")


class MRFF(Strategy):
    """Trains the shared part of the network: public parameters and expert banks.

    Args:
        state: where the run begins; a resumed run hands in the state of its checkpoint.
        step: how a mean update moves the model.
        mechanism: the server's half of the privacy mechanism.
        evaluation: what nodes are asked in evaluations.
        conduct: schedule, observer, and how messages are sent.
    """

    def __init__(
        self,
        state: TrainingState,
        step: ModelStep,
        mechanism: ServerHalf,
        evaluation: Evaluation,
        conduct: Conduct | None = None,
    ) -> None:
        self.state, self.step, self.mechanism = state, step, mechanism
        self.evaluation, self.conduct = evaluation, conduct or Conduct()
        self.schedule, self.observer = self.conduct.schedule, self.conduct.observer
        self.timeout = self.conduct.reply_timeout
        self.shapes = ModelShapes(
            public={n: array.shape for n, array in state.public.items() if not is_fixed(n)},
            group={n: array.shape for n, array in state.group.items() if not is_fixed(n)},
            routes_shape=evaluation.grain.routes_shape,
        )
        self.result = Result()
        self._arrays = ArrayRecord()  # the public parameters, as Flower's names hand them on
        self._with_validation = False  # of the model that the round's messages carry
        self._round_report: RoundReport | None = None  # of the phase under way
        self._evaluation_report: EvaluationReport | None = None

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

        Where no test is wanted (``Conduct.tests``), there is none.

        Args:
            initial_arrays: the public parameters to begin with; experts come with the state.
            timeout: seconds per phase, if shorter than the strategy's own limit.
            train_config, evaluate_config: the run's facts, as `RunFacts.record` has them.
            evaluate_fn: measured on the server after every round, if given.

        Returns:
            The metrics by round, and the public parameters of the best validated round.

        Raises:
            RoundFailedError: too few replies counted, or the model would become non-finite.
        """
        self.timeout = min(self.conduct.reply_timeout, timeout)
        train_config = train_config or ConfigRecord()
        evaluate_config = evaluate_config or ConfigRecord()
        state, schedule, self.result = self.state, self.schedule, Result()
        self._arrays, state.public = initial_arrays, arrays_of(initial_arrays)
        self.conduct.aggregation.copy = ModelCopy(state.copy, state.copy_of)
        self.summary()
        if not state.round:
            self._fill_statistics(grid, train_config)
        try:
            if schedule.phase_due(state, num_rounds):  # broke off between round and validation
                self._validate(grid, evaluate_config)
                self._checkpoint()
            while schedule.goes_on(state, num_rounds):
                try:
                    self._train(grid, train_config)
                except BudgetExceededError as error:
                    if not state.round:
                        raise
                    log.warning("training ends after round %d: %s", state.round, error)
                    num_rounds = state.round  # what there is, is validated, saved and tested
                    if schedule.validation_due(state, num_rounds):
                        self._validate(grid, evaluate_config)
                    self._checkpoint()
                    break
                if evaluate_fn and (measured := evaluate_fn(state.round, self._arrays)):
                    self.result.evaluate_metrics_serverapp[state.round] = measured
                if schedule.phase_due(state, num_rounds):
                    self._validate(grid, evaluate_config)
                if schedule.checkpoint_due(state, num_rounds):
                    self._checkpoint()
            if not schedule.validates and state.round:
                state.take_last()
                self._checkpoint()
            self._test(grid, evaluate_config)
        except Exception:
            if state.round > state.checkpoint_round:
                self._checkpoint()
            raise
        self.result.arrays = array_record(state.best_public)
        return self.result

    def _fill_statistics(self, grid: Grid, config: ConfigRecord) -> None:
        """Sums what the model knows of items before its first round, where it has place for it."""
        state = self.state
        shared = {n: a for n, a in {**state.public, **state.group}.items() if is_fixed(n)}
        if not shared:
            return
        request = Request(RunFacts.of(config), self._facts(0, ""), {}, {})
        query = Query(request, self.conduct, partial(self._ask, grid))
        found = statistics(query, self.mechanism, shared, self.conduct.seed)
        state.public = {name: found.get(name, array) for name, array in state.public.items()}
        state.group = {name: found.get(name, array) for name, array in state.group.items()}
        self._arrays = array_record(state.public)

    # Training

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """A train message for every connected node; nodes sample their users themselves.

        Raises:
            BudgetExceededError: the privacy budget does not allow the round.
        """
        terms = self.mechanism.terms(server_round, self.state.clipping_norm)
        due = self.schedule.validation_due(self.state, server_round)
        self._with_validation = self.schedule.beside and due
        facts = self._facts(server_round, "valid" if self._with_validation else "", terms)
        request = Request(RunFacts.of(config), facts, arrays_of(arrays), self.state.group)
        return self._messages(request, MessageType.TRAIN, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Adds replies up as they arrive and moves the model once.

        Raises:
            RoundFailedError: see `start`; nothing has changed then.
        """
        sums, traffic = self._collect(replies, self._asked_to_train(server_round))
        if self._with_validation:
            self._note_validation_beside(sums, traffic)
        released = self.mechanism.release(sums, server_round, self.shapes)
        try:
            self.step.take(self.state, released, server_round)
        except FloatingPointError as error:
            raise RoundFailedError(f"training round {server_round}: {error}") from error
        self._arrays = array_record(self.state.public)
        self._round_report = report = RoundReport.of(server_round, released, traffic)
        return self._arrays, metric_record(report)

    def _train(self, grid: Grid, config: ConfigRecord) -> None:
        state, server_round = self.state, self.state.round + 1
        self._begin_phase()
        messages = self.configure_train(server_round, self._arrays, config, grid)
        replies = self._exchange(grid, messages, self._asked_to_train(server_round))
        arrays, metrics = self.aggregate_train(server_round, replies)
        if arrays is not self._arrays:  # somebody's own `aggregate_train` has changed them
            self._arrays, state.public = arrays, arrays_of(arrays)
        state.round = server_round
        self.result.train_metrics_clientapp[server_round] = metrics
        report = self._round_report
        if report is not None:  # somebody's own `aggregate_train` may make none
            self._count(report.traffic, messages)
            self.observer.round_finished(report)

    def _asked_to_train(self, server_round: int) -> Asked:
        """Of the mechanism and, where a validation goes with it, of the metrics."""
        plain = self.mechanism.expected(self.shapes)
        numbers = dict(plain.numbers)
        if self._with_validation:
            numbers |= {BESIDE + n: q for n, q in self.evaluation.quantities().items()}
        expected = replace(plain, numbers=numbers)

        def check(sums: CohortSums) -> None:
            self.mechanism.check(sums, plain)
            if self._with_validation:
                reason = self.evaluation.check(sums.under(BESIDE))
                require(not reason, reason)

        phase, least = f"training round {server_round}", self.conduct.min_reply_fraction
        return Asked(phase, server_round, expected, check, least, roundable=True)

    # Evaluation

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """A validation message of the current model for every connected node."""
        facts = self._facts(server_round, "valid")
        request = Request(RunFacts.of(config), facts, arrays_of(arrays), self.state.group)
        return self._messages(request, MessageType.EVALUATE, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord:
        """The measures over all users.

        Raises:
            RoundFailedError: too few replies counted.
        """
        collected = self._collect(replies, self._asked_to_validate(server_round))
        report = EvaluationReport.of("valid", server_round, self.evaluation, collected)
        self._evaluation_report = report
        return metric_record(report)

    def _validate(self, grid: Grid, config: ConfigRecord) -> None:
        server_round = self.state.round
        self._begin_phase()
        messages = self.configure_evaluate(server_round, self._arrays, config, grid)
        replies = self._exchange(grid, messages, self._asked_to_validate(server_round))
        metrics = self.aggregate_evaluate(server_round, replies)
        if self._evaluation_report is not None:  # somebody's own `aggregate_evaluate` makes none
            self._count(self._evaluation_report.traffic, messages)
        self._note_validation(server_round, metrics, self._evaluation_report)

    def _asked_to_validate(self, server_round: int) -> Asked:
        least = self.conduct.min_reply_fraction
        asked = asked_to_evaluate("valid", server_round, self.evaluation, least)
        return replace(asked, roundable=True)

    def _note_validation_beside(self, sums: CohortSums, traffic: Traffic) -> None:
        """Of the model that was sent; bytes and seconds are the training's already."""
        who = Traffic(traffic.sent, traffic.replies, list(traffic.rejected), list(traffic.missing))
        collected: Collected = sums.under(BESIDE), who
        report = EvaluationReport.of("valid", self.state.round, self.evaluation, collected)
        if self._note_validation(report.round, metric_record(report), report):
            self._checkpoint()  # while the model is still the one that was validated

    def _note_validation(
        self, server_round: int, metrics: MetricRecord, report: EvaluationReport | None
    ) -> bool:
        """Whether the model is the best so far, by what ``metrics`` say."""
        self.result.evaluate_metrics_clientapp[server_round] = metrics
        metric = self.schedule.best_by
        value = metrics.get(metric.name.replace("_", "-"))
        measured = float(value) if isinstance(value, int | float) else None
        is_best = self.state.note_validation(metric, measured)
        if report is not None:
            self.observer.evaluated(report, is_best=is_best)
        return is_best

    def _test(self, grid: Grid, config: ConfigRecord) -> None:
        """The best model, with linear models beside it where the run wants them, if there is one.

        In final training there is no test; linear models are fitted all the same.
        """
        state, mixture = self.state, None
        facts = self._facts(state.best_round, "")
        best = Request(RunFacts.of(config), facts, state.best_public, state.best_group)
        ask = partial(self._ask, grid)
        finish = Finish(best, self.evaluation, self.conduct, ask, self.mechanism)
        chosen = None
        if self.conduct.chooses_groups:
            chosen = chosen_groups(finish, state, self.schedule.best_by)
        if chosen is not None:
            told, state.best_group = chosen
            self.observer.groups_chosen(told)
            state.best_value = told.with_groups if told.kept else told.with_one
            finish = replace(finish, best=replace(best, group=state.best_group))
            self._checkpoint()
        if self.conduct.linear_items is not None:
            mixture = finish.fit_linear(self.conduct.linear_items)
            self.observer.linear_fitted(mixture)
        if self.conduct.tests:
            self.observer.evaluated(finish.test(mixture), is_best=True)

    def _ask(self, grid: Grid, request: Request, message_type: str, asked: Asked) -> Collected:
        """A phase that is one question to every node."""
        messages = self._messages(request, message_type, grid)
        sums, traffic = self._collect(self._exchange(grid, messages, asked), asked)
        self._count(traffic, messages)
        return sums, traffic

    # Messages

    def _facts(
        self, server_round: int, part: Part | Literal[""], terms: dict[str, float] | None = None
    ) -> RoundFacts:
        state = self.state
        return RoundFacts(
            round=server_round,
            epoch_starts=state.epoch_starts,
            checkpoint_round=state.checkpoint_round,
            best_round=state.best_round,
            loads=state.loads,
            terms=terms or {},
            part=part,
        )

    def _messages(self, request: Request, message_type: str, grid: Grid) -> list[Message]:
        return messages_for(request, message_type, grid.get_node_ids(), ttl=self.timeout)

    def _exchange(self, grid: Grid, messages: list[Message], asked: Asked) -> Iterable[Message]:
        window, timeout = self.conduct.send_window, self.timeout

        def send(batch: list[Message]) -> Exchange:
            return Exchange(grid, batch, window=window, timeout=timeout)

        return self.conduct.aggregation.exchange(send, messages, asked)

    def _collect(self, replies: Iterable[Message], asked: Asked) -> Collected:
        return self.conduct.aggregation.collect(replies, asked)

    def _count(self, traffic: Traffic, messages: Sequence[Message]) -> None:
        contents = {id(m.content): m.content for m in messages}  # most share one
        sizes = {key: content_bytes(content) for key, content in contents.items()}
        traffic.bytes_down += sum(sizes[id(message.content)] for message in messages)
        self.state.bytes_down += traffic.bytes_down
        self.state.bytes_up += traffic.bytes_up
        self.state.seconds += traffic.seconds

    def _begin_phase(self) -> None:
        self._round_report = self._evaluation_report = None

    def _checkpoint(self) -> None:
        copy = self.conduct.aggregation.copy
        self.state.copy, self.state.copy_of = copy.arrays, copy.of
        self.state.checkpoint_round = self.state.round
        self.observer.save(self.state)

    def summary(self) -> None:
        """Logs what will be done."""
        arrays: Arrays = {**self.state.public, **self.state.group}
        log.info(
            "MRFF: %s shared parameters, %s layers of %s experts, server optimiser %s",
            f"{sum(array.size for array in arrays.values()):,}",
            *self.shapes.routes_shape,
            self.step.optimizer,
        )
