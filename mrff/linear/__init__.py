"""Closed-form linear models of who takes what next. A new one: its file, its line in `LINEAR`."""

from mrff.linear.part import (
    LINEAR,
    SCORERS,
    LinearPart,
    Mix,
    Mixture,
    mix_of,
    mixes,
    sequences_of,
    told,
)
from mrff.linear.sequences import Sequences

__all__ = [
    "LINEAR",
    "SCORERS",
    "LinearPart",
    "Mix",
    "Mixture",
    "Sequences",
    "mix_of",
    "mixes",
    "sequences_of",
    "told",
]
