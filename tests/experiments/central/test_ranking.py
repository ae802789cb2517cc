"""The protocol of pooled rivals: what is read, who is ranked among whom, what is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from mrff.config import ConfigError, RunConfig, full_names
from mrff.data.dataset import Dataset
from mrff.data.errors import DataError
from mrff.experiments.central.closed_forms import ease, slit
from mrff.experiments.central.factorisation import bpr, ials
from mrff.experiments.central.neighbours import item_knn, popularity, rules
from mrff.experiments.central.ranking import (
    WHOLE,
    Candidate,
    FullRanking,
    Grid,
    Training,
    rank_by,
    weights_by_age,
)
from mrff.linear.sequences import LEFT_OUT
from tests.support.small_data import NUM_ITEMS, small_dataset

SIZES = (9, 4, 14, 6, 3, 11)  # with k = 2 users 1 and 4 are too short: they only train
ELIGIBLE = [0, 2, 3, 5]
READ_HISTORY = (item_knn, rules, ease, slit, ials)
GRIDS = (*READ_HISTORY, popularity, bpr)


def config_of(**more: str | int) -> RunConfig:
    values: dict[str, str | int] = {"objective": "next", "holdout": 2}
    values |= {name.replace("_", "-"): value for name, value in more.items()}
    return RunConfig.from_flat(full_names(values))


def with_items(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Other items in the rows; no row keeps its own."""
    items = dataset.items.copy()
    items[rows] = items[rows] % NUM_ITEMS + 1
    return replace(dataset, items=items)


def training_rows(dataset: Dataset) -> list[np.ndarray]:
    """Everybody's, those of who is ranked first."""
    short = [user for user in range(len(SIZES)) if user not in ELIGIBLE]
    begin, end = dataset.offsets[:-1], dataset.offsets[1:]
    ranked = [np.arange(begin[user], end[user] - 4) for user in ELIGIBLE]
    return ranked + [np.arange(begin[user], end[user]) for user in short]


def training_part(dataset: Dataset) -> list[np.ndarray]:
    """The items of these rows."""
    return [dataset.items[rows] for rows in training_rows(dataset)]


def last_rows(dataset: Dataset, first: int, last: int) -> np.ndarray:
    """Of all who are ranked the rows ``first`` to ``last`` from their end; 1 is the last."""
    ends = dataset.offsets[1:][ELIGIBLE, None]
    return (ends - np.arange(last, first + 1)).ravel()


def all_scores(grid: Grid, protocol: FullRanking, part: str) -> list[np.ndarray]:
    rows = np.arange(len(protocol.users))
    return [
        protocol.scores(candidate, rows, part)  # type: ignore[arg-type]
        for candidate in grid(protocol.training)
    ]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.__name__)
def test_no_score_depends_on_what_is_to_come(grid: Grid) -> None:
    """Another last item changes nothing; other held-out items change no score of validation."""
    dataset, config = small_dataset(SIZES), config_of()
    plain = FullRanking(dataset, config)
    other_last = FullRanking(with_items(dataset, last_rows(dataset, 1, 1)), config)
    other_held_out = FullRanking(with_items(dataset, last_rows(dataset, 4, 1)), config)
    for one, other in zip(
        all_scores(grid, plain, "test"), all_scores(grid, other_last, "test"), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(
        all_scores(grid, plain, "valid"), all_scores(grid, other_held_out, "valid"), strict=True
    ):
        np.testing.assert_array_equal(one[:, 0], other[:, 0])


@pytest.mark.parametrize("grid", READ_HISTORY, ids=lambda grid: grid.__name__)
def test_validation_is_history_of_the_test_and_fitted_by_nothing(grid: Grid) -> None:
    dataset, config = small_dataset(SIZES), config_of()
    plain = FullRanking(dataset, config)
    changed = FullRanking(with_items(dataset, last_rows(dataset, 4, 3)), config)
    np.testing.assert_array_equal(plain.training.sequences.items, changed.training.sequences.items)
    for one, other in zip(
        all_scores(grid, plain, "test"), all_scores(grid, changed, "test"), strict=True
    ):
        assert not np.array_equal(one, other)


def test_what_a_fit_reads_by_hand() -> None:
    """Everybody's training rows, as columns of what was met in them."""
    dataset = small_dataset(SIZES)
    training = FullRanking(dataset, config_of()).training
    expected = training_part(dataset)
    known = np.unique(np.concatenate(expected))
    assert training.sequences.size == len(known)
    assert known[training.sequences.items].tolist() == np.concatenate(expected).tolist()
    assert np.diff(training.sequences.offsets).tolist() == [len(part) for part in expected]


def test_only_the_items_met_most_are_known_where_asked_for() -> None:
    dataset = small_dataset(SIZES)
    protocol = FullRanking(dataset, config_of(), most_items=3)
    whole = FullRanking(dataset, config_of())
    counts = np.bincount(whole.training.sequences.items)
    assert protocol.training.sequences.size == 3
    kept = protocol.training.sequences.items
    assert (kept != LEFT_OUT).sum() == np.sort(counts)[-3:].sum()
    candidate = next(popularity(protocol.training))
    scores = protocol.scores(candidate, np.arange(len(protocol.users)), "test")
    assert (np.count_nonzero(scores, axis=-1) == 3).all()
    asked = rank_by(popularity, dataset, config_of(linear_items=3), dense=True)
    every = rank_by(popularity, dataset, config_of(linear_items=3))
    assert asked.ranks.ties.max() > every.ranks.ties.max()  # 9 and more share the score 0


@pytest.mark.parametrize("part", ["valid", "test"])
def test_ranks_against_a_plain_loop(part: str) -> None:
    """By popularity: items met before a new answer are no candidates, unknown ones score 0."""
    dataset, config = small_dataset(SIZES), config_of()
    protocol = FullRanking(dataset, config)
    begin, end = dataset.offsets[:-1], dataset.offsets[1:]
    counts = np.bincount(np.concatenate(training_part(dataset)), minlength=NUM_ITEMS + 1)
    found = protocol.ranks(next(popularity(protocol.training)), part)  # type: ignore[arg-type]
    for row, user in enumerate(ELIGIBLE):
        first = end[user] - (4 if part == "valid" else 2)
        for number, place in enumerate((first, first + 1)):
            target, met = dataset.items[place], set(dataset.items[begin[user] : place].tolist())
            met = set() if target in met else met
            others = [
                counts[item] for item in range(1, NUM_ITEMS + 1) if item not in {*met, target}
            ]
            assert found.candidates[row, number] == len(others) + 1
            assert found.better[row, number, 0] == sum(n > counts[target] for n in others)
            assert found.ties[row, number, 0] == sum(n == counts[target] for n in others)


def guesses(*items: int) -> Grid:
    """A candidate per item, which scores that item above all others."""

    def grid(training: Training) -> Iterator[Candidate]:
        for item in items:
            scores = np.zeros(training.sequences.size)
            scores[item - 1] = 1.0
            yield Candidate(
                f"item {item}", lambda users, history, s=scores: np.broadcast_to(s, history.shape)
            )

    return grid


def ending_alike() -> Dataset:
    """Items 1 to 12 in turn, then 1 and 2: for everybody validation is 1 and the test 2."""
    dataset = small_dataset((14, 14, 14))
    items = np.tile(np.r_[np.arange(1, 13), 1, 2], 3).astype(np.int32)
    return replace(dataset, items=items)


def test_validation_chooses_and_the_test_follows() -> None:
    dataset, config = ending_alike(), config_of(holdout=1)
    told: dict[int, float] = {}
    found = rank_by(guesses(3, 1, 2), dataset, config, lambda n, m: told.update({n: m["ndcg10"]}))
    assert (found.best, found.chosen, found.tried) == (2, "item 1", 3)
    assert list(told) == [1, 2, 3]
    assert told[2] == 1.0 > told[3]
    # the candidate that would have been best in the test was not chosen
    assert found.ranks.better[:, 0, 0].tolist() == [1, 1, 1]


def test_another_metric_chooses_where_the_run_says_so() -> None:
    dataset = ending_alike()
    config = config_of(holdout=1, select_best_by="hr50")  # everybody's rank is below 50
    found = rank_by(guesses(3, 1), dataset, config)
    assert found.best == 1  # the first of equals


def test_clicks_cannot_choose_a_ranking() -> None:
    with pytest.raises(ConfigError, match="select-best-by=auc is not measured by this method"):
        rank_by(popularity, small_dataset(SIZES), config_of(select_best_by="auc"))


def test_users_shorter_than_the_split_are_refused() -> None:
    with pytest.raises(DataError, match="needs; use a smaller holdout"):
        rank_by(popularity, small_dataset(SIZES), config_of(holdout=30))


def test_liked_rows_are_a_choice_of_validation_where_they_are_the_targets() -> None:
    dataset = small_dataset(SIZES)
    config = config_of(targets="liked")
    liked = FullRanking(dataset, config, read="liked")
    expected = [dataset.items[of][dataset.labels[of] > 0] for of in training_rows(dataset)]
    known = np.unique(np.concatenate(expected))
    sequences = liked.training.sequences
    assert known[sequences.items].tolist() == np.concatenate(expected).tolist()
    assert np.diff(sequences.offsets).tolist() == [len(part) for part in expected]
    # the history of the first user's last item: their liked rows before it
    end = dataset.offsets[1] - 1
    history: list[np.ndarray] = []

    def keep(users: np.ndarray, before: object) -> np.ndarray:
        history.append(before.toarray())  # type: ignore[attr-defined]
        return np.zeros(before.shape)  # type: ignore[attr-defined]

    liked.scores(Candidate("", keep), np.array([0]), "test")
    before = dataset.items[:end][dataset.labels[:end] > 0]
    counts = np.bincount(before, minlength=NUM_ITEMS + 1)[known]
    assert history[-1][0].tolist() == counts.tolist()
    found = rank_by(popularity, dataset, config)
    assert found.tried == 2
    last = last_rows(dataset, 2, 1).reshape(-1, 2)[:, ::-1]
    assert found.ranks.counts.tolist() == (dataset.labels[last] > 0).tolist()


def test_weights_by_age() -> None:
    assert weights_by_age(WHOLE, 4).tolist() == [1, 1, 1, 1]
    halves = weights_by_age(0.5, 4)
    assert halves[:3].tolist() == [1, 0.5, 0.25]
    assert len(halves) == 10  # 2^-10 is below a thousandth
