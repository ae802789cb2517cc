"""Dropout whose mask depends on the user's key alone, not on batch, padding or call order.

The trainers must give users the same mask whether they are trained alone or in a cohort. So a mask
is not drawn from a generator but computed: a counter-based hash (SplitMix64, Steele et al. 2014)
of the user's key, the place in the network and the element's position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


@dataclass(frozen=True)
class Dropout:
    """Drops elements with probability ``rate``, at one place of the network.

    Args:
        rate: probability in [0, 1); it is rounded to a multiple of 1/256.
        key: (B,) int64, one per user and step; None drops nothing (evaluation).
        site: number of the place, so that no two places share a mask.
    """

    rate: float
    key: Tensor | None
    site: int = 0

    def at(self, site: int) -> Dropout:
        """The same ``site`` places further on."""
        return Dropout(self.rate, self.key, self.site + site)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, W, L, D) users, windows, positions, channels; what is kept is scaled up."""
        threshold = round(self.rate * 256)
        if self.key is None or threshold == 0:
            return x
        return x * dropout_factors(self.key, x.shape[1:], threshold, self.site).to(x.dtype)


def dropout_factors(key: Tensor, shape: torch.Size, threshold: int, site: int) -> Tensor:
    """(B, W, L, D) float32: 0 with probability threshold/256, else what keeps the mean.

    The factor of an element does not depend on how far W and L are padded.
    """
    windows, length, channels = shape
    words = -(-channels // 8)  # one hash gives eight bytes, hence eight decisions
    counter = (
        torch.arange(windows, device=key.device).view(-1, 1, 1) * (1 << 40)
        + torch.arange(length, device=key.device).view(1, -1, 1) * (1 << 20)
        + torch.arange(words, device=key.device).view(1, 1, -1)
    )
    start = _mix(key + _wrap((site + 1) * _GOLDEN))
    hashed = _mix(start.view(-1, 1, 1, 1) + counter * _GOLDEN)
    factors = hashed.view(torch.uint8)[..., :channels].float()
    # Below the threshold to 0, from it on to `kept`: several times faster than comparing bytes.
    kept = 256.0 / (256 - threshold)
    return factors.sub_(threshold - 1).mul_(kept).clamp(0.0, kept)


def gumbel_of(key: Tensor, number: int, site: int) -> Tensor:
    """(B, number) float64 from the standard Gumbel distribution, by the users' keys (B,).

    The largest of log-weights plus these is a draw by the weights (Gumbel, 1954).
    """
    start = _mix(key + _wrap((site + 1) * _GOLDEN))
    counter = torch.arange(number, device=key.device) * _GOLDEN
    hashed = _shift_right(_mix(start.view(-1, 1) + counter), 11)  # 53 bits
    return -torch.log(-torch.log((hashed.double() + 0.5) * 2.0**-53))


def _mix(z: Tensor) -> Tensor:
    z = _shift_right(z, 30).bitwise_xor_(z).mul_(_MIX_1)
    z = _shift_right(z, 27).bitwise_xor_(z).mul_(_MIX_2)
    return _shift_right(z, 31).bitwise_xor_(z)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift: PyTorch's own keeps the sign."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _wrap(number: int) -> int:
    """A Python integer modulo 2**64, as a signed 64-bit number."""
    return (number + 2**63) % 2**64 - 2**63
