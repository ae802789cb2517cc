"""Who answered in a phase, and how many bytes went either way."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rejection:
    """A reply that did not count."""

    node: int
    reason: str


@dataclass
class Traffic:
    """Bytes are those of arrays and numbers in the messages, without Flower's envelopes."""

    sent: int = 0
    replies: int = 0  # accepted
    rejected: list[Rejection] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0
