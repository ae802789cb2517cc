"""What others make of items of the target's kinds: those that share a feature's value with it.

Where items are met once or twice, their own rates say little, and those of their category much. No
further sums are needed: a kind's are those of its items. All rows of the user are taken out of them
again, later ones and the target's own included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrff_model.inputs.known import InputShape, KnownBefore
from mrff_model.item_statistics import logit_of
from mrff_model.own_rates import running_sums, sums_of_window

WEIGHT = 20.0  # interactions that the overall rate counts for in a kind's
SCALE = 3.0  # of a difference of logits, which is around 0.3; so that all inputs learn alike


class KindRates:
    """See `mrff_model.inputs.Input`."""

    name = "kinds"

    def start(self, wanted: InputShape) -> list[float]:
        """Nothing: kinds overlap, and tell much or little."""
        return [0.0 for _ in wanted.features] if wanted.kinds else []

    def columns(self, known: KnownBefore) -> list[Tensor]:
        """(B, W, T) logit of a kind's rate less that of all items, for every feature compared."""
        own = known.own
        pair = torch.stack([own.counted, own.counted * own.labels], dim=-1)[:, None]  # (B, 1, R, 2)
        return [_of_kind(known, pair, name) for name in known.target_codes]


def _of_kind(known: KnownBefore, own: Tensor, name: str) -> Tensor:
    """Of a target with several values, by all of their rows together."""
    statistics, codes = known.statistics, known.catalogue[name]
    wanted, size = known.target_codes[name], known.sizes[name]
    asked = wanted.flatten(1, 2).unsqueeze(1)  # (B, 1, W T) or (B, 1, W T, M)
    history = codes[known.own.items].unsqueeze(1)
    if known.newest:
        of_user = sums_of_window(own, history, asked, size)
    else:  # without a number for every value, of which there may be very many
        all_of_them = torch.full(asked.shape[2:3], history.shape[2] - 1, device=asked.device)
        of_user = running_sums(own, history, asked, all_of_them)
    everybody = kind_sums(statistics.rates, codes, size)[wanted]  # (B, W, T, 3), or (..., M, 3)
    if wanted.dim() == 4:
        everybody = everybody.sum(-2)
    others = everybody[..., :2] - of_user.view(*wanted.shape[:3], 2)
    rate, _ = statistics.rate_of(others[..., 0], others[..., 1], WEIGHT, everybody[..., 2])
    prior = statistics.prior[0]
    above = SCALE * (logit_of(rate) - logit_of(prior))
    return torch.where(everybody[..., 2] > 0, above, 0.0)


def kind_sums(rates: Tensor, codes: Tensor, size: int) -> Tensor:
    """(size, 3): what `ItemStatistics.rates` (items + 1, 2) sum to, and the number of items.

    Code 0, which is no kind, has nothing.

    Args:
        codes: (items + 1,) or (items + 1, M), of which an item has each at most once.
    """
    each = torch.cat([rates, torch.ones_like(rates[:, :1])], dim=-1)
    values = codes.reshape(len(codes), -1)
    rows = each.repeat_interleave(values.shape[1], dim=0)
    sums = each.new_zeros(size, 3).index_add(0, values.flatten(), rows)
    return sums * (torch.arange(size, device=sums.device) > 0).unsqueeze(-1)
