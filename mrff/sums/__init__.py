"""What is added up: a node's sums over its users, and the outcome of a chunk of them."""

from mrff.sums.cohort_sums import CohortSums, Quantity
from mrff.sums.expected import BadReplyError, Expected, require
from mrff.sums.outcome import Chunk, Outcome, Tensors
from mrff.sums.views import NodeView, ServerView

__all__ = [
    "BadReplyError",
    "Chunk",
    "CohortSums",
    "Expected",
    "NodeView",
    "Outcome",
    "Quantity",
    "ServerView",
    "Tensors",
    "require",
]
