"""Whole private runs over real messages: layouts, empty samples, budgets, ledgers, resumption."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrff.config import ConfigError
from mrff.data.dataset import load_dataset
from mrff.privacy.accounting import Limit, Release, epsilon_of
from mrff.privacy.ledger import BudgetExceededError, Ledger, LedgerError
from mrff.privacy.noise import predictable
from mrff.wire.aggregation import RoundFailedError
from server_app.run.checkpoint import load_checkpoint
from server_app.run.history import read_history
from tests.support.federation import run_federation, shared_arrays
from tests.support.local_grid import LocalGrid

DELTA = 1e-3
WHOLE = 0  # the server's ledger counts for every user alike


def run(
    data: Path, home: Path, mode: str, name: str, noise_seed: int | None = None, **changes: Any
) -> None:
    settings: dict[str, Any] = {"delta": DELTA, "nodes": 3, **changes}
    with nullcontext() if noise_seed is None else predictable(noise_seed):
        run_federation(data, home, name=name, mode=mode, **settings)


def rounds_of(home: Path, name: str) -> list[dict[str, Any]]:
    return [e for e in read_history(home / "runs" / name / "history.jsonl") if e["kind"] == "round"]


def server_ledger(data: Path, home: Path) -> Ledger:
    dataset = load_dataset(data).schema.content_hash
    return Ledger(home / "state/privacy-server", dataset, "user")


def spent_on_nodes(data: Path, home: Path) -> float:
    """The highest epsilon of any user, by the nodes' ledger."""
    dataset = load_dataset(data)
    ledger = Ledger(home / "state/privacy", dataset.schema.content_hash, "user")
    everyone = [int(key) for key in dataset.user_keys]
    assert set(ledger.users()) <= set(everyone)
    return ledger.epsilon(everyone, Limit(0.0, DELTA))


@pytest.mark.parametrize("mode", ["central-user", "laplace"])
def test_the_result_does_not_depend_on_the_layout(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    """With a test seed for the noise: the same sampled users, sums and noise on 1, 3, 15 nodes."""
    for nodes in (1, 3, 15):
        run(
            small_data, tmp_path, mode, f"on-{nodes}", nodes=nodes,
            shuffle_seed=nodes, local_steps=2, adaptive_clipping=True, noise_multiplier=0.5,
            clipping_weights="item_features=4", noise_seed=5,
        )  # fmt: skip
    one = shared_arrays(tmp_path, "on-1")
    for nodes in (3, 15):
        other = shared_arrays(tmp_path, f"on-{nodes}")
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("mode", ["local-dp-sgd", "central-user", "laplace"])
def test_a_run_says_what_each_round_cost_and_what_came_through(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    run(
        small_data, tmp_path, mode, "told", noise_multiplier=1.0, clipping_norm=0.5,
        sampling_rate=0.5 if mode == "central-user" else 1.0,
    )  # fmt: skip
    reports = rounds_of(tmp_path, "told")
    assert [report["round"] for report in reports] == [1, 2, 3]
    for number, report in enumerate(reports, start=1):
        assert report["train_loss"] is None  # no exact number of training is published
        assert report["targets"] == 0
        privacy = report["privacy"]
        assert privacy["clipping_norm"] == 0.5
        assert 0.0 <= privacy["clipped_share"] <= 1.0
        assert privacy["signal_to_noise"] >= 0.0
        if mode == "central-user":
            assert privacy["epsilon"] == epsilon_of([Release(1.0, 0.5, number)], DELTA)
        else:
            assert privacy["epsilon"] is None  # the nodes' ledgers know


def test_what_is_noised_is_nothing_else_than_what_is_exact_plus_noise(
    small_data: Path, tmp_path: Path
) -> None:
    """With a vanishing noise multiplier the mechanism is the plain mean of clipped updates."""
    settings: dict[str, Any] = {
        "num_server_rounds": 1, "evaluate_every": 1, "server_optimizer": "average",
        "server_learning_rate": 1.0, "gate_learning_rate_factor": 1.0, "sampling_rate": 1.0,
        "dropout": 0.0, "user_weighting": "uniform",
        "balance_rate": 0.0,  # with route-share=0 the private run knows no loads
    }  # fmt: skip
    run(
        small_data, tmp_path, "central-user", "faint", noise_multiplier=1e-6, clipping_norm=1e3,
        route_share=0.0, noise_seed=1, clipping_weights="head=3,layers.0.experts=0.5", **settings,
    )  # fmt: skip
    run_federation(small_data, tmp_path, nodes=3, name="plain", **settings)
    faint, plain = shared_arrays(tmp_path, "faint"), shared_arrays(tmp_path, "plain")
    for name, value in plain.items():
        if ".experts." not in name:  # experts are divided by those who chose them in mode none
            np.testing.assert_allclose(faint[name], value, atol=0.01, err_msg=name)


@pytest.mark.parametrize("mode", ["none", "central-user", "local-dp-sgd"])
def test_fully_pooled_experts_stay_alike_and_others_part(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    """Noise, where there is any, is averaged with the updates: it does not part them either."""
    private = {} if mode == "none" else {"noise_multiplier": 0.5, "delta": DELTA}
    for name, pooling in (("alike", 1.0), ("apart", 0.5)):
        with predictable(5):
            run_federation(
                small_data, tmp_path, nodes=3, name=name, mode=mode, expert_pooling=pooling,
                sampling_rate=1.0, **private,
            )  # fmt: skip
    alike, apart = shared_arrays(tmp_path, "alike"), shared_arrays(tmp_path, "apart")
    pairs = [(n, re.sub(r"experts\.\d+", "experts.0", n)) for n in alike if ".experts." in n]
    for name, first in pairs:
        np.testing.assert_allclose(alike[name], alike[first], rtol=1e-5, atol=1e-6)
    assert any(np.abs(apart[name] - apart[first]).max() > 1e-3 for name, first in pairs)


def test_a_round_without_any_sampled_user_is_noise_of_the_right_size(
    small_data: Path, tmp_path: Path
) -> None:
    run(
        small_data, tmp_path, "central-user", "empty", sampling_rate=1e-6, num_server_rounds=1,
        noise_multiplier=2.0, clipping_norm=0.5, server_optimizer="average", expert_pooling=0.0,
        server_learning_rate=1e-6, evaluate_every=1, gate_learning_rate_factor=1.0,
    )  # fmt: skip
    run(
        small_data, tmp_path, "central-user", "none", sampling_rate=1e-6, num_server_rounds=1,
        noise_multiplier=1e-3, clipping_norm=1e-6, server_optimizer="average", expert_pooling=0.0,
        server_learning_rate=1e-6, evaluate_every=1, gate_learning_rate_factor=1.0,
    )  # fmt: skip
    noisy, start = shared_arrays(tmp_path, "empty"), shared_arrays(tmp_path, "none")
    moved = np.concatenate([(noisy[name] - start[name]).ravel() for name in start])
    # 2.0 * 0.5 of noise, over 15e-6 expected users, at rate 1e-6.
    assert moved.std() == pytest.approx(1.0 / 15.0, rel=0.05)
    assert rounds_of(tmp_path, "empty")[0]["users"] == 0


def test_three_runs_and_a_resumption_compose_in_the_servers_ledger(
    small_data: Path, tmp_path: Path
) -> None:
    for name, rounds in (("a", 2), ("b", 3), ("c", 1)):
        run(
            small_data, tmp_path, "central-user", name, num_server_rounds=rounds,
            sampling_rate=0.5, noise_multiplier=2.0, checkpoint_every=1,
        )  # fmt: skip
    run(
        small_data, tmp_path, "central-user", "", resume="c", num_server_rounds=4,
        sampling_rate=0.5, noise_multiplier=2.0, checkpoint_every=1,
    )  # fmt: skip
    rounds, tests = Release(2.0, 0.5, 2 + 3 + 4), Release(4.0, steps=4)  # c was tested twice
    assert set(server_ledger(small_data, tmp_path).releases(WHOLE)) == {rounds, tests}
    last = rounds_of(tmp_path, "c")[-1]["privacy"]["epsilon"]
    assert last == epsilon_of([rounds, Release(4.0, steps=3)], DELTA)


@pytest.mark.parametrize("mode", ["local-dp-sgd", "laplace"])
def test_runs_compose_in_the_nodes_ledgers_whatever_the_layout(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    steps = 2 if mode == "local-dp-sgd" else 1
    for name, nodes in (("a", 3), ("b", 5)):
        run(
            small_data, tmp_path, mode, name, nodes=nodes, num_server_rounds=2,
            local_steps=2, sampling_rate=1.0, noise_multiplier=3.0,
        )  # fmt: skip
    release = Release(
        3.0, steps=4 * steps, mechanism="laplace" if mode == "laplace" else "gaussian"
    )
    tests = Release(4.0, steps=2)
    assert spent_on_nodes(small_data, tmp_path) == epsilon_of([release, tests], DELTA)


def test_training_ends_before_the_servers_budget_does(
    small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    budget = epsilon_of([Release(2.0, 0.5, 2)], DELTA) * 1.001
    settings = {"sampling_rate": 0.5, "noise_multiplier": 2.0, "epsilon_budget": budget}
    run(small_data, tmp_path, "central-user", "ends", **settings)
    assert [report["round"] for report in rounds_of(tmp_path, "ends")] == [1, 2]
    assert load_checkpoint(tmp_path / "runs/ends/checkpoint").state.round == 2
    assert (tmp_path / "runs/ends/summary.json").is_file()  # what there is, is tested
    assert "training ends after round 2: the privacy budget does not allow" in caplog.text
    with pytest.raises(BudgetExceededError, match=rf"above epsilon-budget={budget:g}"):
        run(small_data, tmp_path, "central-user", "again", **settings)  # nothing is left of it
    assert server_ledger(small_data, tmp_path).releases(WHOLE) == (Release(2.0, 0.5, 2),)


def test_nodes_refuse_a_round_that_their_users_cannot_pay(
    small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    budget = epsilon_of([Release(3.0, 1.0, 2)], DELTA) * 1.001
    with pytest.raises(RoundFailedError):
        run(
            small_data, tmp_path, "local-dp-sgd", "spent", noise_multiplier=3.0,
            sampling_rate=1.0, epsilon_budget=budget,
        )  # fmt: skip
    assert [report["round"] for report in rounds_of(tmp_path, "spent")] == [1, 2]
    assert spent_on_nodes(small_data, tmp_path) == epsilon_of([Release(3.0, 1.0, 2)], DELTA)
    assert f"above epsilon-budget={budget:g}" in caplog.text


def test_a_node_keeps_its_own_limit_whatever_the_server_asks(
    small_data: Path, tmp_path: Path
) -> None:
    class Limited(LocalGrid):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords, node_config={"epsilon-budget": 1.0})

    def limited(mode: str, name: str, **settings: Any) -> None:
        run(small_data, tmp_path, mode, name, grid_type=Limited, **settings)

    for mode in ("none", "central-user"):  # the server would see the updates as they are
        with pytest.raises(RoundFailedError):
            limited(mode, f"refused-{mode}")
    with pytest.raises(RoundFailedError):  # one round costs more than 1
        limited("laplace", "dear", noise_multiplier=0.5, epsilon_budget=100.0)
    limited("laplace", "cheap", noise_multiplier=20.0)
    assert len(rounds_of(tmp_path, "cheap")) == 3


@pytest.mark.parametrize("mode", ["central-user", "local-dp-sgd"])
def test_a_tampered_ledger_stops_training(small_data: Path, tmp_path: Path, mode: str) -> None:
    settings = {"num_server_rounds": 1, "evaluate_every": 1, "nodes": 1}
    run(small_data, tmp_path, mode, "honest", **settings)
    folder = tmp_path / "state" / ("privacy-server" if mode == "central-user" else "privacy")
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database, database:
        changed = database.execute(
            """UPDATE releases SET parameters = replace(
                parameters, '"noise_multiplier": 1.0', '"noise_multiplier": 9.0')"""
        )
        assert changed.rowcount > 0
    kind = LedgerError if mode == "central-user" else RoundFailedError
    with pytest.raises(kind):
        run(small_data, tmp_path, mode, "dishonest", **settings)
    assert not (tmp_path / "runs/dishonest/summary.json").exists()


def test_frozen_arrays_stay_and_do_not_travel(small_data: Path, tmp_path: Path) -> None:
    run(
        small_data, tmp_path, "central-user", "frozen",
        frozen_shared="positions,layers.0.experts.up_, layers.1.attention",
    )  # fmt: skip
    run(small_data, tmp_path, "central-user", "start", num_server_rounds=1, evaluate_every=1,
        clipping_norm=1e-9, server_optimizer="average", noise_multiplier=1e-3)  # fmt: skip
    after, before = shared_arrays(tmp_path, "frozen"), shared_arrays(tmp_path, "start")
    for name, value in after.items():
        still = name.startswith(("positions", "layers.1.attention")) or (
            name.startswith("layers.0.experts") and ".up_" in name
        )
        if name.startswith("layers.1.attention_norm"):
            still = True  # a prefix is a prefix
        assert np.allclose(value, before[name], atol=1e-7) == still, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta": 0.1}, r"delta=0.1 must be less than 1/n = 0.0667 for n = 15 units"),
        ({"epsilon_budget": 1e-3}, "epsilon-budget=0.001 is impossible: one round costs epsilon"),
        ({"mode": "laplace", "delta": 0.2}, "must be less than 1/n"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_the_first_round(
    small_data: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_federation(
            small_data, tmp_path, nodes=1, name="refused",
            **{"mode": "central-user", "delta": DELTA, **changes},
        )  # fmt: skip
    assert not (tmp_path / "state").exists()
