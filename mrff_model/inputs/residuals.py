"""What others make of the target, and how far the user has liked things more than others did.

A residual is a label less the item's rate among other users: who likes what nobody likes says more
than who likes what everybody does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mrff_model.inputs.known import InputShape, KnownBefore, sums_before
from mrff_model.item_statistics import logit_of
from mrff_model.own_rates import PRIOR_WEIGHT, running_sums, sums_of_window

LATEST = (1, 5, 10, 20)  # history items
SCALE = 5.0  # of a mean residual, which is around 0.15; so that all inputs learn alike
OTHERS_SCALE = 0.75  # of log(1 + count), whose deviation over rows is around 1
ALL_WEIGHT = 5.0  # interactions that the prior counts for where all of them are averaged
GRID = 1024.0  # sums on it are exact in float32: rounding tells nothing of later rows


class Residuals:
    """See `mrff_model.inputs.Input`."""

    name = "residuals"

    def start(self, wanted: InputShape) -> list[float]:
        """The item's rate as it is, and the mean of all residuals.

        A logit moves by 1 / (p (1 - p)), about `SCALE`, times a change of the probability p.
        """
        return [1.0, 0.0, *(0.0 for _ in LATEST), 0.0, 1.0, *(0.0 for _ in wanted.features)]

    def columns(self, known: KnownBefore) -> list[Tensor]:
        """The rate's logit and count; mean residuals lately, of the window, of all, and by kind."""
        rate, count = known.statistics.rest(
            known.asked.items, known.asked.labels, known.asked.counted
        )
        seen, above = known.history.real, known.residuals
        sums, counts = above.cumsum(-1), seen.cumsum(-1)  # (B, W, L)
        lately = [_lately(sums, most) / (_lately(counts, most) + PRIOR_WEIGHT) for most in LATEST]
        before, number = _before_windows(known)
        mean = sums / (counts + PRIOR_WEIGHT)
        overall = (sums + before) / (counts + number + ALL_WEIGHT)
        own = [SCALE * known.at_targets(column) for column in (*lately, mean, overall)]
        pair = torch.stack([seen, (above * GRID).round() / GRID], dim=-1)  # (B, W, L, 2)
        kinds = [_of_kind(known, pair, name) for name in known.target_codes]
        return [logit_of(rate), OTHERS_SCALE * count.log1p(), *own, *kinds]


def _of_kind(known: KnownBefore, pair: Tensor, name: str) -> Tensor:
    """(B, W, T) mean residual of the window's items that share a value with the target."""
    history, wanted = known.history_codes[name], known.target_codes[name]
    if known.until is None:
        found = sums_of_window(pair, history, wanted, known.sizes[name])
    else:
        found = running_sums(pair, history, wanted, known.until)
    if wanted.dim() == 4:  # by the share of the target's values
        found = found / (wanted > 0).sum(-1).clamp(min=1).unsqueeze(-1)
    count, total = found.unbind(-1)
    return SCALE * total / (count + PRIOR_WEIGHT)


def _lately(sums: Tensor, most: int) -> Tensor:
    """Of running sums (..., L), what the latest positions added."""
    return sums - F.pad(sums, (most, 0))[..., : sums.shape[-1]]


def _before_windows(known: KnownBefore) -> tuple[Tensor, Tensor]:
    """(B, W, 1) sum of residuals, and number, of rows before each window."""
    past, asked = known.past, known.asked
    total = past.residuals(known.statistics).sum(-1)[:, None, None]  # (B, 1, 1)
    number = past.real.sum(-1)[:, None, None]
    if not known.several:
        return total, number
    of_window = asked.residuals(known.statistics).sum(-1, keepdim=True)  # (B, W, 1)
    rows = asked.real.sum(-1, keepdim=True)
    return total + sums_before(of_window), number + sums_before(rows)
