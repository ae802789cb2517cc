"""A run that goes on from another: on a catalogue that grew, with other rounds and objectives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.private_store import FILE
from mrff.config import ConfigError
from mrff.data.dataset import load_dataset, load_titles, take_users
from mrff.data.errors import DataError
from mrff.data.prepare import Wanted, prepare, prepare_asked
from mrff.data.schema import Schema
from mrff.data.versions import as_of
from mrff.ops.export import export_user
from mrff.ops.federation import Federation
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import answer
from mrff.ops.simulation import simulate
from mrff.ops.trained_run import RunError, find_run, load_best
from mrff.ops.user_model import UserModel, open_history, open_user
from mrff.ops.wish import Wish
from mrff.privacy.ledger import BudgetExceededError
from mrff.privacy.spending import WHOLE_DATASET, limit_of, server_ledger
from mrff.wire.requests import EarlierRun
from server_app.run.checkpoint import CheckpointError, load_checkpoint
from strategies.state import TrainingState
from tests.support.federation import run_federation
from tests.support.shop import ITEMS, MORE, trained_shop

NODES = 3
NOBODY = 1e-9  # a sampling rate


class World:
    """A home with the run ``first`` of a shop that has grown since."""

    def __init__(self, folder: Path) -> None:
        self.home, self.data, self.files = folder / "home", folder / "data", folder / "files"
        prepare("csv", source=trained_shop(self.files, grown=False), out=self.data)
        self.run("first", num_server_rounds=6, sampling_rate=1.0)
        self.before = folder / "before"
        shutil.copytree(self.data, self.before)
        prepare("csv", source=trained_shop(self.files, grown=True), out=self.data)

    def run(self, name: str, **changes: Any) -> None:
        """A run that changes private parameters visibly; keywords are settings."""
        settings: dict[str, Any] = {
            "nodes": NODES, "data": self.data, "num_server_rounds": 1, "private_learning_rate": 0.3,
            "evaluate_every": 2, "checkpoint_every": 1, "item_bias": True, "user_factors": True,
            "window_length": 8, **changes,
        }  # fmt: skip
        run_federation(settings.pop("data"), self.home, name=name, **settings)

    def state(self, name: str) -> TrainingState:
        return load_checkpoint(self.home / "runs" / name / "checkpoint").state

    def user(self, run: str, user: str, data: Path | None = None) -> UserModel:
        best = load_best(find_run(str(self.home / "runs" / run)))
        if data is None:
            return open_user(NodesAtHand(best), user)
        return open_user(NodesAtHand(best, data, self.home / "state"), user)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def test_the_shared_model_goes_on_and_new_rows_begin_at_their_like(world: World) -> None:
    """Nobody is trained: what the run ends with is what it began with."""
    world.run("still", start_from="first", sampling_rate=NOBODY)
    first, still = world.state("first"), world.state("still")
    assert first.best_round
    for name, array in {**still.public, **still.group}.items():
        before = {**first.best_public, **first.best_group}[name]
        np.testing.assert_array_equal(array[: len(before)], before, name)
    items = still.public["item_features.item_table.weight"]
    assert len(items) == 1 + ITEMS + MORE
    # i9 (code 10: d, t1, above 20) is like i7 (code 8: b, t1, above 20), and i11 all the more.
    # i10 (a, t0, above 20) shares two with i0 and i6 (a, t0) and with i8 (t0, above 20).
    bias = "item_bias.weight"
    for new, alike in ((10, [8]), (11, [1, 7, 9]), (12, [8])):
        np.testing.assert_allclose(items[new], items[alike].mean(0), rtol=1e-5)
        expected = still.public[bias][alike].mean(0)
        np.testing.assert_allclose(still.public[bias][new], expected, rtol=1e-5)
    brands = still.public["item_features.brand_table.weight"]
    np.testing.assert_allclose(brands[4], brands[1:4].mean(0), rtol=1e-5)
    assert still.lineage == [EarlierRun("first", first.best_round, (0,)).text]


def test_a_share_of_what_was_learned_and_the_rest_as_drawn(world: World) -> None:
    """Nobody is trained; a share of one is what the other tests see."""
    world.run("all", start_from="first", sampling_rate=NOBODY)
    world.run("drawn", sampling_rate=NOBODY)
    world.run("some", start_from="first", sampling_rate=NOBODY, start_share=0.25)
    learned, drawn, some = map(world.state, ("all", "drawn", "some"))
    moved = 0
    for name, array in {**some.public, **some.group}.items():
        one, other = ({**state.public, **state.group}[name] for state in (learned, drawn))
        np.testing.assert_allclose(array, 0.25 * one + 0.75 * other, atol=1e-6, err_msg=name)
        assert array.dtype == np.float32
        moved += not np.allclose(one, other)
    assert moved > 5
    assert some.lineage == learned.lineage
    with pytest.raises(ConfigError, match=r"start-share=0\.25 needs run\.start-from"):
        world.run("nothing", start_share=0.25)


def test_hashed_items_stay_where_they_are(world: World) -> None:
    """The table grows with nothing: new items have rows by their codes."""
    hashed = {"item_ids": "hashed", "hash_rows": 9}
    world.run("hashed", data=world.before, num_server_rounds=2, **hashed)
    world.run("hashed-on", start_from="hashed", sampling_rate=NOBODY, **hashed)
    before, after = world.state("hashed"), world.state("hashed-on")
    name = "item_features.item_table.weight"
    np.testing.assert_array_equal(after.public[name], before.best_public[name])
    assert len(after.public["item_bias.weight"]) == 1 + ITEMS + MORE
    for run, others in (("hashed", {**hashed, "hash_rows": 10}), ("first", hashed)):
        with pytest.raises(ConfigError, match="items have other rows"):  # and not more of them
            world.run("other", start_from=run, **others)


def test_moments_go_on_with_zeros_for_new_rows(world: World) -> None:
    world.run("moments", start_from="first", sampling_rate=NOBODY)
    name = "item_features.item_table.weight"
    before, after = world.state("first").optimizer[name], world.state("moments").optimizer[name]
    assert after["exp_avg"].shape == (1 + ITEMS + MORE, 4)
    np.testing.assert_array_equal(after["exp_avg"][: 1 + ITEMS], before["exp_avg"])
    assert not after["exp_avg_sq"][1 + ITEMS :].any()
    world.run("average", start_from="first", server_optimizer="average", sampling_rate=NOBODY)
    assert not world.state("average").optimizer


def test_private_parameters_go_on_and_new_users_begin_anew(world: World) -> None:
    world.run("private", start_from="first", sampling_rate=NOBODY)
    for user in ("u4", "u7"):
        before = world.user("first", user)
        after = world.user("private", user)
        assert after.has_own
        for name, values in before.private.items():
            np.testing.assert_array_equal(after.private[name], values, name)
        assert any(values.abs().sum() > 0 for values in after.private.values())
    newcomer = world.user("private", "u13")
    assert newcomer.is_known
    assert not newcomer.has_own


def test_other_nodes_find_their_users_parameters(world: World) -> None:
    world.run("two-nodes", nodes=2, start_from="first", sampling_rate=NOBODY)
    for user in ("u4", "u7", "u11"):
        own, now = world.user("first", user).private, world.user("two-nodes", user).private
        for name, values in own.items():
            np.testing.assert_array_equal(now[name], values, name)


def test_a_chain_of_runs_and_a_trained_user(world: World) -> None:
    """Whoever is trained has new parameters; whoever is not has those of two runs before."""
    world.run("second", start_from="first", sampling_rate=0.3, num_server_rounds=2)
    world.run("third", start_from="second", sampling_rate=NOBODY)
    assert [EarlierRun.of(run).training_id for run in world.state("third").lineage] == [
        "second", "first",
    ]  # fmt: skip
    changed = 0
    for user in (f"u{n}" for n in range(12)):
        first, second, third = (world.user(run, user) for run in ("first", "second", "third"))
        for name in first.private:
            np.testing.assert_array_equal(third.private[name], second.private[name], name)
        changed += any((first.private[n] != second.private[n]).any() for n in first.private)
    assert 0 < changed < 12


def test_resumed_it_still_knows_where_it_began(world: World) -> None:
    world.run("stopped", start_from="first", sampling_rate=0.3)
    world.run("", resume="stopped", num_server_rounds=2, sampling_rate=0.3)
    assert world.state("stopped").lineage == world.state("stopped").lineage[:1]
    assert world.user("stopped", "u4").has_own
    with pytest.raises(ConfigError, match=r"start-from=other cannot go with run.resume=stopped"):
        world.run("", resume="stopped", start_from="other", num_server_rounds=2, sampling_rate=0.3)


def test_from_clicks_to_the_next_item_and_both(world: World) -> None:
    shape = {"feature_mix": "concat", "objective": "next", "start_from": "first"}
    world.run("next", sampling_rate=NOBODY, **shape)
    first, state = world.state("first"), world.state("next")
    assert "head.hidden.weight" not in state.public
    assert not state.public["next_head.item_bias.weight"].any()
    for name in ("positions.weight", "layers.0.experts.1.up_weight"):
        old = {**first.best_public, **first.best_group}[name]
        np.testing.assert_array_equal({**state.public, **state.group}[name], old)
    own, now = world.user("first", "u4").private, world.user("next", "u4").private
    assert own.keys() - now.keys() == {"user_bias"}
    for name, values in now.items():
        np.testing.assert_array_equal(values, own[name])
    world.run("both", **{**shape, "objective": "both", "start_from": "next"})
    assert "user_bias" in world.user("both", "u4").private


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_experts": 3}, "num-experts 4 there, 3 here; layers.0.* is in that run only.: give"),
        ({"num_layers": 1}, "num-layers 2 there, 1 here; layers.1.* is in that run only"),
        ({"feature_dim": 5}, "feature-dim 4 there, 5 here"),
        ({"window_length": 9}, "window-length 8 there, 9 here; positions.weight has shape"),
        ({"gate_mode": "evidence"}, "gate-mode switch there, evidence here; "),
        ({"backbone": "hstu"}, "backbone sasrec there, hstu here"),
        ({"user_embedding_dim": 9}, "user-embedding-dim 8 there, 9 here; private user_em"),
        ({"user_network_dim": 9}, "user-network-dim 8 there, 9 here; private layers"),
        ({"private_parameters": "head"}, "private-parameters=user, this run head: let them"),
        ({"num_experts": 1, "clusters": 2}, "algorithm=mrff, this run clusters: start"),
        ({"start_from": "nothing"}, "start-from='nothing': there is no run in"),
    ],
)  # fmt: skip
def test_another_network_is_refused_before_anything(
    world: World, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=reason) as caught:
        world.run("refused", **{"start_from": "first", **changes})
    assert "\n" not in str(caught.value)
    assert not (world.home / "runs" / "refused" / "config.json").exists()
    assert not (world.home / "state" / "refused").exists()


def test_another_dataset_is_refused(world: World, tmp_path: Path, small_data: Path) -> None:
    with pytest.raises(ConfigError, match=r"start-from=first was trained on data .* no version of"):
        world.run("refused", data=small_data, start_from="first")
    shutil.copytree(world.data, tmp_path / "anew")
    prepare_asked(Wanted("csv", world.files / "shop.toml", tmp_path / "anew", {}), anew=True)
    with pytest.raises(ConfigError, match="start from a run on this dataset"):
        world.run("refused", data=tmp_path / "anew", start_from="first")


def test_a_run_is_not_resumed_on_a_catalogue_that_grew(world: World) -> None:
    reason = r"before the catalogue of shop grew to version 2: .* run.start-from=first$"
    with pytest.raises(CheckpointError, match=reason):
        world.run("", resume="first", num_server_rounds=9, sampling_rate=1.0)
    asked = {"data.home": str(world.home), "data.data-dir": str(world.data), "run.resume": "first"}
    with pytest.raises(CheckpointError, match=reason):  # before Flower starts
        simulate(asked, Federation(NODES))


def test_records_protected_apart_begin_anew(world: World) -> None:
    """Their parameters were trained on all of a user's records, without noise."""
    world.run(
        "records", start_from="first", mode="local-dp-sgd", unit="record", noise_multiplier=2.0,
        sampling_rate=1.0, private_training="frozen",
    )  # fmt: skip
    assert not world.user("records", "u4").has_own
    assert load_dataset(world.data).num_users == 15
    assert not list((world.home / "state" / "records").rglob(FILE))


def test_an_old_run_recommends_what_it_knows(world: World) -> None:
    user = world.user("first", "u4")
    titles = load_titles(world.data)
    said = answer(user, titles, Wish(top=9, include_seen=True), explain=False)
    assert {line["item"] for line in said["items"]} == {f"Item {n}" for n in range(ITEMS)}
    assert said["provenance"].endswith("3 items came into the catalogue after this run")
    before = world.user("first", "u4", world.before)
    assert user.items.tolist() == before.items.tolist()  # without the new item of the new row
    nodes = NodesAtHand(load_best(find_run(str(world.home / "runs" / "first"))))
    with pytest.raises(DataError, match=r"code 11 came into the catalogue after this run, which k"):
        open_history(nodes, np.array([2, 11]))
    with pytest.raises(
        RunError, match=r"first 9 items of a catalogue that has grown since: export"
    ):
        export_user(user, nodes, world.home / "out")


def test_a_later_version_as_an_earlier_one(world: World) -> None:
    after, before = load_dataset(world.data), load_dataset(world.before)
    (first,) = after.schema.ancestors
    view = take_users(as_of(after, first), np.arange(12))
    assert [f.size for f in view.schema.item_features] == list(first.item_sizes)
    for name in ("items", "labels", "offsets"):
        np.testing.assert_array_equal(getattr(view, name), getattr(before, name), name)
    for name, codes in before.item_features.items():
        np.testing.assert_array_equal(view.item_features[name], codes)


def test_budgets_go_on_over_runs_and_versions(tmp_path: Path) -> None:
    """A budget that a run on the first version has spent is spent on the second, too."""
    world = World(tmp_path)
    private = {
        "mode": "central-user", "noise_multiplier": 3.0, "delta": 1e-3, "epsilon_budget": 5.0,
        "sampling_rate": 0.5,
    }  # fmt: skip
    world.run("spends", data=world.before, num_server_rounds=2, **private)
    population = Schema.load(world.data).known_as
    ledger = server_ledger(world.home / "state", population)
    limit = limit_of(load_best(find_run(str(world.home / "runs" / "spends"))).config.privacy)
    spent = ledger.epsilon(WHOLE_DATASET, limit)
    assert spent > 0
    world.run("goes-on", start_from="spends", num_server_rounds=2, **private)
    assert ledger.epsilon(WHOLE_DATASET, limit) > spent
    with pytest.raises(BudgetExceededError):
        world.run("beyond", start_from="goes-on", **{**private, "epsilon_budget": spent})


def test_a_private_run_on_a_model_without_privacy_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    private = {"mode": "central-user", "noise_multiplier": 3.0, "sampling_rate": 0.5}
    world.run("warned", start_from="first", **private)
    assert "run first had privacy.mode=none: what is promised covers the rounds" in caplog.text
