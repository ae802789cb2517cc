"""One evaluation of one model, as a phase of its own or beside the training that starts from it."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import MetricRecord, RecordDict

from strategies.replies import BadReplyError, EvaluateReply, Expected, read_evaluate_reply
from strategies.reports import EvaluationReport, EvaluationSums, Traffic

BESIDE = "validation"  # the record of a train reply that holds what an evaluate reply would


class Evaluation:
    """Takes in replies as they arrive.

    Args:
        split: "valid" or "test".
        server_round: that of the model.
        bins: of the score histograms.
        routes_are_hidden: whether nodes keep route counts to themselves.
    """

    def __init__(
        self,
        split: str,
        server_round: int,
        *,
        expected: Expected,
        bins: int,
        routes_are_hidden: bool = False,
    ) -> None:
        self.split, self.round = split, server_round
        self._expected, self._bins, self._hidden = expected, bins, routes_are_hidden
        self._sums = EvaluationSums(expected.num_layers, expected.num_experts, bins)

    def read(self, content: RecordDict) -> None:
        """Takes an evaluate reply in, or raises BadReplyError before anything has changed."""
        self._sums.add(self._checked(content))

    def beside(self, train: Callable[[RecordDict], None]) -> Callable[[RecordDict], None]:
        """Reads train replies that hold an evaluation too: both count, or neither does."""

        def read(content: RecordDict) -> None:
            record = content.pop(BESIDE, None)
            if not isinstance(record, MetricRecord):
                raise BadReplyError(f"the record {BESIDE!r} is missing")
            reply = self._checked(RecordDict({"metrics": record}))
            train(content)
            self._sums.add(reply)

        return read

    def report(self, traffic: Traffic) -> EvaluationReport:
        """The measures over all users."""
        return self._sums.report(self.split, self.round, traffic)

    def _checked(self, content: RecordDict) -> EvaluateReply:
        return read_evaluate_reply(
            content,
            self._expected,
            self.round,
            bins=self._bins,
            routes_are_hidden=self._hidden,
        )


def beside_traffic(traffic: Traffic) -> Traffic:
    """Who answered a training round; its bytes and seconds are counted there already."""
    return Traffic(traffic.sent, traffic.replies, list(traffic.rejected), list(traffic.missing))
