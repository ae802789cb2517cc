"""Item statistics of private runs: bounded per user, noised, charged, and out of own inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.item_sums import factor_sums, item_counts, item_rates
from client_app.learners.base import training_batch
from client_app.learners.counted import weights_of
from client_app.node import Node, open_node
from mrff.config import ConfigError, RunConfig, full_names
from mrff.data.dataset import Dataset, load_dataset
from mrff.data.schema import Schema
from mrff.experiments.audits.bounds import bound_of_scores, separation_lower_bound
from mrff.ops.privacy_report import open_report
from mrff.privacy.accounting import Limit, Release, epsilon_of
from mrff.privacy.ledger import BudgetExceededError, Ledger
from mrff.privacy.mechanisms import MECHANISMS, mechanism_of
from mrff.privacy.mechanisms.shares import share_of
from mrff.privacy.noise import NoiseSource, predictable
from mrff.privacy.noised_items import ITEMS, MET, NoisyItems
from mrff.privacy.spending import WHOLE_DATASET
from mrff.sums import BadReplyError, CohortSums
from mrff.sums.cohort_sums import as_numbers
from mrff.wire.requests import Request, RoundFacts, RunFacts
from server_app.parts import server_view
from server_app.run.history import TIMED, read_history
from tests.support.federation import run_federation, shared_arrays
from tests.support.small_data import small_config, small_dataset

DELTA, STEPS = 1e-3, 4096
CENTRAL: dict[str, Any] = {"mode": "central-user", "delta": DELTA, "item_statistics": True}
DISTRIBUTED: dict[str, Any] = {
    "mode": "distributed-user", "secure_aggregation": True, "accountant": "rdp",
    "sampling_rate": 1.0, "delta": DELTA, "item_statistics": True,
}  # fmt: skip
BOTH = pytest.mark.parametrize("mode", [CENTRAL, DISTRIBUTED], ids=["central", "distributed"])


def items_of(mode: dict[str, Any], **changes: Any) -> NoisyItems:
    config = small_config(**{**mode, **changes})
    found = MECHANISMS[config.privacy.mode].items(config)
    assert found is not None
    return found


def vector_of(noisy: NoisyItems, dataset: Dataset, config: RunConfig) -> np.ndarray:
    """(items, 2) of all rows of all users, in training or not."""
    users = np.arange(dataset.num_users)
    weights = weights_of(dataset, users, config)
    assert weights is not None
    signed = np.repeat(weights, np.diff(dataset.offsets)) * (2.0 * dataset.labels - 1.0)
    return noisy.vector(dataset.items, signed, dataset.schema.num_items)


@BOTH
@pytest.mark.parametrize("rows", [1, 2, 7, 300, 10_000])
def test_one_user_adds_a_vector_of_norm_at_most_one_however_many_rows(
    mode: dict[str, Any], rows: int
) -> None:
    """On 12 items, so met again and again; all of one label is the worst there is."""
    config = small_config(**mode, holdout=0)
    noisy, dataset = items_of(mode), small_dataset((rows,))
    for labels in (dataset.labels, np.ones(rows, np.int8)):
        vector = vector_of(noisy, replace(dataset, labels=labels), config)
        norm = np.linalg.norm(vector)
        assert norm <= 1.0 + 1e-9
        if mode is DISTRIBUTED:  # whole steps of the grid: rounding adds nothing
            np.testing.assert_array_equal(vector * STEPS, np.rint(vector * STEPS))
    if rows in (1, 300):  # the norm is used up, but for less than a step per row
        assert norm > 0.95


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_a_user_who_is_not_there_moves_the_sum_by_at_most_one(seed: int, gone: int) -> None:
    for mode in (CENTRAL, DISTRIBUTED):
        config, noisy = small_config(**mode, holdout=0), items_of(mode)
        dataset = small_dataset((40, 5, 17, 3), seed=seed)
        keep = np.setdiff1d(np.arange(4), [gone])
        rows = np.concatenate([np.arange(*dataset.offsets[u : u + 2]) for u in keep])
        sizes = np.diff(dataset.offsets)[keep]
        without = replace(
            dataset, offsets=np.concatenate([[0], np.cumsum(sizes)]), items=dataset.items[rows],
            labels=dataset.labels[rows], user_keys=dataset.user_keys[keep],
            user_ids=dataset.user_ids[keep], same_time=dataset.same_time[rows],
        )  # fmt: skip
        moved = vector_of(noisy, dataset, config) - vector_of(noisy, without, config)
        assert 0.0 < np.linalg.norm(moved) <= 1.0 + 1e-9


def test_rates_by_hand() -> None:
    """Four users of one row and one item each: weight 1 / sqrt(1.25), three of them like it."""
    noisy = items_of(CENTRAL, item_noise=3.0)
    weight = 0.8**0.5
    np.testing.assert_allclose(noisy.weights(np.array([1.0, 4.0, 0.0])), [weight, weight / 2, 0])
    signed = weight * np.array([1.0, 1.0, -1.0, 1.0])
    vector = noisy.vector(np.array([2, 2, 2, 1]), signed, 3)
    np.testing.assert_allclose(vector, weight * np.array([[MET, 1], [3 * MET, 1], [0, 0]]))
    found = noisy.measured(CohortSums({ITEMS: vector}, as_numbers({"units": 4})))
    np.testing.assert_allclose(found.rates, weight * np.array([[1, 1], [3, 2], [0, 0]]))
    assert found.liked == pytest.approx(0.75)
    # rows weigh what they weigh; noise of 3 in the sign's half, and of 6 in a quarter of the count
    np.testing.assert_allclose(found.noise, [weight, 9 / 4 + (6 / 4) ** 2])


def asked(data: Path, home: Path, limits: dict[str, Any], **changes: Any) -> tuple[Node, Request]:
    config = small_config(**changes)
    run = RunFacts(Schema.load(data).schema_hash, "t", str(data), str(home))
    request = Request(run, RoundFacts(0), {}, {})
    node_config = {"partition-id": 0, "num-partitions": 1, **limits}
    return open_node(config.to_flat(), node_config, request), request


def inputs_of_training(node: Node, request: Request, prior: np.ndarray | None) -> Any:
    """(users, windows, positions, columns) that the head reads, and the prior; noise is fixed."""
    noisy, network = node.mechanism.items(node.config), node.mrff
    assert noisy is not None
    with predictable(3):
        sums = item_rates(node, request).sums
        if node.config.privacy.mode == "central-user":
            sums.updates[ITEMS] = NoiseSource().noised(sums.updates[ITEMS], 0.2)
        else:
            sums.updates[ITEMS] = sums.updates[ITEMS] / STEPS
    found = noisy.measured(sums)
    prior = np.array([found.liked, *found.noise]) if prior is None else prior
    assert network.item_statistics is not None
    assert network.item_statistics.noise is not None
    with torch.no_grad():
        network.item_statistics.rates[1:] = torch.from_numpy(found.rates)
        network.item_statistics.prior[0] = float(prior[0])
        network.item_statistics.noise.copy_(torch.from_numpy(prior[1:]))
    batch = training_batch(node.dataset, node.users, node.config)
    return network.rates_of(batch)[-1], prior


@BOTH
def test_flipping_a_label_changes_no_input_of_its_row_or_of_an_earlier_one(
    small_data: Path, tmp_path: Path, mode: dict[str, Any]
) -> None:
    """The attack by which a network learns its own labels: by what the sum says of their items.

    But for the share of all rows that was liked, which is one number of everybody.
    """
    node, request = asked(
        small_data, tmp_path, {}, **mode, window_length=8, max_windows_per_user="all",
        item_noise=0.2,
    )  # fmt: skip
    before, prior = inputs_of_training(node, request, None)
    user, position = 2, 5
    row = int(node.dataset.offsets[node.users[user]]) + position
    labels = node.dataset.labels.copy()
    labels[row] = 1 - labels[row]
    flipped = replace(node, dataset=replace(node.dataset, labels=labels))
    after, _ = inputs_of_training(flipped, request, prior)
    moved = (after - before).abs().amax(-1)  # (users, windows, positions)
    batch = training_batch(node.dataset, node.users, node.config)
    order = (batch.real[user].flatten().cumsum(0) - 1).view(batch.real[user].shape)
    earlier = batch.real[user] & (order <= position)
    assert earlier.sum() == position + 1
    tolerance = 1e-6 if mode is DISTRIBUTED else 1e-4  # multiples of the grid are exact
    assert moved[user][earlier].max() < tolerance
    assert moved[user][~earlier & batch.real[user]].max() > 0.01  # later rows know it
    same = torch.ones(len(moved), dtype=torch.bool)
    same[user] = False
    assert moved[same].max() > 0.001  # and so does everybody else who meets the item


@BOTH
def test_an_audit_finds_no_more_than_is_claimed_and_refutes_what_is_broken(
    mode: dict[str, Any],
) -> None:
    """Somebody with 400 rows is there or not, 3,000 times; who audits knows all that they add."""
    config, noisy = small_config(**mode, holdout=0), items_of(mode)
    rows = small_dataset((400,))
    canary = vector_of(noisy, replace(rows, labels=np.ones_like(rows.labels)), config)
    included = np.random.default_rng(1).random(3000) < 0.5

    def scores(vector: np.ndarray, noise: float) -> np.ndarray:
        """By the direction of the canary; noise as the mechanism makes it, times ``noise``."""
        source, found = NoiseSource(seed=1), []
        for there in included:
            if mode is CENTRAL:
                one = noise * source.gaussian(vector.shape, noisy.deviation)
            else:  # two of three nodes are honest
                share = share_of(noisy.release, 2)
                one = sum(source.skellam(vector.shape, share) for _ in range(2)) * noise / STEPS
            found.append(float(((there * vector + one) * canary).sum()))
        return np.array(found)

    claimed = epsilon_of([noisy.release], DELTA, "rdp")
    sound = scores(canary, 1.0)
    found = bound_of_scores(sound, included, delta=DELTA, confidence=0.99)
    assert found.epsilon <= claimed
    assert 0.1 < separation_lower_bound(sound, included, confidence=0.99) <= 1 / noisy.deviation
    for broken in (scores(canary, 0.4), scores(20.0 * canary, 1.0)):  # noise, clipping forgotten
        lower = separation_lower_bound(broken, included, confidence=0.99)
        assert lower > 1 / noisy.deviation


def test_what_leaves_a_node_of_distributed_user_is_noised_and_nothing_else(
    small_data: Path, tmp_path: Path
) -> None:
    node, request = asked(small_data, tmp_path, {}, **DISTRIBUTED, item_noise=1.5)
    node = replace(node, honest_nodes=3)
    replies = [item_rates(node, request).sums for _ in range(20)]
    for reply in replies:
        assert reply.updates.keys() == {ITEMS}
        assert reply.numbers.keys() == {"units", "noise_share"}
        assert reply.updates[ITEMS].dtype == np.int64
    drawn = np.stack([reply.updates[ITEMS] for reply in replies]) / STEPS
    assert drawn.shape[1:] == (node.dataset.schema.num_items, 2)
    spread = np.sqrt(drawn.var(axis=0, ddof=1).mean())
    assert spread == pytest.approx(1.5 / 3**0.5, rel=0.15)  # a third of it; 6 standard errors
    for query in (item_counts, factor_sums):
        with pytest.raises(ConfigError, match="answers no query about items"):
            query(node, request)


def test_a_server_that_asks_again_pays_again_until_the_node_refuses(
    small_data: Path, tmp_path: Path
) -> None:
    release = Release(2.0, 1.0, 1, "skellam", STEPS)
    once, twice = (epsilon_of([release.times(n)], DELTA, "rdp") for n in (1, 2))
    limits = {"epsilon-budget": 0.999 * twice, "delta": DELTA}
    node, request = asked(small_data, tmp_path, limits, **DISTRIBUTED)
    item_rates(node, request)
    with pytest.raises(BudgetExceededError, match="would bring epsilon from"):
        item_rates(node, request)
    ledger = Ledger(tmp_path / "privacy", node.dataset.schema.content_hash, "user")
    assert ledger.epsilon(ledger.users(), Limit(0.0, DELTA, "rdp")) == once
    other, request = asked(small_data, tmp_path, {}, **DISTRIBUTED)  # who sets none still counts
    item_rates(other, request)
    assert ledger.epsilon(ledger.users(), Limit(0.0, DELTA, "rdp")) == twice


@pytest.mark.parametrize(
    ("changes", "said"),
    [(CENTRAL, "budget of its own"), ({"item_statistics": True}, "answers no query about items")],
)
def test_a_node_with_a_budget_sends_nothing_that_is_not_noised(
    small_data: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    node, request = asked(small_data, tmp_path, {"epsilon-budget": 100.0}, **changes)
    with pytest.raises(ConfigError, match=said):
        item_rates(node, request)


def test_the_server_charges_every_time_and_not_beyond_the_budget(
    small_data: Path, tmp_path: Path
) -> None:
    twice = epsilon_of([Release(2.0, steps=2)], DELTA)
    config = small_config(
        **CENTRAL, noise_multiplier=50.0, epsilon_budget=1.01 * twice, home=str(tmp_path)
    )
    view = server_view(config, load_dataset(small_data).schema, "t")
    half = MECHANISMS["central-user"].server(view)
    for _ in range(2):
        half.spend_items()
    with pytest.raises(BudgetExceededError, match="does not allow"):
        half.spend_items()
    ledger = Ledger(tmp_path / "state/privacy-server", view.population, "user")
    assert ledger.releases(WHOLE_DATASET[0]) == (Release(2.0, steps=2),)


def test_the_servers_noise_is_what_is_charged_and_has_no_low_bits() -> None:
    config = small_config(**CENTRAL, item_noise=3.0, home="/nowhere")
    half = MECHANISMS["central-user"].server_half.__new__(  # type: ignore[attr-defined]
        MECHANISMS["central-user"].server_half  # type: ignore[attr-defined]
    )
    half.noisy_items, half.config = items_of(CENTRAL, item_noise=3.0), config
    zeros = CohortSums({ITEMS: np.zeros((2000, 2))}, as_numbers({"units": 9}))
    noisy = half.release_items(zeros).updates[ITEMS]
    assert noisy.std() == pytest.approx(3.0, rel=0.05)
    np.testing.assert_array_equal(noisy, noisy.astype(np.float32))


def test_impossible_replies_do_not_count() -> None:
    for mode, bad, said in (
        (CENTRAL, {"units": 2}, "items of 2 users of norm 1 have norm 3"),
        (DISTRIBUTED, {"units": 9, "noise_share": 0.5}, r"is 0.5 of what was promised"),
    ):
        noisy = items_of(mode)
        good = {"units": 9, **({"noise_share": 1.2} if mode is DISTRIBUTED else {})}
        vector = np.zeros((4, 2))
        vector[0, 0] = 3.0
        noisy.check(CohortSums({ITEMS: vector}, as_numbers(good)))
        with pytest.raises(BadReplyError, match=said):
            noisy.check(CohortSums({ITEMS: vector}, as_numbers(bad)))


def test_a_run_charges_every_user_once_says_so_and_goes_on_without_asking(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    alike: dict[str, Any] = {"nodes": 3, **DISTRIBUTED, "noise_multiplier": 3.0}
    run_federation(small_data, tmp_path, name="once", num_server_rounds=1, **alike)
    first = shared_arrays(tmp_path, "once")["item_statistics.rates"]
    history = read_history(tmp_path / "runs/once/history.jsonl")
    assert [entry["kind"] for entry in history] == ["query", "round", "test"]
    assert not any(entry.keys() & set(TIMED) for entry in history)
    exact = load_dataset(small_data)
    assert (first[1:] != np.rint(first[1:])).any()
    run_federation(small_data, tmp_path, name="", resume="once", num_server_rounds=2, **alike)
    arrays = shared_arrays(tmp_path, "once")
    np.testing.assert_array_equal(arrays["item_statistics.rates"], first)
    assert arrays["item_statistics.noise"][1] > 2.0**2 / 4  # 3 of 3 nodes answered, 2 are needed
    releases = [
        Release(2.0, 1.0, 1, "skellam", STEPS),  # the items, once
        Release(3.0, 1.0, 2, "skellam", STEPS),
        Release(4.0, 1.0, 2, "skellam", STEPS),  # each of the two ended with its test
    ]
    ledger = Ledger(tmp_path / "state/privacy", exact.schema.content_hash, "user")
    spent = [ledger.releases(int(key)) for key in exact.user_keys]
    assert {frozenset(history) for history in spent} == {frozenset(releases)}
    told = open_report(str(tmp_path / "runs/once"))
    epsilon = epsilon_of(releases, DELTA, "rdp")
    assert told.numbers()["epsilon"] == told.numbers()["epsilon_of_all_runs"] == epsilon
    assert "so is the sum of items" in "\n".join(told.sentences())


def test_who_goes_on_from_a_run_without_noise_counts_anew_with_it(
    small_data: Path, tmp_path: Path
) -> None:
    """What that run knew of items does not stand in for a noised sum, and costs no less."""
    alike: dict[str, Any] = {"nodes": 2, "num_server_rounds": 1}
    run_federation(small_data, tmp_path, name="exact", item_statistics=True, **alike)
    run_federation(small_data, tmp_path, name="on", start_from="exact", **CENTRAL, **alike)
    exact, noisy = (shared_arrays(tmp_path, name) for name in ("exact", "on"))
    assert "item_statistics.noise" not in exact
    rates = noisy["item_statistics.rates"][1:]
    assert (rates != exact["item_statistics.rates"][1:]).all()
    ledger = Ledger(
        tmp_path / "state/privacy-server", load_dataset(small_data).schema.content_hash, "user"
    )
    assert Release(2.0) in ledger.releases(WHOLE_DATASET[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "laplace"}, "noise of every node's own leaves nothing of its rates"),
        ({"mode": "local-dp-sgd"}, "the gradient of one record would read its user's other rows"),
        ({**DISTRIBUTED, "item_noise": 1e-3}, r"privacy.item-noise=0.001 .* too small"),
    ],
)
def test_modes_that_cannot_say_why_in_one_line(changes: dict[str, Any], said: str) -> None:
    values = {"item_statistics": True, **changes}
    flat = {name.replace("_", "-"): value for name, value in values.items()}
    with pytest.raises(ConfigError, match=said) as caught:
        mechanism_of(RunConfig.from_flat(full_names(flat)))
    assert "\n" not in str(caught.value)


@BOTH
def test_a_node_of_an_earlier_catalogue_sends_as_many_items_as_the_server_has(
    small_data: Path, tmp_path: Path, mode: dict[str, Any]
) -> None:
    """What it does not know is noised as well: zeros there would be told apart."""
    node, request = asked(small_data, tmp_path, {}, **mode)
    items = node.dataset.schema.num_items + 3
    grown = replace(request, run=replace(request.run, items=items))
    with predictable(3):
        came = item_rates(node, grown).sums.updates[ITEMS]
    assert came.shape == (items, 2)
    assert came[-3:].any() == (mode is DISTRIBUTED)  # in the other mode the server adds noise
