"""What the head reads of a target beside the network's own state; without parameters of its own.

They go to the head's hidden layer, and by a linear path to the logit. Nothing of a target's own
label or of a later row is in them, nor in the public statistics that they use: a row that was
counted there is taken out again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from torch import Tensor

from mrff_model.inputs.factors import ClosedFormFactors
from mrff_model.inputs.known import Known
from mrff_model.inputs.residuals import Residuals

__all__ = ["INPUTS", "Input", "Known", "inputs_of", "number_of_inputs"]


class Input(Protocol):
    """Some columns."""

    name: str

    def width(self, features: Collection[str], dim: int) -> int:
        """How many, for item features compared and item vectors of ``dim`` numbers; 0: none."""
        ...

    def columns(self, known: Known) -> list[Tensor]:
        """(B, W, T) each, or (B, W, 1) of what all newest targets share."""
        ...


INPUTS: dict[str, Input] = {one.name: one for one in (Residuals(), ClosedFormFactors())}


def number_of_inputs(features: Collection[str], dim: int) -> int:
    """R, columns in all."""
    return sum(one.width(features, dim) for one in INPUTS.values())


def inputs_of(known: Known, dim: int) -> list[Tensor]:
    """All columns, (B, W, T) or (B, W, 1) each."""
    features = known.target_codes.keys()
    return [
        column
        for one in INPUTS.values()
        if one.width(features, dim)
        for column in one.columns(known)
    ]
