"""The one test of a private run: bounded per user, noised, charged, and no other evaluation."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.evaluate import evaluate_round
from client_app.node import open_node
from mrff.config import ConfigError, RunConfig, full_names
from mrff.data.schema import Schema
from mrff.metrics import evaluation_of
from mrff.metrics.metric import LISTED, Ranks, Scored
from mrff.privacy.accounting import Limit, Release, epsilon_of
from mrff.privacy.ledger import Ledger
from mrff.privacy.noise import NoiseSource
from mrff.privacy.noised_evaluation import VECTOR, NoisyTest
from mrff.sums import CohortSums
from mrff.wire.requests import Request, RoundFacts, RunFacts
from mrff_model.building import initial_shared
from server_app.run.history import read_history
from tests.support.federation import run_federation
from tests.support.small_data import small_config

NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 40.0, -40.0, 4.0, -4.0])


def scored(logits: list[float], labels: list[int], better: int = 0) -> Scored:
    """One user with k held-out targets, whose answers have ``better`` candidates above them."""
    k = len(logits)
    ranks = Ranks.nothing_yet(1, k)
    ranks.better[:] = better
    routes = np.zeros((1, 2), dtype=np.int64)
    assert ranks.listed.shape == (1, k, LISTED)
    return Scored(np.array([logits]), np.array([labels]), routes, routes, ranks)


@given(st.data(), st.sampled_from(["click", "next", "both"]), st.integers(1, 5))
@settings(max_examples=60)
def test_whatever_the_scores_are_one_user_adds_a_vector_of_norm_at_most_one(
    data: st.DataObject, objective: str, holdout: int
) -> None:
    test = NoisyTest(small_config(mode="laplace", objective=objective, holdout=holdout))
    logits = data.draw(st.lists(NUMBERS, min_size=holdout, max_size=holdout))
    labels = data.draw(st.lists(st.integers(0, 1), min_size=holdout, max_size=holdout))
    user = scored(logits, labels, data.draw(st.integers(0, 20)))
    norm = np.linalg.norm(test.vector(test.evaluation.sums_of(user)).updates[VECTOR])
    assert norm <= 1.0 + 1e-9


def test_the_bound_is_reached_so_that_no_noise_is_wasted() -> None:
    """Every target in one bin, and as surprising as they count: norm 1 by hand."""
    test = NoisyTest(small_config(mode="laplace", holdout=3))
    worst = scored([-50.0] * 3, [1] * 3)
    vector = test.vector(test.evaluation.sums_of(worst)).updates[VECTOR]
    assert np.linalg.norm(vector) == pytest.approx(1.0)
    assert sorted(vector)[-2:] == pytest.approx([0.5**0.5] * 2)


def test_without_noise_the_measures_are_those_of_exact_sums() -> None:
    config = small_config(mode="laplace", objective="both", holdout=2)
    test, plain = NoisyTest(config), evaluation_of(config, private=True)
    sums = CohortSums()
    for place in range(40):
        user = scored([0.1 * place - 2.0, 1.0], [place % 2, 1], place)
        sums += plain.sums_of(user)
    found = plain.measures(test.measured(test.vector(sums)))
    wanted = plain.measures(sums)
    told = {name for name, value in wanted.items() if value is not None}
    assert told == {"auc", "auc_error_bound", "log_loss", "calibration_error", "hr10", "ndcg10"}
    for name in told:
        assert found[name] == pytest.approx(wanted[name]), name


def test_the_noise_has_the_deviation_that_is_charged() -> None:
    test = NoisyTest(small_config(mode="laplace", test_noise=3.0))
    assert test.release == Release(3.0)
    empty = test.vector(test.evaluation.sums_of(scored([0.0], [1])))
    draws = [test.noised(empty, NoiseSource()).updates[VECTOR] - empty.updates[VECTOR]
             for _ in range(100)]  # fmt: skip
    assert np.std(draws) == pytest.approx(3.0, rel=0.05)
    record = small_config(mode="local-dp-sgd", unit="record", test_noise=3.0)
    assert NoisyTest(record).release == Release(1.5)


def guesses(config: RunConfig, two: list[Scored], rounds: int) -> float:
    """The share that an attacker guesses right of what a one-user node sends.

    They chose the model and know of the user all but one thing: which of ``two`` they are.
    """
    test, right = NoisyTest(config), 0
    likely = [test.vector(test.evaluation.sums_of(user)) for user in two]
    between = likely[1].updates[VECTOR] - likely[0].updates[VECTOR]
    middle = (likely[1].updates[VECTOR] + likely[0].updates[VECTOR]) / 2
    for attempt in range(rounds):
        vector = test.noised(likely[attempt % 2], NoiseSource()).updates[VECTOR]
        right += int((vector - middle) @ between > 0) == attempt % 2
    return right / rounds


@pytest.mark.parametrize(
    ("objective", "two"),
    [
        ("click", [scored([0.0], [0]), scored([0.0], [1])]),  # where the score lies, the label is
        ("next", [scored([0.0], [1], 20), scored([0.0], [1], 0)]),  # the suspected item is first
    ],
    ids=["histograms", "ranks"],
)
def test_a_crafted_model_reads_exact_sums_and_not_noisy_ones(
    objective: str, two: list[Scored]
) -> None:
    """Of exact sums all are right; with noise no more than epsilon allows."""
    exact = evaluation_of(small_config(histogram_bins=65536, objective=objective), private=False)
    sums = [exact.sums_of(user).numbers for user in two]
    assert any((sums[0][name] != sums[1][name]).any() for name in sums[0])
    faint, usual = (small_config(mode="laplace", objective=objective, **noise)
                    for noise in ({"test_noise": 0.05}, {}))  # fmt: skip
    assert guesses(faint, two, 200) > 0.98
    found, epsilon = guesses(usual, two, 2000), epsilon_of([Release(4.0)], 1e-5)
    assert found < np.exp(epsilon) / (1 + np.exp(epsilon)) + 0.03
    assert found < 0.65


def ask(data: Path, home: Path, part: str, limits: dict[str, Any], **changes: Any) -> Any:
    """One evaluation by a node, as the server's message asks for it."""
    config = small_config(**changes)
    run = RunFacts(Schema.load(data).schema_hash, "t", str(data), str(home))
    node_config = {"partition-id": 0, "num-partitions": 1, **limits}
    request = Request(run, RoundFacts(1, part=part), {}, {})  # type: ignore[arg-type]
    node = open_node(config.to_flat(), node_config, request)
    return evaluate_round(node, Request(run, request.facts, *initial_shared(node.network)))


@pytest.mark.parametrize("mode", ["local-dp-sgd", "central-user", "laplace"])
def test_private_runs_have_no_validations_and_a_node_answers_none(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    with pytest.raises(ConfigError, match="one test and no validations"):
        ask(small_data, tmp_path, "valid", {}, mode=mode)
    sums = ask(small_data, tmp_path, "test", {}, mode=mode).sums
    assert sums.updates.keys() == {VECTOR}
    assert sums.numbers.keys() == {"users", "targets", "skipped"}


@pytest.mark.parametrize(("mode", "refused"), [
    ("none", True), ("central-user", True), ("local-dp-sgd", False), ("laplace", False),
])  # fmt: skip
def test_a_node_with_a_budget_answers_only_what_is_noised_and_charged(
    small_data: Path, tmp_path: Path, mode: str, refused: bool
) -> None:
    limits = {"epsilon-budget": 100.0, "delta": 1e-5}
    refusing = pytest.raises(ConfigError, match="budget of its own") if refused else nullcontext()
    with refusing:
        ask(small_data, tmp_path, "test", limits, mode=mode)
        schema = Schema.load(small_data)
        ledger = Ledger(tmp_path / "privacy", schema.content_hash, "user")
        users = ledger.users()
        assert len(users) == 15
        assert ledger.epsilon(users, Limit(0.0, 1e-5)) == epsilon_of([Release(4.0)], 1e-5)


def test_a_node_answers_as_many_evaluations_as_it_wants_whatever_the_run(
    small_data: Path, tmp_path: Path
) -> None:
    """Each is a query of whoever made the model; a new run begins no new count."""
    limits = {"evaluation-limit": 2}
    for seed in (1, 2):
        assert ask(small_data, tmp_path, "valid", limits, seed=seed)
    with pytest.raises(ConfigError, match="has answered the 2 evaluations of its evaluation-limit"):
        ask(small_data, tmp_path, "test", limits, seed=3)
    with pytest.raises(ConfigError, match="has answered the 2 evaluations"):
        ask(small_data, tmp_path, "test", limits, mode="central-user")  # exact for the server


@pytest.mark.parametrize("limit", [-1, 2.5, True, "many"])
def test_a_limit_that_is_no_count_is_refused(small_data: Path, tmp_path: Path, limit: Any) -> None:
    with pytest.raises(ConfigError, match=r"evaluation-limit=.* must be a whole number from 0"):
        ask(small_data, tmp_path, "test", {"evaluation-limit": limit})


@pytest.mark.parametrize("mode", ["central-user", "laplace"])
def test_the_last_rounds_model_counts_and_its_test_is_the_only_evaluation(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    run_federation(
        small_data, tmp_path, nodes=2, name="p", mode=mode, delta=1e-3, evaluate_every=1,
        noise_multiplier=20.0,
    )  # fmt: skip
    history = read_history(tmp_path / "runs/p/history.jsonl")
    assert [entry["kind"] for entry in history] == ["round"] * 3 + ["test"]
    assert history[-1]["round"] == 3
    assert 0.0 < history[-1]["auc"] < 1.0
    assert history[-1]["gauc"] is None


def test_a_budget_that_the_test_would_exceed_leaves_it_out_and_keeps_the_model(
    small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    budget = epsilon_of([Release(3.0, 0.5, 3)], 1e-3) * 1.001
    run_federation(
        small_data, tmp_path, nodes=2, name="p", mode="central-user", delta=1e-3,
        noise_multiplier=3.0, sampling_rate=0.5, epsilon_budget=budget,
    )  # fmt: skip
    assert "the test is left out: the privacy budget does not allow" in caplog.text
    assert (tmp_path / "runs/p/summary.json").exists()
    assert list((tmp_path / "runs/p/best").glob("model-round-3.safetensors"))


@pytest.mark.parametrize(
    ("setting", "value"), [("select-best-by", "log_loss"), ("early-stop-patience", 3)]
)
def test_what_needs_validations_is_refused_in_one_line(setting: str, value: Any) -> None:
    from mrff.privacy.mechanisms import mechanism_of

    config = RunConfig.from_flat(full_names({"mode": "laplace", setting: value}))
    with pytest.raises(ConfigError, match=f"evaluation.{setting}={value} cannot go with") as caught:
        mechanism_of(config)
    assert "\n" not in str(caught.value)
