"""Distributed noise: users on a grid, shares that are enough whoever leaves, whole runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from flwr.app import Error, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from mrff.config import ConfigError, PrivacySettings
from mrff.data.dataset import load_dataset
from mrff.ops.privacy_report import open_report
from mrff.privacy.accounting import Limit, Release, epsilon_of
from mrff.privacy.ledger import Ledger
from mrff.privacy.mechanisms import MECHANISMS
from mrff.privacy.mechanisms.base import ModelShapes
from mrff.privacy.mechanisms.clipping import Bound
from mrff.privacy.mechanisms.grid import Grid, RoundedUsers
from mrff.privacy.mechanisms.shares import SharedTest, share_of
from mrff.privacy.noise import NoiseSource
from mrff.sums import BadReplyError, Chunk, CohortSums, Expected, Outcome, ServerView
from mrff.sums.cohort_sums import as_numbers
from mrff.wire.aggregation import RoundFailedError
from mrff.wire.aggregation.secure.graph import Terms
from mrff.wire.aggregation.secure.primitives import SecureError
from mrff_model.building import initial_shared, tensors_of
from server_app.parts import server_view
from server_app.run.checkpoint import load_checkpoint
from server_app.run.history import read_history
from tests.support.federation import run_federation, shared_arrays
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid
from tests.support.private_rounds import joined, private_round
from tests.support.small_data import node_view, small_config, small_dataset

SIZES = (9, 4, 14, 6, 12)
DELTA = 1e-3
DISTRIBUTED: dict[str, Any] = {
    "mode": "distributed-user", "secure_aggregation": True, "accountant": "rdp",
    "sampling_rate": 1.0, "noise_multiplier": 2.0, "delta": DELTA,
}  # fmt: skip


class Fallen(NoiseSource):
    """Coins that all fell the same way: a user's rounding does not depend on who else is there."""

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Down."""
        return np.floor(values)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    without=st.integers(0, len(SIZES) - 1),
    local_steps=st.integers(1, 3),
    clipping_norm=st.sampled_from([0.01, 1.0, 1000.0]),
    grid_steps=st.sampled_from([64, 4096]),
    weights=st.sampled_from([None, "item_features=20,head=0.1"]),
)
def test_a_user_moves_the_sum_by_at_most_c_in_whole_steps(
    seed: int, without: int, local_steps: int, clipping_norm: float, grid_steps: int,
    weights: str | None,
) -> None:  # fmt: skip
    privacy = PrivacySettings(
        mode="distributed-user", clipping_norm=clipping_norm, grid_steps=grid_steps,
        clipping_weights=weights,
    )  # fmt: skip
    dataset = small_dataset(SIZES, seed=seed)

    def vector(left_out: int | None) -> np.ndarray:
        users = np.array([user for user in range(len(SIZES)) if user != left_out])
        task = private_round(
            dataset, users, privacy=privacy, seed=seed, local_steps=local_steps,
            local_learning_rate=2.0, private_learning_rate=1.0, window_length=4,
        )  # fmt: skip
        with patch.object(task.half, "source", lambda purpose: Fallen(0)):
            return joined(task.train().sums)

    everyone = vector(None)
    assert everyone.dtype == np.int64
    difference = everyone - vector(without)
    assert 0 < np.square(difference).sum() <= grid_steps**2
    assert np.abs(difference).sum() <= grid_steps**2


def test_both_ends_clip_to_the_same_share_of_c() -> None:
    """On a coarse grid that share is small, and a vector clipped to C itself would be too long."""
    config = small_config(**{**DISTRIBUTED, "grid_steps": 64})
    task = private_round(small_dataset(SIZES), np.arange(5), privacy=config.privacy)
    shared = {**tensors_of(task.network, "public"), **tensors_of(task.network, "group")}
    on_node = task.half.begin(shared)._bound
    public, group = ({n: a.shape for n, a in p.items()} for p in initial_shared(task.network))
    server = MECHANISMS["distributed-user"].server(
        ServerView(config, 5, "p", Path("no ledger in this test"), "t")
    )
    shapes = ModelShapes(public, group, config.routes_shape)
    on_server = server._bound(shapes)
    assert on_node == on_server
    size = sum(int(np.prod(shape)) for shape in server.expected(shapes).updates.values())
    assert on_node.kept == Grid(64, size).kept < 0.9


def added_up(changes: torch.Tensor, *, counts: bool = True, grid_steps: int = 1000) -> np.ndarray:
    """The sum over users with these updates (B, 6), all of them on expert 0 of 2."""
    bound = Bound(1.0, 0.1, 1, 2)
    grid = Grid(grid_steps, 6 + bound.num_statistics)
    bound = replace(bound, kept=grid.kept)
    users, shared = len(changes), {"a": torch.zeros(2, 3)}
    total = RoundedUsers(shared, bound, {"a": 1.0}, grid, NoiseSource())
    routes = torch.zeros(users, 1, dtype=torch.int64)
    finite = torch.isfinite(changes).all(dim=1) & counts
    nothing = torch.zeros(users)
    outcome = Outcome(None, {"a": changes}, {}, routes, routes[..., None] > 0, nothing, finite)
    total.accumulate(Chunk(outcome, np.ones(users), np.ones(users), np.zeros((users, 1))))
    return total._total


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_users_who_are_not_finite_add_nothing_and_huge_ones_no_more_than_c(value: float) -> None:
    spoilt = torch.full((3, 6), 0.01)
    spoilt[1, 2] = value
    assert not added_up(spoilt[1:2]).any()
    assert not added_up(spoilt[:1], counts=False).any()  # their loss was not finite
    left = added_up(spoilt) / 1000
    np.testing.assert_allclose(left[:6], 0.02, atol=0.003)  # two users, a step of rounding each
    huge = added_up(torch.full((1, 6), 1e30))
    assert 900**2 < np.square(huge).sum() <= 1000**2


@given(st.integers(2, 500), st.sampled_from([0.51, 0.6, 0.9, 1.0]), st.integers(0, 60))
@settings(max_examples=200)
def test_the_shares_of_all_survivors_but_the_colluding_ones_are_enough(
    nodes: int, threshold: float, colluders: int
) -> None:
    terms, release = Terms(nodes, threshold, colluders), Release(3.3, 1.0, 1, "skellam", 1000)
    try:
        honest = terms.honest
    except SecureError:
        return  # refused before anything is sent
    share = share_of(release, honest)
    assert honest >= 2
    assert terms.survivors >= threshold * nodes - 1e-6
    assert (terms.survivors - colluders) * share >= (3.3 * 1000) ** 2


def test_few_nodes_stand_for_many_clients_of_one_user() -> None:
    """What all of them add in all: n / (t - c) of what is counted, the same for 5 as for 6,040."""
    for nodes in (5, 15, 6040):
        terms, release = Terms(nodes, 0.6, 0), Release(4.943, 1.0, 1, "skellam", 4096)
        everybody = nodes * share_of(release, terms.honest) / (4.943 * 4096) ** 2
        assert everybody == pytest.approx(5 / 3, rel=1e-3)


def client_half(honest: int, release: Release, users: int) -> Any:
    privacy = PrivacySettings(
        mode="distributed-user", noise_multiplier=release.noise_multiplier,
        grid_steps=release.grid_steps,
    )  # fmt: skip
    config = replace(small_config(), privacy=privacy)
    view = node_view(config, small_dataset(), np.arange(users), {"clipping-norm": 1.0})
    return MECHANISMS["distributed-user"].client(replace(view, honest_nodes=honest))


def test_what_is_left_of_the_noise_of_four_when_one_of_them_tells_its_own() -> None:
    """5 nodes, 1 colluding: 4 are needed, 3 are honest. Also the noise of a node without users."""
    terms, release = Terms(5, 0.6, 1), Release(2.0, 1.0, 1, "skellam", 50)
    assert (terms.survivors, terms.honest) == (4, 3)
    zeros, size = {"a": np.zeros((40, 1001), np.int64)}, 40 * 1001
    sent = [
        client_half(3, release, users).release_node(CohortSums(dict(zeros)), np.ones(users, bool))
        for users in (0, 1, 2, 3)
    ]
    assert [s.number("units") for s in sent] == [0, 1, 2, 3]
    assert sum(s.number("noise_share") for s in sent) == pytest.approx(4 / 3)
    left = sum(s.updates["a"] for s in sent[:3])  # the fourth one is subtracted
    assert left.var() == pytest.approx(100.0**2, abs=6 * 100.0**2 * (2 / size) ** 0.5)
    correlated = np.corrcoef(np.array([s.updates["a"].ravel() for s in sent]))
    assert np.abs(correlated - np.eye(4)).max() < 6 / size**0.5


def run(data: Path, home: Path, name: str, **changes: Any) -> LocalGrid:
    return run_federation(data, home, name=name, **{"nodes": 3, **DISTRIBUTED, **changes})


def spent_on_nodes(data: Path, home: Path) -> tuple[float, set[Any]]:
    """The highest epsilon of any user, and everything that was released of anybody."""
    dataset = load_dataset(data)
    ledger = Ledger(home / "state/privacy", dataset.schema.content_hash, "user")
    everyone = [int(key) for key in dataset.user_keys]
    assert ledger.users() == sorted(everyone)
    found = {ledger.releases(user) for user in everyone}
    return ledger.epsilon(everyone, Limit(0.0, DELTA, "rdp")), found


def test_a_run_says_what_it_cost_and_charges_every_user_on_their_node(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small_data, tmp_path, "told", clipping_norm=0.5, adaptive_clipping=True)
    rounds = read_history(tmp_path / "runs/told/history.jsonl")
    reports = [entry for entry in rounds if entry["kind"] == "round"]
    assert [report["users"] for report in reports] == [15, 15, 15]
    norms = [report["privacy"]["clipping_norm"] for report in reports]
    assert norms[0] == 0.5
    for norm, report, after in zip(norms, reports, norms[1:], strict=False):
        clipped = report["privacy"]["clipped_share"]  # nothing of C is lost to the grid
        assert after == pytest.approx(norm * np.exp(-0.2 * (0.5 - clipped)))
    releases = Release(2.0, 1.0, 3, "skellam", 4096), Release(4.0, 1.0, 1, "skellam", 4096)
    epsilon = epsilon_of(releases, DELTA, "rdp")  # of three rounds and the test
    assert spent_on_nodes(small_data, tmp_path) == (epsilon, {releases})
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    told = open_report(str(tmp_path / "runs/told"))
    assert told.numbers()["epsilon"] == told.numbers()["epsilon_of_all_runs"] == epsilon
    sentences = "\n".join(told.sentences())
    assert "Skellam noise of 2 times the clipping norm, sampling rate 1" in sentences
    assert "Not trusted: the server, everyone after it" in sentences


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([64, 4096]))
def test_a_user_moves_the_test_by_at_most_its_grid_however_it_is_rounded(
    seed: int, grid_steps: int
) -> None:
    """A node rounds a sum: half a step here and there of every number comes on top."""
    config = small_config(**{**DISTRIBUTED, "grid_steps": grid_steps})
    test, random = SharedTest(config), np.random.default_rng(seed)
    (size,) = test.expected.updates["test"]
    others, user = random.uniform(0, 50, size), random.uniform(0, 1, size) ** 8
    user /= np.linalg.norm(user)
    with (
        patch.object(SharedTest, "vector", lambda self, sums: sums),
        patch.object(NoiseSource, "skellam", lambda self, shape, variance: 0),
    ):
        there, not_there = (
            test.shared(CohortSums({"test": vector}), NoiseSource(), 2).updates["test"]
            for vector in (others + user, others)
        )
    assert there.dtype == np.int64
    assert 0 < np.square(there - not_there).sum() <= grid_steps**2


def test_the_test_of_a_run_is_noised_once_by_all_nodes_together(
    small_data: Path, tmp_path: Path
) -> None:
    """With hardly any noise it is what was measured exactly."""
    changes: dict[str, Any] = {"num_server_rounds": 1, "server_optimizer": "average"}
    run(small_data, tmp_path, "faint", test_noise=0.01, **changes)
    run(small_data, tmp_path, "loud", test_noise=50.0, **changes)
    told = {}
    for name in ("faint", "loud"):
        entries = read_history(tmp_path / "runs" / name / "history.jsonl")
        (told[name],) = (entry for entry in entries if entry["kind"] == "test")
    assert told["faint"]["users"] == told["loud"]["users"] == 15
    assert 0.3 < told["faint"]["log_loss"] < 1.5
    assert abs(told["loud"]["log_loss"] - told["faint"]["log_loss"]) > 0.01


def test_without_much_noise_it_is_the_mean_that_central_user_releases(
    small_data: Path, tmp_path: Path
) -> None:
    alike: dict[str, Any] = {
        "num_server_rounds": 1, "evaluate_every": 1, "server_optimizer": "average",
        "server_learning_rate": 1.0, "sampling_rate": 1.0, "clipping_norm": 2.0, "delta": DELTA,
        "clipping_weights": "head=3,layers.0.experts=0.5", "local_learning_rate": 1.0,
    }  # fmt: skip
    run(
        small_data,
        tmp_path,
        "grid",
        grid_steps=10**6,
        test_noise=0.1,
        **{**alike, "noise_multiplier": 1e-4},
    )
    run_federation(
        small_data, tmp_path, nodes=3, name="central", mode="central-user",
        noise_multiplier=1e-6, **alike,
    )  # fmt: skip
    grid, central = (shared_arrays(tmp_path, name) for name in ("grid", "central"))
    for name, value in central.items():
        np.testing.assert_allclose(grid[name], value, atol=5e-4, err_msg=name)


def test_a_round_of_which_too_few_are_left_is_lost_and_stays_charged(
    small_data: Path, tmp_path: Path
) -> None:
    class Losing(LocalGrid):
        """Two of three nodes train, and what they send is lost."""

        def _answer(self, message: Message) -> Message:
            reply = super()._answer(message)
            about = message.metadata
            if about.message_type == "train" and about.dst_node_id > FIRST_NODE_ID:
                return Message(Error(code=2, reason="lost"), reply_to=message)
            return reply

    with pytest.raises(RoundFailedError, match="nothing was opened"):
        run(small_data, tmp_path, "lost", grid_type=Losing)
    release = Release(2.0, 1.0, 1, "skellam", 4096)
    assert spent_on_nodes(small_data, tmp_path)[1] == {(release,)}
    assert load_checkpoint(tmp_path / "runs/lost/checkpoint").state.round == 0


def test_one_of_three_may_leave_and_the_noise_is_still_enough(
    small_data: Path, tmp_path: Path
) -> None:
    class Leaving(LocalGrid):
        def _answer(self, message: Message) -> Message:
            about = message.metadata
            if about.message_type == "train" and about.dst_node_id == FIRST_NODE_ID:
                return Message(Error(code=2, reason="gone"), reply_to=message)
            return super()._answer(message)

    run(small_data, tmp_path, "left", grid_type=Leaving, num_server_rounds=1, evaluate_every=1)
    assert load_checkpoint(tmp_path / "runs/left/checkpoint").state.round == 1


def with_limits(**limits: float) -> type[LocalGrid]:
    class Limited(LocalGrid):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            named = {name.replace("_", "-"): value for name, value in limits.items()}
            super().__init__(*arguments, **keywords, node_config=named)

    return Limited


def test_a_node_pins_the_budget_and_the_colluding_nodes_it_reckons_with(
    small_data: Path, tmp_path: Path
) -> None:
    one = epsilon_of([Release(2.0, 1.0, 1, "skellam", 4096)], DELTA, "rdp")
    with pytest.raises(RoundFailedError, match="the privacy budget does not allow this round"):
        run(
            small_data,
            tmp_path,
            "dear",
            grid_type=with_limits(epsilon_budget=1.01 * one, delta=DELTA),
        )
    assert spent_on_nodes(small_data, tmp_path)[0] == one
    with pytest.raises(RoundFailedError, match=r"in runs with privacy.secure-colluders=1 only"):
        run(small_data, tmp_path, "naive", grid_type=with_limits(secure_colluders=1))
    assert spent_on_nodes(small_data, tmp_path)[0] == one  # refused before anything was computed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"secure_ring_bits": 16, "secure_value_bits": 12},
            r"secure-ring-bits=16 are too few: sums of 15 users .*need 22 bits",
        ),
        ({"grid_steps": 40}, r"privacy.grid-steps=40 is too few for vectors of 5,\d\d\d numbers"),
        ({"grid_steps": 8}, r"grid-steps=8 is too few for the test, whose rounding takes 1\d of"),
        ({"epsilon_budget": 1e-3}, "epsilon-budget=0.001 is impossible: one round costs epsilon"),
        ({"delta": 0.1}, "must be less than 1/n"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_asked(
    small_data: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run(small_data, tmp_path, "refused", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "state/privacy").exists()


def test_the_server_takes_no_sum_with_less_noise_than_promised(small_data: Path) -> None:
    config = small_config(**DISTRIBUTED)
    view = server_view(config, load_dataset(small_data).schema, "t")
    half = MECHANISMS["distributed-user"].server(view)

    def sums(share: float) -> CohortSums:
        return CohortSums({}, as_numbers({"units": 15, "noise_share": share}))

    half.check(sums(1.0), Expected())
    with pytest.raises(BadReplyError, match=r"is 0.6667 of what was promised"):
        half.check(sums(2 / 3), Expected())
