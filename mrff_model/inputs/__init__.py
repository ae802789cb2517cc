"""What the head reads of a target beside the network's own state; without parameters of its own.

They go to the head's hidden layer, and by a linear path to the logit. Nothing of a target's own
label or of a later row is in them, nor in the public statistics that they use: a row that was
counted there is taken out again.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from mrff_model.inputs.factors import ClosedFormFactors
from mrff_model.inputs.kinds import KindRates
from mrff_model.inputs.known import InputShape, KnownBefore
from mrff_model.inputs.residuals import Residuals

__all__ = ["INPUTS", "Input", "InputShape", "KnownBefore", "inputs_of", "starts_of"]


class Input(Protocol):
    """Some columns."""

    name: str

    def start(self, wanted: InputShape) -> list[float]:
        """What each column counts in the logit before anything is learned; none: no columns."""
        ...

    def columns(self, known: KnownBefore) -> list[Tensor]:
        """(B, W, T) each, or (B, W, 1) of what all newest targets share."""
        ...


INPUTS: dict[str, Input] = {
    one.name: one for one in (Residuals(), KindRates(), ClosedFormFactors())
}


def starts_of(wanted: InputShape) -> list[float]:
    """The weights (R,) that the linear path begins with.

    They make an additive model of item, user and taste, which is near the best one from the first
    round on: weights that begin at 0 would need hundreds of steps of the server's size.
    """
    return [weight for one in INPUTS.values() for weight in one.start(wanted)]


def inputs_of(known: KnownBefore, wanted: InputShape) -> list[Tensor]:
    """All columns, (B, W, T) or (B, W, 1) each."""
    return [column for one in INPUTS.values() if one.start(wanted) for column in one.columns(known)]
