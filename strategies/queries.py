"""Questions to all nodes that need no shared model: sums over what their users have met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from logging import getLogger
from typing import Protocol

from mrff.sums import CohortSums, Expected
from mrff.wire.aggregation import Asked
from mrff.wire.requests import Arrays, Request
from strategies.reports import Collected
from strategies.schedule import Conduct

log = getLogger("flwr")


class Ask(Protocol):
    """Sends a request to every node."""

    def __call__(self, request: Request, message_type: str, asked: Asked) -> Collected:
        """The sum of the replies that count, and who answered."""
        ...


class Asking(Protocol):
    """Asks everybody one question, see `Query`."""

    def __call__(
        self,
        message_type: str,
        arrays: Arrays,
        expected: Expected,
        check: Callable[[CohortSums], None],
        /,
    ) -> CohortSums:
        """The sum of the answers."""
        ...

    def of_step(self, number: int) -> Asking:
        """The same in a step of several."""
        ...


def anything(sums: CohortSums) -> None:
    """Well-formed sums are enough."""


@dataclass(frozen=True)
class Query:
    """Asks every node one question.

    Args:
        request: whose run and round it is about.
        conduct: of the run.
        ask: sends requests.
    """

    request: Request
    conduct: Conduct
    ask: Ask

    def __call__(
        self,
        message_type: str,
        arrays: Arrays,
        expected: Expected,
        check: Callable[[CohortSums], None] = anything,
    ) -> CohortSums:
        """The sum of the answers that count, to the question with these ``arrays``."""
        request = replace(self.request, public={}, group={}, linear=arrays)
        least, server_round = self.conduct.min_reply_fraction, request.facts.round
        asked = Asked(message_type, server_round, expected, check, least, exact=True)
        sums, traffic = self.ask(request, message_type, asked)
        self.conduct.observer.queried(message_type, server_round, traffic)
        return sums

    def of_step(self, number: int) -> Query:
        """The same in a step of several, counted from 1: nodes open few sums of one round."""
        log.info("sums over all nodes: step %d", number)
        return replace(self, request=self.request.about(number))
