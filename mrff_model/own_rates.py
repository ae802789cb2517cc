"""What the user's own window says of a target: how often they liked such items, and lately.

Counts of earlier feedback, overall and on items that share a feature's value with the target: the
inputs that boosted trees with history live on, computed from nothing but the window itself. They
have no parameters. Nothing of another window is read, so a record stays a record
(`mrff.data.windows`), and no position sees feedback that is later than its history item.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

LATEST = 10  # positions that tell of a user's present mood
PRIOR_WEIGHT = 2.0  # interactions that the prior counts for
COUNT_SCALE = 0.25  # of log(1 + count), which reaches 4 in a window of 65

Codes = Mapping[str, Tensor]


def number_of_rates(names: Collection[str]) -> int:
    """R: four of the user, two of every feature compared."""
    return 4 + 2 * len(names)


def own_starts(number: int) -> list[float]:
    """What each of the ``number`` columns counts in an additive model: the user's own rate."""
    return [1.0, *[0.0] * (number - 1)] if number else []


def own_rates(
    feedback: Tensor,
    history: Codes,
    targets: Codes,
    *,
    until: Tensor | None,
    sizes: Mapping[str, int] | None = None,
) -> Tensor:
    """The rates of every target, without gradient.

    With n interactions seen so far, l of them liked, the user's rate is r = (l + 1) / (n + 2), and
    with counts of the same feature value the feature's is (l_f + 2 r) / (n_f + 2). A target with
    several values counts a history item by the share of its values that this item has.

    Args:
        feedback: (B, W, L), code of each history item: 0 none, 1 not liked, 2 liked.
        history, targets: codes by feature, (B, W, L) and (B, W, T), or (..., M) with several
            values; 0 is padding. A feature in them is compared.
        until: (L,) or (B, W, L), the last position whose feedback target t knows; T = L.
            None: every target follows the whole window.
        sizes: how many codes a feature has, 0 included; needed where targets follow the window.

    Returns:
        (B, W, T, R), where T is 1 after the whole window if no feature is compared: logit of the
        rate, count, rate of the latest ten less r, the last feedback; per feature its rate's logit
        less the user's, and its count (logarithmic, both).
    """
    seen, liked = (feedback > 0).float(), (feedback == 2).float()  # (B, W, L)
    rate, user = _rates_overall(seen, liked)
    if until is None:
        rate, user = rate[..., -1:], [column[..., -1:] for column in user]
    elif until.dim() > 1:
        rate, user = rate.gather(-1, until), [column.gather(-1, until) for column in user]
    counted = torch.stack([seen, liked], dim=-1)  # (B, W, L, 2)
    features = []
    for name, codes in targets.items():
        if until is None:  # (B, W, T, 2)
            found = sums_of_window(counted, history[name], codes, (sizes or {})[name])
        else:
            found = running_sums(counted, history[name], codes, until)
        if codes.dim() == 4:  # by the share of the target's values
            found = found / (codes > 0).sum(-1).clamp(min=1).unsqueeze(-1)
        total, likes = found.unbind(-1)  # (B, W, T)
        of_kind = (likes + PRIOR_WEIGHT * rate) / (total + PRIOR_WEIGHT)
        features += [torch.logit(of_kind) - user[0], COUNT_SCALE * total.log1p()]
    width = features[0].shape if features else user[0].shape
    return torch.stack([column.expand(width) for column in (*user, *features)], dim=-1)


def _rates_overall(seen: Tensor, liked: Tensor) -> tuple[Tensor, list[Tensor]]:
    """(B, W, L) the rate after every position, and the four columns that tell of the user."""
    count, positive = seen.cumsum(-1), liked.cumsum(-1)
    rate = (positive + 0.5 * PRIOR_WEIGHT) / (count + PRIOR_WEIGHT)
    lately = (_last(positive) + 1.0) / (_last(count) + 2.0)
    return rate, [
        torch.logit(rate),
        COUNT_SCALE * count.log1p(),
        torch.where(seen > 0, lately - rate, 0.0),
        liked - 0.5 * seen,
    ]


def _last(sums: Tensor) -> Tensor:
    """Of running sums (..., L), what the latest ten positions added."""
    before = F.pad(sums, (LATEST, 0))[..., : sums.shape[-1]]
    return sums - before


def running_sums(counted: Tensor, history: Tensor, targets: Tensor, until: Tensor) -> Tensor:
    """What is counted where the history 0..until has a value of target t.

    Positions are sorted by code and time, so that those of one code and no later than a time are
    neighbours: a difference of running sums, instead of L comparisons for each target.

    Args:
        counted: (B, W, L, C) whole numbers.
        history, targets: (B, W, L) or (B, W, L, M) codes; 0 is like nothing.
        until: see `own_rates`.

    Returns:
        (B, W, L, C), summed over the target's values.
    """
    length, values = history.shape[2], prod(history.shape[3:])
    places = torch.arange(length, device=history.device)
    keys, order = (history.flatten(2) * length + places.repeat_interleave(values)).sort(-1)
    by_value = counted.repeat_interleave(values, dim=2)
    in_order = by_value.gather(2, order.unsqueeze(-1).expand_as(by_value))
    running = F.pad(in_order.cumsum(2), (0, 0, 1, 0))  # of the first 0, 1, ... of them

    def before(bounds: Tensor) -> Tensor:
        number = torch.searchsorted(keys, bounds.flatten(2)).unsqueeze(-1)
        return running.gather(2, number.expand(*number.shape[:3], running.shape[-1]))

    first = targets * length
    end = first + until.view(*until.shape, *[1] * (targets.dim() - 3)) + 1
    sums = (before(end) - before(first)).unflatten(2, targets.shape[2:])
    sums = sums * (targets > 0).unsqueeze(-1)
    return sums.sum(3) if targets.dim() == 4 else sums


def sums_of_window(counted: Tensor, history: Tensor, targets: Tensor, size: int) -> Tensor:
    """As `running_sums`, for T targets that follow the whole window: (B, W, T, C).

    Counted once for every value, of which there are ``size``: targets may be the whole catalogue.
    (ONNX knows no search in sorted numbers.)
    """
    values = prod(history.shape[3:])
    by_value = counted.repeat_interleave(values, dim=2)  # (B, W, L values, C)
    codes = history.flatten(2).unsqueeze(-1).expand_as(by_value)
    table = counted.new_zeros(*counted.shape[:2], size, counted.shape[3])
    table = table.scatter_add(2, codes, by_value)
    wanted = targets.flatten(2).unsqueeze(-1)
    sums = table.gather(2, wanted.expand(*wanted.shape[:3], counted.shape[3]))
    sums = (sums * (wanted > 0)).unflatten(2, targets.shape[2:])
    return sums.sum(3) if targets.dim() == 4 else sums
