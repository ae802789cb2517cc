"""The inputs of the head as a matrix: worked by hand, no label among its own, none to be read."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.learners.base import training_batch
from mrff.config import ConfigError, RunConfig, full_names
from mrff.data.dataset import Dataset, load_dataset
from mrff.data.errors import DataError
from mrff.data.floors import exact_auc
from mrff.data.prepare import prepare
from mrff.data.windows import training_users
from mrff.experiments.central import input_models
from mrff.experiments.central.input_models import (
    Fit,
    by_catboost,
    by_lightgbm,
    by_logistic,
    predict_by_inputs,
)
from mrff.experiments.central.inputs import InputRows, Inputs
from mrff.experiments.central.pooled import train_pooled
from mrff.experiments.central.statistics import fill_statistics
from tests.support.small_data import at_times, small_config, small_dataset, small_network
from tests.support.small_folders import write

ON: dict[str, Any] = {"item_statistics": True, "closed_form_factors": 3}
SIZES = (9, 4, 14, 6, 9, 12)


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("inputs") / "synthetic"
    prepare("synthetic", out=folder, options={"users": 300, "items": 40, "events_per_user": 30})
    return load_dataset(folder)


def config_of(**more: Any) -> RunConfig:
    """Every row trains."""
    values = {"max-windows-per-user": "all", "item-statistics": True, "closed-form-factors": 4}
    return RunConfig.from_flat(full_names({**values, **more}))


def test_rates_of_items_by_hand(tmp_path: Path) -> None:
    """Users 0 and 1 are of two folds; the last two rows of each are held out."""
    write(tmp_path, [[(1, 1), (2, 0), (1, 1), (1, 0), (2, 1)], [(1, 0), (3, 1), (2, 1), (1, 1)]])
    dataset = load_dataset(tmp_path)
    inputs = Inputs(dataset, config_of(**{"history-rates": False, "closed-form-factors": "off"}))
    train, (valid, test) = inputs.training(), inputs.held_out()
    assert train.labels.tolist() == [1, 0, 1, 0, 1]
    assert valid.labels.tolist() == [0, 1]
    assert test.labels.tolist() == [1, 1]

    def logit(liked: float, met: float, prior: float) -> float:
        rate = (liked + 5 * prior) / (met + 5)
        return float(np.log(rate / (1 - rate)))

    # User 0 reads what user 1 thinks: item 1 not liked, once of once; of two rows one was liked.
    prior = (1 + 0.5) / 3
    expected = [logit(0, 1, prior), logit(0, 0, prior), logit(0, 1, prior)]
    np.testing.assert_allclose(train.numbers[:3, 0], expected, rtol=1e-5)
    # User 1 reads what user 0 thinks: item 1 liked twice of twice; of three rows two were liked.
    prior = (2 + 0.5) / 4
    np.testing.assert_allclose(train.numbers[3, 0], logit(2, 2, prior), rtol=1e-5)
    assert train.numbers[3, 1] == pytest.approx(0.75 * np.log(3))
    # Held-out rows read both: item 1 was liked twice of three times, and three rows of five.
    prior = (3 + 0.5) / 6
    np.testing.assert_allclose(valid.numbers[0, 0], logit(2, 3, prior), rtol=1e-5)
    np.testing.assert_allclose(test.numbers[1, 0], logit(2, 3, prior), rtol=1e-5)


@pytest.mark.parametrize("holdout", [1, 2])
def test_a_label_is_in_no_input_of_its_row_or_of_an_earlier_one(holdout: int) -> None:
    dataset = small_dataset(SIZES, seed=1)
    config = small_config(holdout=holdout, max_windows_per_user="all", **ON)
    before = Inputs(dataset, config)
    train, held_out = before.training(), before.held_out()
    # every training row's own number: all of users' first ones
    begin = np.searchsorted(train.users, train.users)
    rows = dataset.offsets[train.users] + np.arange(len(train.users)) - begin
    for row in range(0, len(dataset.labels), 3):
        labels = dataset.labels.copy()
        labels[row] = 1 - labels[row]
        after = Inputs(replace(dataset, labels=labels), config)
        owner = int(np.searchsorted(dataset.offsets, row, side="right")) - 1
        mine = (train.users == owner) & (rows <= row)
        np.testing.assert_array_equal(after.training().numbers[mine], train.numbers[mine])
        if row in rows:
            continue
        np.testing.assert_array_equal(after.training().numbers, train.numbers)  # in no sum
        for now, then in zip(after.held_out(), held_out, strict=True):
            place = np.arange(len(then.users)) % holdout - holdout
            number = (
                dataset.offsets[then.users + 1] + place - (holdout if then is held_out[0] else 0)
            )
            unmoved = (then.users != owner) | (number <= row)
            np.testing.assert_array_equal(now.numbers[unmoved], then.numbers[unmoved])


def test_a_label_of_the_same_time_is_not_read() -> None:
    dataset = at_times(small_dataset(SIZES, seed=1), np.arange(sum(SIZES)) // 3)
    config = small_config(holdout=1, max_windows_per_user="all", same_time="unknown", **ON)
    test = Inputs(dataset, config).held_out()[1].numbers
    later = 0
    for place, end in enumerate(dataset.offsets[1:] - 1):  # of users, all of them long enough
        for row in (end - 1, end - 3):
            labels = dataset.labels.copy()
            labels[row] = 1 - labels[row]
            changed = Inputs(replace(dataset, labels=labels), config).held_out()[1].numbers
            assert dataset.times is not None
            if dataset.times[row] == dataset.times[end]:
                np.testing.assert_array_equal(changed[place], test[place])
                later += 1
            else:
                assert not np.array_equal(changed[place], test[place])
    assert later >= 3


def taken_out_again(dataset: Dataset, config: RunConfig) -> InputRows:
    """Training rows as a run has them: in the sums, and out of their own item's rate."""
    inputs = Inputs(dataset, config)
    fill_statistics(inputs._network, dataset, config)
    users = training_users(dataset)
    return inputs._rows(training_batch(dataset, users, config), users)


@pytest.fixture
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_models, "MOST_TREES", 200)


@pytest.mark.usefixtures("_few_trees")
@pytest.mark.parametrize("fit", [by_logistic, by_lightgbm, by_catboost])
def test_random_labels_cannot_be_read_from_other_users_rows(population: Dataset, fit: Fit) -> None:
    """Fitted to the rows of some users, it says nothing of others' rows, trained on or held out."""
    shuffled = np.random.default_rng(0).permutation(population.labels)
    random, config = replace(population, labels=shuffled), config_of(holdout=2)
    inputs = Inputs(random, config)
    assert abs(auc_among_others(inputs.training(), fit) - 0.5) < 0.04
    found = predict_by_inputs(fit, random, config)
    assert abs(exact_auc(found.labels.ravel(), found.logits.ravel()) - 0.5) < 0.07


@pytest.mark.usefixtures("_few_trees")
def test_the_attack_reads_labels_from_rows_that_are_taken_out_again(population: Dataset) -> None:
    """So it finds what it looks for: an item's count gives it away, its others' rate the label."""
    shuffled = np.random.default_rng(0).permutation(population.labels)
    random = replace(population, labels=shuffled)
    rows = taken_out_again(random, config_of(holdout=2))
    assert auc_among_others(rows, by_lightgbm) > 0.7


def auc_among_others(rows: InputRows, fit: Fit) -> float:
    """Of training rows of every second user, by a model of the others'."""
    one, other = rows.at(rows.users % 2 == 0), rows.at(rows.users % 2 == 1)
    (last,) = deque(fit(one, 0), maxlen=1)
    return exact_auc(other.labels, last.logits(other))


def test_what_the_data_holds_is_found(population: Dataset) -> None:
    looks: list[int] = []
    config = config_of(holdout=5)
    found = predict_by_inputs(by_logistic, population, config, lambda n, _: looks.append(n))
    assert looks == [1, 2, 3, 4]
    assert found.best in looks
    assert found.labels.shape == found.logits.shape == (300, 5)
    assert exact_auc(found.labels.ravel(), found.logits.ravel()) > 0.6


def test_pooled_training_reads_them_too_and_moves_none() -> None:
    dataset, config = small_dataset((9, 14, 6, 9, 12)), small_config(num_server_rounds=2, **ON)
    network = small_network(config, dataset)
    expected = small_network(config, dataset)
    fill_statistics(expected, dataset, config)
    train_pooled(network, dataset, config)
    assert network.item_statistics is not None
    assert expected.item_statistics is not None
    assert float(network.item_statistics.rates[:, 0].sum()) == sum((9, 14, 6, 9, 12)) - 2 * 5
    for name, value in expected.item_statistics.state_dict().items():
        np.testing.assert_array_equal(network.item_statistics.state_dict()[name], value)


@pytest.mark.parametrize(("package", "fit"), [("lightgbm", by_lightgbm), ("catboost", by_catboost)])
def test_a_missing_package_is_one_line(
    monkeypatch: pytest.MonkeyPatch, package: str, fit: Fit
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = rf"method {package}-inputs needs the package {package}, .*pip install 'mrff\[rivals\]'"
    with pytest.raises(ConfigError, match=line):
        predict_by_inputs(fit, small_dataset(SIZES), small_config())


def test_what_nothing_can_be_fitted_to_is_one_line() -> None:
    dataset = small_dataset(SIZES)
    fitted = partial(predict_by_inputs, by_logistic)
    with pytest.raises(ConfigError, match=r"objective=next has no inputs of clicks"):
        fitted(dataset, small_config(objective="next"))
    with pytest.raises(DataError, match="training rows have labels of one class"):
        fitted(replace(dataset, labels=np.ones_like(dataset.labels)), small_config())
    plain = replace(dataset.schema, user_features=())
    with pytest.raises(ConfigError, match="history-rates=false leaves no inputs"):
        fitted(replace(dataset, schema=plain), small_config(history_rates=False))
