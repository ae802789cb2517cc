"""What a server expects of a reply, and the error that says why one does not count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mrff.sums.cohort_sums import Quantity


class BadReplyError(ValueError):
    """A reply that must not count; the message is the reason."""


def require(holds: bool, reason: str) -> None:
    """Rejects the reply for ``reason`` unless the condition holds."""
    if not holds:
        raise BadReplyError(reason)


@dataclass(frozen=True)
class Expected:
    """What a reply must hold: arrays by name and shape, numbers by name.

    ``optional`` arrays may be absent; whoever checks the sums says when.
    """

    updates: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: Mapping[str, Quantity] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
