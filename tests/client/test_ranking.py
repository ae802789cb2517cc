"""Whom a held-out item is ranked against, and what an attack on the protocol would show."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from client_app.learners.base import work_on
from client_app.learners.cohort import CohortLearner
from client_app.learners.ranking import Ranking, history_of, ranks_of
from client_app.learners.serial import SerialLearner
from mrff.sums.sampling import drawn_items, user_keys
from tests.support.small_data import NUM_ITEMS, small_config, small_dataset
from tests.support.small_training import (
    EVERYBODY,
    SIZES,
    cohort_of,
    model_of,
    network_of,
    rounds_agree,
)


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_ranks_against_a_plain_loop(part: str) -> None:
    """Items met before a new answer are no candidates; the test item is one in validation."""
    dataset, users = small_dataset((9, 7, 14)), np.arange(3)
    torch.manual_seed(0)
    scores = torch.randint(0, 4, (3, 2, NUM_ITEMS)).double()  # with many ties
    found = ranks_of(scores.clone(), dataset, users, part)  # type: ignore[arg-type]
    for user in range(3):
        history = dataset.items[dataset.offsets[user] : dataset.offsets[user + 1]]
        end = len(history) - (2 if part == "valid" else 0)
        for number, place in enumerate((end - 2, end - 1)):
            target, met = history[place], set(history[:place].tolist())
            met = set() if target in met else met  # a repeated answer is ranked among all
            own = scores[user, number, target - 1]
            others = [
                scores[user, number, item - 1]
                for item in range(1, NUM_ITEMS + 1)
                if item not in met and item != target
            ]
            assert found.candidates[user, number] == len(others) + 1
            same = dataset.same_time[dataset.offsets[user] + place]
            assert found.apart[user, number] == (not same)
            assert found.better[user, number, 0] == sum(bool(other > own) for other in others)
            assert found.ties[user, number, 0] == sum(bool(other == own) for other in others)


def test_a_sampled_rank_is_among_unmet_items_and_the_same_wherever_a_user_is() -> None:
    dataset, users = small_dataset((9, 7, 14)), np.arange(3)
    torch.manual_seed(0)
    scores = torch.randn(3, 2, NUM_ITEMS)
    full = ranks_of(scores.clone(), dataset, users, "test", Ranking(lists=True))
    some = ranks_of(scores.clone(), dataset, users, "test", Ranking(drawn=3, lists=True))
    assert (some.candidates == np.minimum(full.candidates, 4)).all()
    assert (some.better <= np.minimum(full.better, 3)).all()
    np.testing.assert_array_equal(some.listed, full.listed)  # lists are of all candidates
    alone = ranks_of(scores[1:2].clone(), dataset, users[1:2], "test", Ranking(drawn=3))
    np.testing.assert_array_equal(alone.better, some.better[1:2])
    other = ranks_of(scores.clone(), dataset, users, "test", Ranking(drawn=3, seed=1))
    assert (other.better != some.better).any()
    every = ranks_of(scores.clone(), dataset, users, "test", Ranking(drawn=NUM_ITEMS))
    np.testing.assert_array_equal(every.better, full.better)


def test_lists_hold_the_best_unmet_items_and_nothing_else() -> None:
    dataset, users = small_dataset((9, 7, 14)), np.arange(3)
    torch.manual_seed(0)
    scores = torch.randn(3, 1, NUM_ITEMS)
    found = ranks_of(scores.clone(), dataset, users, "test", Ranking(lists=True))
    for user in range(3):
        history = dataset.items[dataset.offsets[user] : dataset.offsets[user + 1]]
        answer, met = history[-1], set(history[:-1].tolist())
        met = set() if answer in met else met
        order = (-scores[user, 0]).argsort() + 1
        best = [int(item) for item in order if int(item) not in met][:10]
        assert found.listed[user, 0].tolist() == best + [0] * (10 - len(best))
        assert found.met[user, 0] == (not met)


def test_linear_models_read_all_that_came_before_liked_or_not() -> None:
    dataset, users = small_dataset((9, 7, 14)), np.arange(3)
    until = dataset.offsets[1:] - 1
    items, offsets = history_of(dataset, users, until)
    assert offsets.tolist() == [0, 8, 14, 27]
    for user in range(3):
        rows = slice(dataset.offsets[user], until[user])
        assert items[offsets[user] : offsets[user + 1]].tolist() == dataset.items[rows].tolist()


def test_where_repeats_mean_something_candidates_do_not_tell_whether_the_answer_is_new() -> None:
    once, users = small_dataset((9, 7, 14)), np.arange(3)
    dataset = replace(once, schema=replace(once.schema, kind="events", repeats=True))
    torch.manual_seed(0)
    scores = torch.randn(3, 2, NUM_ITEMS)
    found = ranks_of(scores.clone(), dataset, users, "test", Ranking(lists=True))
    assert (found.candidates == NUM_ITEMS).all()
    order = (-scores).argsort(-1) + 1
    np.testing.assert_array_equal(found.listed, order[..., :10].numpy())
    for user in range(3):
        rows = dataset.items[dataset.offsets[user] : dataset.offsets[user + 1]].tolist()
        for number, place in enumerate((-2, -1)):
            rank = order[user, number].tolist().index(rows[place])
            assert found.better[user, number, 0] == rank
            assert found.met[user, number] == (rows[place] in rows[:place])
    told_apart = ranks_of(scores.clone(), once, users, "test")
    assert (told_apart.candidates < NUM_ITEMS).any()


def test_a_network_that_has_diverged_ranks_nothing_well() -> None:
    dataset = small_dataset((9, 7))
    found = ranks_of(torch.full((2, 1, NUM_ITEMS), float("nan")), dataset, np.arange(2), "test")
    assert (found.better[..., 0] == found.candidates - 1).all()
    some = torch.zeros(2, 1, NUM_ITEMS)
    for user in range(2):
        some[user, 0, dataset.items[dataset.offsets[user + 1] - 1] - 1] = float("nan")
    found = ranks_of(some, dataset, np.arange(2), "test")
    assert (found.better[..., 0] == found.candidates - 1).all()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "next"},
        {"objective": "next", "full_softmax_items": 5, "drawn_items": 6, "dropout": 0.3},
        {"objective": "next", "user_factors": True, "hidden_dim": 6, "drawn_items": 3},
        {"objective": "next", "max_windows_per_user": "all", "window_length": 5},
        {"objective": "next", "targets": "liked", "backbone": "hstu"},
        {"objective": "both", "next_weight": 0.3, "full_softmax_items": 5, "item_bias": True},
        {"objective": "both", "local_optimizer": "adam", "local_learning_rate": 0.03},
    ],
)
def test_cohort_equals_serial_when_the_next_item_is_learned(
    changes: dict[str, bool | int | float | str], steps: int
) -> None:
    rounds_agree(2, local_steps=steps, **changes)


@pytest.mark.parametrize("private", ["user", "head", "all"])
@pytest.mark.parametrize("part", ["valid", "test"])
def test_cohort_and_serial_rank_alike(private: str, part: str) -> None:
    config = small_config(
        objective="both", holdout=2, private_parameters=private, window_length=4, targets="liked"
    )
    dataset = small_dataset(tuple(size + 4 for size in SIZES))
    network = network_of(config, dataset)
    cohort = cohort_of(dataset, network, EVERYBODY)
    one, other = (
        learner(network, config).score(model_of(network), cohort, part)  # type: ignore[arg-type]
        for learner in (SerialLearner, CohortLearner)
    )
    assert one.ranks is not None
    assert other.ranks is not None
    np.testing.assert_array_equal(one.ranks.better, other.ranks.better)
    np.testing.assert_array_equal(one.ranks.candidates, other.ranks.candidates)
    np.testing.assert_array_equal(one.ranks.counts, one.labels > 0.5)
    np.testing.assert_array_equal(other.ranks.counts, one.labels > 0.5)
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-6)


def test_the_held_out_item_is_drawn_as_often_as_any_other() -> None:
    """A sampler that avoided what a user will meet would teach the network the answer."""
    users = np.arange(1, 2001, dtype=np.uint64) * np.uint64(7_777_777_777)
    drawn = np.stack(
        [drawn_items(user_keys(0, r, users, "drawn items"), 20, 50) for r in range(1, 6)]
    )
    held_out = (users % np.uint64(50)).astype(np.int64) + 1  # as good as any
    hits = (drawn == held_out[None, :, None]).mean()
    assert abs(hits - 1 / 50) < 4 * np.sqrt(1 / 50 / drawn.size)
    counts = np.bincount(drawn.ravel(), minlength=51)[1:]
    expected = drawn.size / 50
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 49 + 5 * np.sqrt(2 * 49)
    assert drawn.min() == 1
    assert drawn.max() == 50


def test_what_is_drawn_depends_on_round_and_user_and_not_on_their_history() -> None:
    config = small_config(objective="next", full_softmax_items=5, drawn_items=6)
    dataset = small_dataset(SIZES)
    network = network_of(config, dataset)
    cohort = cohort_of(dataset, network, EVERYBODY)
    like = next(network.parameters())
    drawn = work_on(model_of(network), cohort, config, like).batch.drawn[0]
    reversed_ = dataset.__class__(**{**dataset.__dict__, "items": dataset.items[::-1].copy()})
    again = work_on(model_of(network), cohort_of(reversed_, network, EVERYBODY), config, like)
    assert torch.equal(drawn, again.batch.drawn[0])
    alone = work_on(model_of(network), cohort.part(np.array([3])), config, like)
    assert torch.equal(drawn[3:4], alone.batch.drawn[0])
    later = model_of(network)
    later = later.__class__(2, later.public, later.group)
    assert not torch.equal(drawn, work_on(later, cohort, config, like).batch.drawn[0])
