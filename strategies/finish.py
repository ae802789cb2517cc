"""The end of a run: the best model's test, and before it the linear models that it may have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from logging import getLogger

from flwr.app import MessageType

from mrff.linear import Mixture, told
from mrff.metrics import Evaluation
from mrff.metrics.lists import ITEM_COUNTS
from mrff.privacy.ledger import BudgetExceededError
from mrff.privacy.mechanisms.base import ServerHalf
from mrff.privacy.noised_evaluation import NoisyTest
from mrff.sums import CohortSums, Expected, Quantity, require
from mrff.wire.aggregation import Asked, RoundFailedError
from mrff.wire.requests import ITEM_COUNTS as QUERY_ITEM_COUNTS
from mrff.wire.requests import Part, Request
from strategies.linear_phase import (
    all_mixes,
    chosen_mixes,
    fit,
    flat,
    parts_tested,
)
from strategies.queries import Ask, Query
from strategies.reports import EvaluationReport
from strategies.schedule import Conduct

log = getLogger("flwr")


@dataclass(frozen=True)
class Finish:
    """Asks nodes about the best model.

    Args:
        best: a request that carries it, and asks nothing.
        evaluation: what nodes are asked in evaluations.
        conduct: of the run.
        ask: sends requests.
        mechanism: says how a private run is tested.
    """

    best: Request
    evaluation: Evaluation
    conduct: Conduct
    ask: Ask
    mechanism: ServerHalf

    def fit_linear(self, most: int) -> Mixture:
        """Linear models of the ``most`` items met most, and the mixes with them to test by."""
        tried = all_mixes(fit(self._query, self._item_counts, most))
        report, sums = self._evaluated("valid", tried)
        self.conduct.observer.queried("mixes", report.round, report.traffic)
        mixture = chosen_mixes(tried, sums)
        items, mix = len(mixture.part.items), told(mixture.mixes[0])
        log.info("linear models of %d items; ranked by %s", items, mix)
        return mixture

    def validated(self) -> EvaluationReport:
        """The model on validation targets, by the network alone."""
        return self._evaluated("valid", None)[0]

    def test(self, mixture: Mixture | None) -> EvaluationReport:
        """The best model on test targets, ranking by mixes if there are any."""
        if self.mechanism.noisy_test is not None:
            return self._noisy_test(self.mechanism.noisy_test)
        report, sums = self._evaluated("test", mixture)
        return report if mixture is None else replace(report, parts=parts_tested(sums))

    def _noisy_test(self, test: NoisyTest) -> EvaluationReport:
        """Of a private run; nothing is measured where a budget does not allow it."""
        facts = replace(self.best.facts, part="test")
        least = self.conduct.min_reply_fraction
        asked = Asked("evaluation (test)", facts.round, test.expected, test.check, least)
        request = replace(self.best, facts=facts)
        try:
            self.mechanism.spend_test(facts.round)
            sums, traffic = self.ask(request, MessageType.EVALUATE, asked)
        except (BudgetExceededError, RoundFailedError) as error:
            log.warning("the test is left out: %s", error)
            return self._nothing()
        collected = self.mechanism.release_test(sums), traffic
        return EvaluationReport.of("test", facts.round, self.evaluation, collected)

    @property
    def _query(self) -> Query:
        return Query(self.best, self.conduct, self.ask)

    def _nothing(self) -> EvaluationReport:
        """A test that nobody was asked for."""
        measures = dict.fromkeys(self.evaluation.names)
        return EvaluationReport("test", self.best.facts.round, 0, 0, 0, measures)

    @cached_property
    def _item_counts(self) -> CohortSums:
        """How often every item of the catalogue was met in training."""
        counted = {ITEM_COUNTS: Quantity((self.conduct.catalogue,), whole=True)}
        return self._query(QUERY_ITEM_COUNTS, {}, Expected(numbers=counted))

    def _evaluated(
        self, part: Part, mixture: Mixture | None
    ) -> tuple[EvaluationReport, CohortSums]:
        request = replace(self.best, facts=replace(self.best.facts, part=part))
        if mixture is not None:
            facts = replace(request.facts, mixes=flat(mixture))
            request = replace(request, facts=facts, linear=mixture.part.arrays())
        evaluation = self.evaluation.by(
            1 if mixture is None else len(mixture.mixes),
            listed=self.conduct.catalogue if part == "test" else 0,
        )
        least = self.conduct.min_reply_fraction
        asked = asked_to_evaluate(part, request.facts.round, evaluation, least)
        sums, traffic = self.ask(request, MessageType.EVALUATE, asked)
        if "listed" in evaluation.quantities():
            sums += self._item_counts
        report = EvaluationReport.of(part, request.facts.round, evaluation, (sums, traffic))
        return report, sums


def asked_to_evaluate(
    part: Part, server_round: int, evaluation: Evaluation, min_fraction: float
) -> Asked:
    """What replies to an evaluation must hold."""

    def check(sums: CohortSums) -> None:
        reason = evaluation.check(sums)
        require(not reason, reason)

    phase = f"evaluation ({part}) of round {server_round}"
    expected = Expected(numbers=evaluation.quantities())
    return Asked(phase, server_round, expected, check, min_fraction)
