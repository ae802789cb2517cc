"""The user's taste in closed form: a ridge regression on what they made of earlier items.

A user's residuals are ``v_i . w + noise`` with public item vectors v and a taste w ~ N(0, I) of
their own, which is solved for anew before every target (Salakhutdinov and Mnih, "Probabilistic
matrix factorization", NIPS 2007, with the user's side integrated out). Its prediction and the
prediction's variance are the inputs. Nothing of it is stored or sent, and somebody new has it from
their first interaction on.

All is solved in double precision and rounded at the end: how sums are added up depends on whom a
user is computed beside, for windows are padded to the longest, and the same seed must give the same
bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrff_model.inputs.known import InputShape, KnownBefore, KnownRows, sums_before
from mrff_model.inputs.residuals import SCALE as RESIDUAL_SCALE
from mrff_model.item_statistics import ITEM_RIDGE, MOST_LEVERAGE, ItemStatistics

SCALE = 6.0  # of a prediction, which is around 0.15; so that all inputs learn alike
VARIANCE_SCALE = 10.0  # of a variance, which is around 0.06
STEP = 2.0**-16  # both are rounded to multiples of it; doubles are wrong by far less


class ClosedFormFactors:
    """See `mrff_model.inputs.Input`."""

    name = "factors"

    def start(self, wanted: InputShape) -> list[float]:
        """The prediction as it is, see `mrff_model.inputs.residuals`."""
        return [RESIDUAL_SCALE / SCALE, 0.0] if wanted.dim else []

    def columns(self, known: KnownBefore) -> list[Tensor]:
        """Both, (B, W, T)."""
        statistics = known.statistics
        noise = statistics.prior[1]
        fitted = Fit(statistics, _taste(statistics, _all_rows(known)))
        seen = fitted.vectors(known.history)  # (B, W, L, d)
        past, above = fitted.vectors(known.past), known.past.residuals(statistics).double()
        residuals = known.residuals.double()  # (B, W, L)
        gram = _gram(past)[:, None]  # (B, 1, d, d)
        moment = (past * above.unsqueeze(-1)).sum(-2)[:, None]  # (B, 1, d)
        asked = fitted.vectors(known.asked)  # (B, W, T, d)
        if known.until is None:
            gram = gram + _gram(seen)
            moment = moment + (seen * residuals.unsqueeze(-1)).sum(-2)
            covariance, mean = _posterior(gram, moment, noise)
            spread = (asked @ covariance * asked).sum(-1)
            prediction = (asked * mean.unsqueeze(-2)).sum(-1)
            return _columns(prediction, spread)
        if known.several:  # earlier windows, whose targets are all known
            labelled = known.asked.residuals(statistics).double().unsqueeze(-1)
            gram = gram + sums_before(_gram(asked))
            moment = moment + sums_before((asked * labelled).sum(-2))
        covariance, mean = _posterior(gram, moment, noise)
        places = torch.arange(seen.shape[2], device=seen.device).unsqueeze(-1)  # (L, 1)
        reads = places <= known.until.unsqueeze(-2)  # (L, T) or (B, W, L, T)
        before = covariance, mean, noise
        return _columns(*_one_after_the_other(seen, residuals, asked, before, reads))


class Fit:
    """Item vectors without the part of a user whose rows they were fitted to, among others."""

    def __init__(self, statistics: ItemStatistics, taste: Tensor) -> None:
        assert statistics.vectors is not None
        self.statistics, self.taste = statistics, taste  # (B, d)

    def vectors(self, rows: KnownRows) -> Tensor:
        """(B, ..., d) doubles, 0 where no row is.

        A vector solves ``(A + ridge) v = c`` with A a sum of one matrix per user, which is near the
        unit matrix on average. Taking a user out is then a step along their taste.
        """
        statistics, table = self.statistics, self.statistics.vectors
        assert table is not None
        vectors = table[rows.items].double()
        taste = self.taste.view(len(vectors), *[1] * (vectors.dim() - 2), -1)
        weight = rows.counted / (statistics.rates[rows.items][..., 0] + ITEM_RIDGE)  # (B, ...)
        leverage = (weight * taste.square().sum(-1)).clamp(max=MOST_LEVERAGE)
        error = rows.residuals(statistics) - (vectors * taste).sum(-1)
        step = weight * error / (1.0 - leverage)
        return rows.real.unsqueeze(-1) * (vectors - step.unsqueeze(-1) * taste)


def _columns(prediction: Tensor, variance: Tensor) -> list[Tensor]:
    """Both as inputs, rounded."""
    columns = SCALE * prediction, VARIANCE_SCALE * variance.clamp(min=0.0)
    return [(torch.round(column / STEP) * STEP).float() for column in columns]


def _all_rows(known: KnownBefore) -> KnownRows:
    """(B, R) of which those count that are part of the statistics."""
    rows = known.after(known.past)
    return KnownRows(rows.items * (rows.counted > 0), rows.labels, rows.counted)


def _taste(statistics: ItemStatistics, rows: KnownRows) -> Tensor:
    """(B, d) doubles, as the user had it when item vectors were fitted."""
    assert statistics.vectors is not None
    vectors = statistics.vectors[rows.items].double() * rows.real.unsqueeze(-1)
    moment = (vectors * rows.residuals(statistics).double().unsqueeze(-1)).sum(-2)
    return _posterior(_gram(vectors), moment, statistics.prior[1])[1]


def _gram(vectors: Tensor) -> Tensor:
    """(..., n, d) -> (..., d, d)."""
    return vectors.transpose(-1, -2) @ vectors


def _posterior(gram: Tensor, moment: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance (..., d, d) and mean (..., d) of a taste."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    covariance = inverse(eye + gram / noise)
    return covariance, (covariance @ (moment / noise).unsqueeze(-1)).squeeze(-1)


def inverse(matrix: Tensor) -> Tensor:
    """Of positive definite matrices (..., d, d), by Gauss and Jordan in place: ONNX has no other.

    A step is ``M - (c - e) (r + e)' / p`` with column c, row r and pivot p of place k, and e its
    unit vector: all but row and column k as in an elimination, these two the inverse's.
    """
    size = matrix.shape[-1]
    units = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    for k in range(size):
        unit = units[k : k + 1]  # (1, d)
        row, column = matrix[..., k : k + 1, :], matrix[..., k : k + 1]
        pivot = row[..., k : k + 1]
        matrix = matrix - (column - unit.T) * ((row + unit) / pivot)
    return matrix


def _one_after_the_other(
    seen: Tensor,
    residuals: Tensor,
    asked: Tensor,
    before: tuple[Tensor, Tensor, Tensor],
    reads: Tensor,
) -> tuple[Tensor, Tensor]:
    """Prediction and variance for every target after the first of the history's rows.

    In the Cholesky factor of the rows' covariance, row after row, the first t columns belong to
    the first t rows: one factor answers for every prefix.

    Args:
        seen, residuals: (B, W, L, d) and (B, W, L) of the history.
        asked: (B, W, L, d) of the targets.
        before: covariance (B, W, d, d) and mean (B, W, d) of the taste, and the noise.
        reads: (L, T) or (B, W, L, T), the rows that a target knows: the first ones, how many ever.
    """
    covariance, mean, noise = before
    moved = asked @ covariance  # (B, W, L, d)
    among = seen @ covariance @ seen.transpose(-1, -2)  # (B, W, L, L)
    eye = torch.eye(among.shape[-1], dtype=among.dtype, device=among.device)
    factor = torch.linalg.cholesky(among + noise * eye)
    mean = mean.unsqueeze(-1)  # (B, W, d, 1)
    news = residuals.unsqueeze(-1) - seen @ mean
    right = torch.cat([news, seen @ moved.transpose(-1, -2)], dim=-1)
    solved = torch.linalg.solve_triangular(factor, right, upper=False)
    part = solved[..., 1:] * reads  # (B, W, L, T)
    prediction = (asked @ mean).squeeze(-1) + (part * solved[..., :1]).sum(-2)
    variance = (moved * asked).sum(-1) - part.square().sum(-2)
    return prediction, variance
