"""What the head reads beside the network: by hand, against a plain solution, and what leaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mrff_model.batch import Batch
from mrff_model.inputs import InputShape, KnownBefore, inputs_of, starts_of
from mrff_model.inputs.factors import SCALE, VARIANCE_SCALE, ClosedFormFactors, inverse
from mrff_model.inputs.kinds import KindRates, kind_sums
from mrff_model.inputs.residuals import SCALE as MEANS
from mrff_model.inputs.residuals import Residuals
from mrff_model.item_statistics import ITEM_RIDGE, ItemStatistics

ITEMS, DIM = 9, 3
WANTED = InputShape(("genre", "tags"), DIM, kinds=True)


def statistics(seed: int, dim: int = DIM) -> ItemStatistics:
    random = torch.Generator().manual_seed(seed)
    found = ItemStatistics(ITEMS + 1, dim)
    met = torch.randint(5, 30, (ITEMS + 1,), generator=random).float()
    liked = (met * torch.rand(ITEMS + 1, generator=random)).floor()
    with torch.no_grad():
        found.rates.copy_(torch.stack([met, liked], dim=1))
        found.rates[0] = 0.0
        found.prior.copy_(torch.tensor([0.6, 0.2]))
        if found.vectors is not None:
            found.vectors.copy_(torch.randn(ITEMS + 1, dim, generator=random) * 0.5)
            found.vectors[0] = 0.0
    return found


def history(seed: int, lengths: tuple[int, ...], past: int) -> tuple[Tensor, Tensor]:
    """Items and labels of one user: those before the windows, then those of the windows."""
    random = torch.Generator().manual_seed(seed)
    rows = past + sum(lengths)
    items = torch.randint(1, ITEMS + 1, (rows,), generator=random)
    return items, torch.randint(0, 2, (rows,), generator=random).float()


def batch_of(items: Tensor, labels: Tensor, lengths: tuple[int, ...], counted: Tensor) -> Batch:
    """One user's windows of these lengths, and what is before them."""
    past, width = len(items) - sum(lengths), max(lengths)
    shape = (1, len(lengths), width)
    shown, feedback = torch.zeros(shape).long(), torch.zeros(shape).long()
    targets, known = torch.zeros(shape).long(), torch.zeros(shape)
    real, flags = torch.zeros(shape).bool(), torch.zeros(2, *shape).bool()
    start = past
    for window, length in enumerate(lengths):
        rows = slice(start, start + length)
        targets[0, window, :length], known[0, window, :length] = items[rows], labels[rows]
        real[0, window, :length], flags[1, 0, window, :length] = True, counted[rows]
        before = slice(start, start + length - 1)
        shown[0, window, 1:length] = items[before]
        feedback[0, window, 1:length] = labels[before].long() + 1
        flags[0, 0, window, 1:length] = counted[before]
        start += length
    earlier = (items[:past], labels[:past].long() + 1, counted[:past])
    return Batch(
        shown, feedback, targets, known, real, real, {},
        counted=(flags[0], flags[1]), past=tuple(field[None] for field in earlier),
    )  # fmt: skip


def known_of(
    found: ItemStatistics,
    batch: Batch,
    targets: Tensor | None = None,
    until: Tensor | None = None,
    alone: bool = False,
) -> KnownBefore:
    """With a feature of one value and one of several, made of the item's number."""
    wanted = batch.targets if targets is None else targets

    def codes(of: Tensor) -> dict[str, Tensor]:
        genre = torch.where(of > 0, of % 3 + 1, 0)
        tags = torch.stack([torch.where(of > 0, of % 2 + 1, 0), torch.where(of > 5, 3, 0)], -1)
        return {"genre": genre, "tags": tags}

    sizes = {"genre": 4, "tags": 4}
    if targets is not None:
        until = None
    elif until is None:
        until = torch.arange(batch.items.shape[-1])
    return KnownBefore(
        found, batch, wanted, until, codes(batch.items), codes(wanted), sizes,
        codes(torch.arange(ITEMS + 1)), alone,
    )  # fmt: skip


def solved_for(
    found: ItemStatistics, items: Tensor, labels: Tensor, counted: Tensor, asked: int
) -> tuple[float, float]:
    """Prediction and variance of row ``asked`` by the rows before it, in plain algebra."""
    assert found.vectors is not None
    vectors = found.vectors.detach().double()[items]
    above = found.residuals(items, labels, counted.float()).detach().double()
    noise, eye = float(found.prior[1]), torch.eye(DIM).double()
    own = counted.bool()
    taste = torch.linalg.solve(
        eye + vectors[own].T @ vectors[own] / noise, vectors[own].T @ above[own] / noise
    )
    weight = counted.double() / (found.rates.detach().double()[items, 0] + ITEM_RIDGE)
    error = above - vectors @ taste
    step = weight * error / (1 - (weight * (taste @ taste)).clamp(max=0.9))
    vectors = vectors - step[:, None] * taste
    before = vectors[:asked]
    covariance = torch.linalg.inv(eye + before.T @ before / noise)
    mean = covariance @ before.T @ above[:asked] / noise
    return float(vectors[asked] @ mean), float(vectors[asked] @ covariance @ vectors[asked])


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([((4,), 0), ((5,), 6), ((3, 4), 0), ((2, 5, 4), 3)]),
    st.booleans(),
)
def test_every_target_is_predicted_by_a_ridge_regression_on_the_rows_before_it(
    seed: int, shape: tuple[tuple[int, ...], int], all_counted: bool
) -> None:
    lengths, past = shape
    found = statistics(seed)
    items, labels = history(seed, lengths, past)
    counted = torch.arange(len(items)) < (len(items) if all_counted else len(items) - 2)
    batch = batch_of(items, labels, lengths, counted)
    with torch.no_grad():
        predictions, variances = ClosedFormFactors().columns(known_of(found, batch))
    row = past
    for window, length in enumerate(lengths):
        for place in range(length):
            mean, variance = solved_for(found, items, labels, counted, row)
            assert float(predictions[0, window, place]) / SCALE == pytest.approx(mean, abs=1e-4)
            measured = float(variances[0, window, place]) / VARIANCE_SCALE
            assert measured == pytest.approx(variance, abs=1e-4)
            row += 1


@pytest.mark.parametrize("past", [0, 5])
def test_an_item_asked_about_after_the_history_reads_what_a_next_target_would(past: int) -> None:
    found, lengths = statistics(3), (6,)
    items, labels = history(4, lengths, past)
    counted = torch.arange(len(items)) < len(items) - 1  # the last row is a held-out one
    with torch.no_grad():
        whole = known_of(found, batch_of(items, labels, lengths, counted))
        expected = torch.stack(
            [c.expand(whole.targets.shape) for c in inputs_of(whole, WANTED)], dim=-1
        )[0, 0, -1]
        batch = batch_of(items, labels, lengths, counted)
        asked = torch.arange(1, ITEMS + 1)[None, None]
        newest = known_of(found, batch, asked)
        columns = torch.stack([c.expand(asked.shape) for c in inputs_of(newest, WANTED)], dim=-1)
    assert len(expected) == len(starts_of(WANTED))
    assert torch.allclose(columns[0, 0, items[-1] - 1], expected, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([((7,), 4), ((3, 4), 2)]))
def test_a_label_reaches_no_input_of_its_own_row_or_of_an_earlier_one(
    seed: int, shape: tuple[tuple[int, ...], int]
) -> None:
    lengths, past = shape
    items, labels = history(seed, lengths, past)
    counted = torch.zeros(len(items)).bool()  # held-out rows: in no public sum
    flipped = past + seed % sum(lengths)
    other = labels.clone()
    other[flipped] = 1.0 - other[flipped]

    def rows_of(values: Tensor) -> Tensor:
        known = known_of(statistics(seed), batch_of(items, values, lengths, counted))
        columns = [c.expand(known.targets.shape) for c in inputs_of(known, WANTED)]
        return torch.stack(columns, dim=-1)[known.batch.real].detach()  # (rows, R), in time order

    before, after = rows_of(labels), rows_of(other)
    own = flipped - past
    assert torch.equal(before[: own + 1], after[: own + 1])
    assert own + 1 == len(before) or not torch.equal(before[own + 1 :], after[own + 1 :])


def test_a_counted_row_is_taken_out_of_its_items_rate() -> None:
    found = ItemStatistics(3, 0)
    with torch.no_grad():
        found.rates.copy_(torch.tensor([[0.0, 0.0], [4.0, 3.0], [1.0, 1.0]]))
        found.prior.copy_(torch.tensor([0.6, 0.2]))
    items, labels = torch.tensor([1, 1, 2, 2]), torch.tensor([1.0, 0.0, 1.0, 1.0])
    rate, count = found.rest(items, labels, torch.tensor([1.0, 1.0, 1.0, 0.0]))
    # (3 - 1 + 5 * 0.6) / (4 - 1 + 5); (3 + 3) / 8; nobody else: 0.6; one other: (1 + 3) / 6
    assert torch.allclose(rate, torch.tensor([0.625, 0.75, 0.6, 2 / 3]))
    assert count.tolist() == [3.0, 3.0, 0.0, 1.0]
    residuals = found.residuals(items, labels, torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert torch.allclose(residuals, torch.tensor([0.375, -0.75, 0.4, 1 / 3]))


def test_residuals_by_hand() -> None:
    """Items 1 (genre 2), 3 (genre 1), 1: liked, not liked, asked."""
    found = ItemStatistics(ITEMS + 1, 0)
    with torch.no_grad():
        found.rates[1] = torch.tensor([15.0, 9.0])
        found.rates[3] = torch.tensor([5.0, 1.0])
        found.prior.copy_(torch.tensor([0.5, 0.2]))
    items, labels = torch.tensor([1, 3, 1]), torch.tensor([1.0, 0.0, 1.0])
    batch = batch_of(items, labels, (3,), torch.zeros(3).bool())
    columns = Residuals().columns(known_of(found, batch))
    last = {n: float(c.expand(1, 1, 3)[0, 0, 2]) for n, c in enumerate(columns)}
    rate = (9 + 2.5) / 20
    first, second = 1 - rate, 0 - (1 + 2.5) / 10
    assert last[0] == pytest.approx(float(np.log(rate / (1 - rate))))
    assert last[1] == pytest.approx(0.75 * float(np.log1p(15)))
    assert last[2] == pytest.approx(MEANS * second / 3)  # the latest one, and a prior of two
    assert last[3] == pytest.approx(MEANS * (first + second) / 4)
    assert last[7] == pytest.approx(
        MEANS * (first + second) / 7
    )  # all of them, and a prior of five
    assert last[8] == pytest.approx(MEANS * first / 3, abs=5e-3)  # of the same genre, on a grid


def test_nothing_is_read_where_nothing_is_known() -> None:
    """Before the sums: no vectors, no counts, everybody likes half of everything."""
    items, labels = history(0, (4,), 0)
    batch = batch_of(items, labels, (4,), torch.ones(4).bool())
    columns = inputs_of(known_of(ItemStatistics(ITEMS + 1, DIM), batch), WANTED)
    assert all(bool(column.isfinite().all()) for column in columns)
    assert float(columns[0].abs().max()) < 1e-6
    assert float(columns[-2].abs().max()) < 1e-6


def test_the_same_bits_whomever_a_user_is_computed_beside() -> None:
    """A longer user beside them pads their windows, and adds windows and rows before."""
    found = statistics(3, dim=16)
    lengths, past = (37, 29), 41
    items, labels = history(3, lengths, past)
    batch = batch_of(items, labels, lengths, torch.ones(len(items)).bool())
    for width, windows, earlier in [(38, 2, 41), (37, 2, 42), (65, 3, 41), (200, 4, 300)]:
        beside = _padded(batch, width, windows, earlier)
        with torch.no_grad():
            alone, padded = (
                inputs_of(known_of(found, given), InputShape(("genre",), 16, kinds=True))
                for given in (batch, beside)
            )
        for ours, theirs in zip(alone, padded, strict=True):
            column = theirs.expand(1, windows, width)[:, : len(lengths), : max(lengths)]
            real = batch.mask.expand_as(column)
            assert torch.equal(ours.expand_as(column)[real], column[real])


def _padded(batch: Batch, width: int, windows: int, past: int) -> Batch:
    """One user's batch as it is beside a user with so many windows, positions and rows before."""

    def pad(field: Tensor) -> Tensor:
        if field.dim() == 2:
            return torch.nn.functional.pad(field, (0, past - field.shape[1]))
        return torch.nn.functional.pad(
            field, (0, width - field.shape[2], 0, windows - field.shape[1])
        )

    return batch.map(pad)


def test_the_inverse_is_the_inverse() -> None:
    random = torch.Generator().manual_seed(0)
    root = torch.randn(5, 4, 16, 16, generator=random)
    matrix = root @ root.transpose(-1, -2) + 0.5 * torch.eye(16)
    assert torch.allclose(inverse(matrix) @ matrix, torch.eye(16), atol=2e-3)


def test_labels_that_are_not_known_yet_are_not_read() -> None:
    """Targets 2 to 4 come at one moment: each knows what target 2 does, target 5 all of them."""
    found, (items, labels) = statistics(5), history(6, (6,), 0)
    counted = torch.zeros(6).bool()
    until = torch.tensor([[[0, 1, 2, 2, 2, 5]]])

    def rows_of(values: Tensor) -> Tensor:
        known = known_of(found, batch_of(items, values, (6,), counted), until=until, alone=True)
        columns = [c.expand(known.targets.shape) for c in inputs_of(known, WANTED)]
        return torch.stack(columns, dim=-1)[0, 0].detach()

    whole = rows_of(labels)
    for place in (2, 3):  # labels of targets 2 and 3
        other = labels.clone()
        other[place] = 1.0 - other[place]
        changed = rows_of(other)
        assert torch.equal(changed[:5], whole[:5])
        assert not torch.equal(changed[5], whole[5])
    # By the rows that are known alone, as if the others were not there.
    for target in (3, 4):
        places = torch.tensor([0, 1, target])
        mean, _ = solved_for(found, items[places], labels[places], counted[places], 2)
        assert float(whole[target, -2]) / SCALE == pytest.approx(mean, abs=1e-4)


def test_nothing_outside_of_the_window_is_read_where_that_is_the_rule() -> None:
    found, (items, labels) = statistics(7), history(8, (3, 4), 5)
    other = labels.clone()
    other[:8] = 1.0 - other[:8]  # before the windows, and in the first of them
    last = []
    for values in (labels, other):
        batch = batch_of(items, values, (3, 4), torch.zeros(12).bool())
        columns = inputs_of(known_of(found, batch, alone=True), WANTED)
        last.append(torch.stack([c.expand(1, 2, 4) for c in columns], dim=-1)[0, 1].detach())
    assert torch.equal(*last)


def test_a_kind_has_the_sums_of_its_items() -> None:
    rates = torch.tensor([[0.0, 0.0], [4.0, 3.0], [1.0, 1.0], [7.0, 0.0]])
    one = kind_sums(rates, torch.tensor([0, 2, 1, 2]), 4)
    assert one.tolist() == [[0, 0, 0], [1, 1, 1], [11, 3, 2], [0, 0, 0]]
    several = kind_sums(rates, torch.tensor([[0, 0], [1, 2], [2, 0], [0, 0]]), 3)
    assert several.tolist() == [[0, 0, 0], [4, 3, 1], [5, 4, 2]]


def test_kinds_by_hand() -> None:
    """Item 4 of genre 2 and tags 1; asked after item 1 (genre 2, tags 2) that is in the sums."""
    found = ItemStatistics(ITEMS + 1, 0)
    with torch.no_grad():
        found.rates[1] = torch.tensor([15.0, 9.0])
        found.rates[4] = torch.tensor([5.0, 1.0])
        found.rates[6] = torch.tensor([2.0, 2.0])  # genre 1, tags 1 and 3
        found.prior.copy_(torch.tensor([0.5, 0.2]))
    items, labels = torch.tensor([1, 4, 2]), torch.tensor([1.0, 0.0, 1.0])
    counted = torch.tensor([True, False, False])
    genre, tags = KindRates().columns(known_of(found, batch_of(items, labels, (3,), counted)))
    # genre 2 without the user's own row, and twenty rows of the overall rate: 9 - 1 + 1 of 19
    assert float(genre[0, 0, 1]) == pytest.approx(3 * float(np.log((9 + 10) / (39 - 19))), abs=1e-6)
    assert float(genre[0, 0, 0]) == float(genre[0, 0, 1])  # its own row, too, is taken out
    assert float(tags[0, 0, 1]) == pytest.approx(3 * float(np.log((3 + 10) / (27 - 13))), abs=1e-6)
    assert float(genre[0, 0, 2]) == 0.0  # item 2's genre was met by nobody


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([((7,), 4), ((3, 4), 2), ((4, 3), 0)]), st.booleans())
def test_no_kind_holds_a_label_of_the_user_who_is_asked(
    seed: int, shape: tuple[tuple[int, ...], int], alone: bool
) -> None:
    """The attack: labels come back from sums over few other users, of rows early and late."""
    lengths, past = shape
    items, labels = history(seed, lengths, past)
    counted = torch.arange(len(items)) < len(items) - 1  # the last row is held out
    others = statistics(seed, 0)

    def kinds_of(values: Tensor) -> Tensor:
        found = ItemStatistics(ITEMS + 1, 0)
        with torch.no_grad():
            found.prior.copy_(others.prior)
            rows = torch.stack([counted.float(), counted * values], dim=-1)
            found.rates.copy_(others.rates.index_add(0, items, rows))
        batch = batch_of(items, values, lengths, counted)
        return torch.stack(KindRates().columns(known_of(found, batch, alone=alone))).detach()

    flipped = labels.clone()
    row = seed % (len(items) - 1)
    flipped[row] = 1.0 - flipped[row]
    assert torch.equal(kinds_of(labels), kinds_of(flipped))
    whole = known_of(others, batch_of(items, labels, lengths, torch.zeros(len(items)).bool()))
    assert torch.equal(kinds_of(labels), torch.stack(KindRates().columns(whole)))
