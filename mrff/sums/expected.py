"""What a server expects of a reply, and the error that says why one does not count."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from mrff.sums.cohort_sums import Quantity


class BadReplyError(ValueError):
    """A reply that must not count; the message is the reason."""


def require(holds: bool, reason: str) -> None:
    """Rejects the reply for ``reason`` unless the condition holds."""
    if not holds:
        raise BadReplyError(reason)


def require_arrays(there: Set[str], wanted: Set[str]) -> None:
    """Rejects the reply unless its updates have exactly the ``wanted`` names."""
    missing, extra = wanted - there, there - wanted
    require(not missing, f"updates lacks the array {min(missing, default='')}")
    require(not extra, f"updates has the array {min(extra, default='')}, which was not expected")


@dataclass(frozen=True)
class Expected:
    """What a reply must hold: arrays by name and shape, numbers by name.

    ``optional`` arrays may be absent; whoever checks the sums says when. Arrays with ``steps`` are
    whole numbers on nodes; what a server adds up is multiplied by the step.
    """

    updates: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: Mapping[str, Quantity] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    steps: Mapping[str, float] = field(default_factory=dict)
