"""What the user's own window says of a target: how often they liked such items, and lately.

Counts of earlier feedback, overall and on items that share a feature's value with the target: the
inputs that boosted trees with history live on, computed from nothing but the window itself. They
have no parameters. Nothing of another window is read, so a record stays a record
(`mrff_data.windows`), and no position sees feedback that is later than its history item.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

LATEST = 10  # positions that tell of a user's present mood
PRIOR_WEIGHT = 2.0  # interactions that the prior counts for
COUNT_SCALE = 0.25  # of log(1 + count), which reaches 4 in a window of 65
FEW_CODES = 64  # so many are compared by one product of matrices

Codes = Mapping[str, Tensor]


def number_of_rates(names: Collection[str]) -> int:
    """R: four of the user, two of every feature compared."""
    return 4 + 2 * len(names)


def own_rates(
    feedback: Tensor, history: Codes, targets: Codes, sizes: Mapping[str, int], *, newest: bool
) -> Tensor:
    """The rates of every target, without gradient.

    With n interactions seen so far, l of them liked, the user's rate is r = (l + 1) / (n + 2), and
    with counts of the same feature value the feature's is (l_f + 2 r) / (n_f + 2). A target with
    several values counts a history item by the share of its values that this item has.

    Args:
        feedback: (B, W, L), code of each history item: 0 none, 1 not liked, 2 liked.
        history, targets: codes by feature, (B, W, L) and (B, W, T), or (..., M) with several
            values; 0 is padding. A feature in them is compared.
        sizes: number of codes by feature.
        newest: every target follows the whole window. Otherwise T = L, and target t follows the
            history items 0..t.

    Returns:
        (B, W, T, R): logit of the rate, count, rate of the latest ten less r, the last feedback;
        per feature its rate's logit less the user's, and its count (logarithmic, both).
    """
    seen, liked = (feedback > 0).float(), (feedback == 2).float()  # (B, W, L)
    count, positive = seen.cumsum(-1), liked.cumsum(-1)
    rate = (positive + 0.5 * PRIOR_WEIGHT) / (count + PRIOR_WEIGHT)
    lately = _last(positive) + 1.0, _last(count) + 2.0
    user = [
        torch.logit(rate),
        COUNT_SCALE * count.log1p(),
        torch.where(seen > 0, lately[0] / lately[1] - rate, 0.0),
        liked - 0.5 * seen,
    ]
    if newest:
        user = [column[..., -1:] for column in user]
        rate = rate[..., -1:]
    counted = torch.stack([seen, liked], dim=-1)  # (B, W, L, 2)
    features = []
    for name, codes in targets.items():
        alike = _alike(codes, history[name], sizes[name])  # (B, W, T, L)
        total, likes = ((alike if newest else alike.tril()) @ counted).unbind(-1)  # (B, W, T)
        of_kind = (likes + PRIOR_WEIGHT * rate) / (total + PRIOR_WEIGHT)
        features += [torch.logit(of_kind) - user[0], COUNT_SCALE * total.log1p()]
    width = features[0].shape if features else user[0].shape
    return torch.stack([column.expand(width) for column in (*user, *features)], dim=-1)


def _last(sums: Tensor) -> Tensor:
    """Of running sums (..., L), what the latest ten positions added."""
    before = F.pad(sums, (LATEST, 0))[..., : sums.shape[-1]]
    return sums - before


def _alike(targets: Tensor, history: Tensor, size: int) -> Tensor:
    """(B, W, T, L) float: the share of a target's values that the history item has."""
    if targets.dim() == 3:
        return _equal(targets, history)
    if size <= FEW_CODES:
        shared = _indicators(targets, size) @ _indicators(history, size).mT
    else:
        pairs = ((t, h) for t in targets.unbind(-1) for h in history.unbind(-1))
        shared = functools.reduce(torch.add, (_equal(t, h) for t, h in pairs))
    return shared / (targets > 0).sum(-1).clamp(min=1).unsqueeze(-1)


def _equal(targets: Tensor, history: Tensor) -> Tensor:
    """(B, W, T) and (B, W, L) codes to (B, W, T, L) zeros and ones; padding is like nothing."""
    targets = torch.where(targets > 0, targets, -1)
    return (targets.unsqueeze(-1) == history.unsqueeze(-2)).float()


def _indicators(codes: Tensor, size: int) -> Tensor:
    """(..., M) codes to (..., size - 1) zeros and ones."""
    zeros = torch.zeros_like(codes[..., :1], dtype=torch.float32)
    return zeros.expand(*codes.shape[:-1], size).scatter(-1, codes, 1.0)[..., 1:]
