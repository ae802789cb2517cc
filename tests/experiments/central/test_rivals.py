"""Scores of pooled rivals worked by hand, or by the definition in plain loops."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import sparse

from mrff.config import ConfigError
from mrff.experiments.central.closed_forms import EASE_DECAYS, SLIT_AGES, ease, slit
from mrff.experiments.central.factorisation import ALS_FACTORS, bpr, ials
from mrff.experiments.central.neighbours import (
    RULE_ITEMS,
    cosine,
    follow_shares,
    item_knn,
    nearest,
    popularity,
    rules,
)
from mrff.experiments.central.ranking import Grid, Training
from mrff.linear import Sequences, sequences_of
from mrff.linear.base import decay
from mrff.linear.rules import Rules
from mrff.linear.slit import Slit

# users 0, 1, 2 met: 0 1 2; 0 2; 1 3 0 1
ITEMS = np.array([0, 1, 2, 0, 2, 1, 3, 0, 1])
BY_HAND = Training(Sequences(ITEMS, np.array([0, 3, 5, 9]), 4), seed=0)
MET = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1]], dtype=float)


def many(users: int = 40, items: int = 15) -> Training:
    """Everybody walks along the items from a place of their own, with a step of 1 or 2."""
    random = np.random.default_rng(0)
    rows = [
        (random.integers(items) + np.cumsum(random.integers(1, 3, size))) % items
        for size in random.integers(4, 9, users)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Training(Sequences(np.concatenate(rows), offsets, items), seed=3)


def test_popularity_by_hand() -> None:
    (only,) = popularity(BY_HAND)
    history = sparse.csr_matrix((2, 4))
    assert only.score(np.arange(2), history).tolist() == [[3, 3, 2, 1]] * 2


def test_items_left_out_are_not_popular() -> None:
    part = sequences_of(np.array([1, 3]), ITEMS, BY_HAND.sequences.offsets)
    (only,) = popularity(Training(part, 0))
    assert only.score(np.arange(1), sparse.csr_matrix((1, 2))).tolist() == [[3, 1]]


def test_cosine_and_neighbours_by_hand() -> None:
    alike = cosine(sparse.csr_matrix(MET))
    expected = np.zeros((4, 4))
    for i, j in np.ndindex(4, 4):
        if i != j:
            together = MET[:, i] @ MET[:, j]
            expected[i, j] = together / np.sqrt(MET[:, i].sum() * MET[:, j].sum())
    np.testing.assert_allclose(alike.toarray(), expected)
    # column 0: 2/sqrt 6 with items 1 and 2, 1/sqrt 3 with 3: of equals the upper row is kept
    one = nearest(alike, 1).toarray()
    assert np.flatnonzero(one[:, 0]).tolist() == [1]
    assert np.flatnonzero(nearest(alike, 2).toarray()[:, 0]).tolist() == [1, 2]
    np.testing.assert_allclose(nearest(alike, 9).toarray(), expected)


def test_item_knn_sums_similarities_of_the_history() -> None:
    candidates = {candidate.told: candidate for candidate in item_knn(BY_HAND)}
    history = sparse.csr_matrix(np.array([[0.0, 0.5, 1.0, 0.0]]))
    scores = candidates["50 neighbours, decay 0.7"].score(np.zeros(1, dtype=int), history)
    alike = cosine(sparse.csr_matrix(MET)).toarray()
    np.testing.assert_allclose(scores[0], 0.5 * alike[1] + alike[2])
    assert candidates["50 neighbours, decay 0.7"].decay == 0.7


def test_rules_by_hand_and_as_the_federation_counts_them() -> None:
    """After 0: 1 at once and 2 at half weight; 2; 1. After 1: 2; 3, 0 at a half, 1 at a quarter."""
    shares = follow_shares(BY_HAND, decay(0.5, RULE_ITEMS)).toarray()
    np.testing.assert_allclose(shares[0], np.array([0, 2, 1.5, 0]) / 3.5)
    np.testing.assert_allclose(shares[1], np.array([0.5, 0.25, 1, 1]) / 2.75)
    assert shares[2].tolist() == [0, 0, 0, 0]
    training = many()
    sums = Slit().sums(training.sequences)
    federated = Rules().solve(sums, training.sequences.size)
    np.testing.assert_allclose(follow_shares(training, Slit.ages).toarray(), federated)
    candidates = {candidate.told: candidate for candidate in rules(BY_HAND)}
    history = sparse.csr_matrix(np.array([[1.0, 0.0, 0.0, 0.0]]))
    counted = follow_shares(BY_HAND, decay(0.9, RULE_ITEMS)).toarray()
    found = candidates["decay 0.9 in counting, 0.6 in scoring"]
    np.testing.assert_allclose(found.score(np.zeros(1, dtype=int), history)[0], counted[0])
    assert found.decay == 0.6


def test_ease_is_the_best_matrix_without_a_diagonal() -> None:
    """Of each column: the gradient of |X - X B|^2 + ridge |B|^2 is 0 beside the diagonal."""
    training = many()
    met = training.sequences.whole().toarray()
    candidates = list(ease(training))
    size = training.sequences.size
    for candidate in candidates[:: len(EASE_DECAYS)]:
        ridge = float(candidate.told.split()[1].rstrip(","))
        weights = candidate.score(np.arange(size), sparse.csr_matrix(np.eye(size)))
        assert (np.diag(weights) == 0).all()
        gradient = met.T @ (met @ weights - met) + ridge * weights
        np.testing.assert_allclose(gradient - np.diag(np.diag(gradient)), 0, atol=1e-3)


def test_slit_is_ridge_regression_from_the_decayed_history() -> None:
    training = many()
    for candidate in slit(training):
        ridge = float(candidate.told.split()[1].rstrip(","))
        sequences, ages = training.sequences, decay(candidate.decay, SLIT_AGES)
        users, places = sequences.targets()
        history = sequences.before(users, places, ages).toarray()
        following = np.eye(sequences.size)[sequences.items[places]]
        size = sequences.size
        weights = candidate.score(np.arange(size), sparse.csr_matrix(np.eye(size)))
        gradient = history.T @ (history @ weights - following) + ridge * weights
        np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_ials_solves_for_a_history_with_confidence_that_falls_with_age() -> None:
    training = many()
    history = sparse.csr_matrix(np.array([[0.5, 0, 1.0] + [0] * 12]))
    for candidate in ials(training):
        words = candidate.told.replace(",", "").split()
        ridge, alpha = float(words[3]), float(words[5])
        model = candidate.score.keywords["model"]  # type: ignore[attr-defined]
        items = model.item_factors.astype(np.float64)
        confidence = 1.0 + alpha * history.toarray()[0]
        wanted = np.array([1, 0, 1] + [0] * 12)
        left = items.T @ (confidence[:, None] * items) + ridge * np.eye(items.shape[1])
        user = np.linalg.solve(left, items.T @ (confidence * wanted))
        found = candidate.score(np.zeros(1, dtype=int), history)[0]
        np.testing.assert_allclose(found, items @ user, rtol=1e-2, atol=1e-4)
        assert items.shape == (15, int(words[0]))
        assert int(words[0]) in ALS_FACTORS


@pytest.mark.parametrize("grid", [ials, bpr])
def test_factors_rank_what_a_user_met_above_the_rest(grid: Grid) -> None:
    training = many()
    met = training.sequences.whole()
    scores = next(grid(training)).score(np.arange(40), met)
    inside = met.toarray() > 0
    assert scores[inside].mean() > scores[~inside].mean()


@pytest.mark.parametrize("grid", [ials, bpr])
def test_factors_are_drawn_by_the_seed(grid: Grid) -> None:
    training = many()
    met = training.sequences.whole()
    first, again, other = (
        next(grid(Training(training.sequences, seed))).score(np.arange(40), met)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("grid", [ials, bpr])
def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, grid: Grid) -> None:
    for name in ("implicit", "implicit.cpu", "implicit.cpu.als", "implicit.cpu.bpr"):
        monkeypatch.setitem(sys.modules, name, None)
    name = grid.__name__  # type: ignore[attr-defined]
    line = rf"method {name} needs the package implicit, .*pip install 'mrff\[rivals\]'"
    with pytest.raises(ConfigError, match=line):
        next(grid(many()))
