"""The end of a run: the best model's test, and before it the linear models that it may have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from logging import getLogger
from typing import Protocol

from flwr.app import MessageType

from mrff.linear import Mixture, told
from mrff.metrics import Evaluation
from mrff.sums import CohortSums, Expected, require
from mrff.wire.aggregation import Asked
from mrff.wire.requests import Arrays, Part, Request
from strategies.linear_phase import (
    LinearItems,
    all_mixes,
    check_linear_sums,
    chosen_mixes,
    fit,
    flat,
    parts_tested,
)
from strategies.reports import Collected, EvaluationReport

log = getLogger("flwr")


class Ask(Protocol):
    """Sends a request to every node."""

    def __call__(self, request: Request, message_type: str, asked: Asked) -> Collected:
        """The sum of the replies that count, and who answered."""
        ...


@dataclass(frozen=True)
class Finish:
    """Asks nodes about the best model.

    Args:
        best: a request that carries it, and asks nothing.
        evaluation: what nodes are asked in evaluations.
        min_fraction: share of the nodes asked whose replies must count.
        ask: sends requests.
    """

    best: Request
    evaluation: Evaluation
    min_fraction: float
    ask: Ask

    def fit_linear(self, wish: LinearItems) -> Mixture:
        """Linear models to mix with the network, and the mixes to test by."""
        tried = all_mixes(fit(self._query, wish))
        _, sums = self._evaluated("valid", tried)
        mixture = chosen_mixes(tried, sums)
        items, mix = len(mixture.part.items), told(mixture.mixes[0])
        log.info("linear models of %d items; ranked by %s", items, mix)
        return mixture

    def test(self, mixture: Mixture | None) -> EvaluationReport:
        """The best model on test targets, ranking by mixes if there are any."""
        report, sums = self._evaluated("test", mixture)
        return report if mixture is None else replace(report, parts=parts_tested(sums))

    def _query(self, message_type: str, linear: Arrays, expected: Expected) -> CohortSums:
        """An answer that needs no shared model."""
        request = replace(self.best, public={}, group={}, linear=linear)
        round_number = self.best.facts.round
        asked = Asked(message_type, round_number, expected, check_linear_sums, self.min_fraction)
        return self.ask(request, message_type, asked)[0]

    def _evaluated(
        self, part: Part, mixture: Mixture | None
    ) -> tuple[EvaluationReport, CohortSums]:
        request = replace(self.best, facts=replace(self.best.facts, part=part))
        evaluation = self.evaluation
        if mixture is not None:
            facts = replace(request.facts, mixes=flat(mixture))
            request = replace(request, facts=facts, linear=mixture.part.arrays())
            evaluation = evaluation.with_mixes(len(mixture.mixes))
        asked = asked_to_evaluate(part, request.facts.round, evaluation, self.min_fraction)
        collected = self.ask(request, MessageType.EVALUATE, asked)
        report = EvaluationReport.of(part, request.facts.round, evaluation, collected)
        return report, collected[0]


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
