"""Runs on data without labels, through the real apps and serialised messages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client_app.node import open_node
from mrff.config import ConfigError
from mrff.data.dataset import load_dataset
from mrff.data.prepare import prepare
from mrff.data.schema import Schema
from mrff.io.files import json_bytes
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import recommend
from mrff.ops.trained_run import find_run, load_best
from mrff.ops.user_model import open_user
from mrff.ops.wish import Wish
from mrff.wire.requests import Request, RoundFacts, RunFacts
from server_app.run.checkpoint import load_checkpoint, save_checkpoint
from tests.support.events import plays
from tests.support.federation import run_federation
from tests.support.small_folders import write


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("events")
    prepare("csv", source=plays(folder, users=20, songs=12), out=folder / "d")
    return folder / "d"


@pytest.fixture(scope="module")
def played(events: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a finished run that was told nothing but its data."""
    home = tmp_path_factory.mktemp("home")
    run(events, home, "run", nodes=3)
    return home


def run(data: Path, home: Path, name: str, *, nodes: int = 2, **changes: Any) -> dict[str, Any]:
    """The summary of a run."""
    run_federation(data, home, nodes=nodes, name=name, **changes)
    summary: dict[str, Any] = json.loads((home / "runs" / name / "summary.json").read_text())
    return summary


def kept_as(data: Path, out: Path, **changes: Any) -> Path:
    """A copy of a prepared folder whose schema says something else."""
    out.mkdir()
    for file in data.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    replace(Schema.load(data), **changes).save(out)
    return out


def test_events_are_learned_as_what_comes_next(played: Path) -> None:
    summary = json.loads((played / "runs/run/summary.json").read_text())
    assert summary["best_by"] == "ndcg10"
    assert summary["test"]["hr10"] > 0
    assert "auc" not in summary["test"]
    assert summary["test"]["candidates"] == 12  # all songs: what was played may be played again
    assert 0 < summary["test"]["repeated_share"] < 1
    assert summary["test"]["hr10_new"] is not None
    assert summary["test"]["hr10_repeated"] is not None


def test_what_the_run_stores_says_what_it_learned(played: Path) -> None:
    folder = find_run(str(played / "runs" / "run"))
    for stored in (
        json.loads(folder.config.read_text()),
        load_checkpoint(folder.checkpoints).config,
        load_best(folder).config.to_flat(),
    ):
        assert stored["training.objective"] == "next"


def test_a_user_is_opened_with_the_network_that_was_trained(played: Path, events: Path) -> None:
    user = open_user(NodesAtHand(load_best(find_run(str(played / "runs" / "run")))), "u3")
    assert user.network.head is None
    assert user.network.next_head is not None
    assert len(user.items) == len(load_dataset(events).items[user_rows(events, "u3")])
    every = set(recommend(user, Wish(12)).items.tolist())
    assert every == set(range(1, 13))  # they have played some of them, and may again
    few = replace(user, items=user.items[:3], labels=user.labels[:3])
    unseen = recommend(few, Wish(12, include_seen=False)).items.tolist()
    assert set(unseen) == every - set(few.items.tolist())


def user_rows(folder: Path, user: str) -> slice:
    dataset = load_dataset(folder)
    (row,) = (dataset.user_ids == user).nonzero()[0]
    return slice(dataset.offsets[row], dataset.offsets[row + 1])


@pytest.mark.parametrize("objective", ["click", "both"])
def test_click_on_events_is_refused_and_nothing_is_begun(
    events: Path, tmp_path: Path, objective: str
) -> None:
    with pytest.raises(ConfigError, match=r"choose training\.objective=next") as error:
        run(events, tmp_path, "run", objective=objective)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_the_best_round_is_chosen_by_what_is_measured(events: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"select-best-by=auc cannot go with .*objective=next"):
        run(events, tmp_path, "run", select_best_by="auc")
    assert run(events, tmp_path, "run", select_best_by="mrr20")["best_by"] == "mrr20"


@pytest.mark.parametrize(("label", "missing"), [(1, "negative"), (0, "positive")])
def test_labels_of_one_class_are_refused_unless_the_next_item_is_learned(
    tmp_path: Path, label: int, missing: str
) -> None:
    data = tmp_path / "d"
    write(data, [[(n % 4 + 1, label) for n in range(6)]] * 3)
    for objective in ("auto", "both"):
        with pytest.raises(ConfigError, match=f"no row is {missing}; choose training.objective=n"):
            run(data, tmp_path, "run", objective=objective)
    assert run(data, tmp_path, "run", objective="next")["test"]["hr10"] == 1.0


def test_a_node_may_have_one_class_where_the_whole_has_two(tmp_path: Path) -> None:
    data = tmp_path / "d"  # user n is on node n % 2
    write(data, [[(n % 4 + 1, user % 2) for n in range(6)] for user in range(4)])
    assert run(data, tmp_path, "run", nodes=2)["test"]["auc"] is not None


def test_rows_that_are_choices_with_labels_are_learned_as_both(
    small_data: Path, tmp_path: Path
) -> None:
    summary = run(kept_as(small_data, tmp_path / "d", kind="both"), tmp_path, "run")
    assert summary["best_by"] == "auc_ndcg10"
    assert summary["test"]["auc"] is not None
    assert summary["test"]["ndcg10"] is not None


def test_server_and_nodes_decide_alike(events: Path, tmp_path: Path) -> None:
    """Left to the data and said aloud are one run, bit for bit."""
    run(events, tmp_path, "left")
    run(events, tmp_path, "said", objective="next")
    left, said = (load_checkpoint(tmp_path / "runs" / n / "checkpoint") for n in ("left", "said"))
    for name, array in left.state.public.items():
        assert (array == said.state.public[name]).all(), name
    assert left.config["training.objective"] == said.config["training.objective"] == "next"


def test_a_node_whose_rows_are_of_another_kind_does_nothing(events: Path, tmp_path: Path) -> None:
    other = kept_as(events, tmp_path / "other", kind="both")
    facts = RunFacts(Schema.load(events).schema_hash, "run", str(other), str(tmp_path))
    where = {"partition-id": 0, "num-partitions": 1}
    with pytest.raises(ConfigError, match="give the node a shard of the dataset the server uses"):
        open_node({}, where, Request(facts, RoundFacts(1), {}, {}))


def test_a_run_from_before_they_stored_what_they_learn_is_resumed(
    small_data: Path, tmp_path: Path
) -> None:
    run(small_data, tmp_path, "old")
    folder = tmp_path / "runs" / "old" / "checkpoint"
    saved = load_checkpoint(folder)
    save_checkpoint(folder, replace(saved, config={**saved.config, "training.objective": "auto"}))
    run_federation(small_data, tmp_path, nodes=2, name="", resume="old", num_server_rounds=4,
                   server_decay_rounds="auto")  # fmt: skip
    assert load_checkpoint(folder).state.round == 4


def test_the_best_model_of_such_a_run_is_opened(small_data: Path, tmp_path: Path) -> None:
    run(small_data, tmp_path, "old")
    best = tmp_path / "runs" / "old" / "best" / "best.json"
    about = json.loads(best.read_text())
    about["config"]["training.objective"] = "auto"
    best.write_bytes(json_bytes(about))
    user = open_user(NodesAtHand(load_best(find_run(str(tmp_path / "runs" / "old")))), "0")
    assert user.node.config.training.objective == "click"


def test_items_that_nothing_tells_apart_are_refused(events: Path, tmp_path: Path) -> None:
    data = kept_as(events, tmp_path / "d", item_features=())
    with pytest.raises(ConfigError, match="neither an id nor other features") as error:
        run(data, tmp_path, "run")
    assert "\n" not in str(error.value)


def test_ids_alone_that_the_network_does_not_read_are_refused(events: Path, tmp_path: Path) -> None:
    features = tuple(f for f in load_dataset(events).schema.item_features if f.kind == "id")
    data = kept_as(events, tmp_path / "d", item_features=features)
    with pytest.raises(ConfigError, match=r"item-ids=features cannot go with .*=hashed"):
        run(data, tmp_path, "run", item_ids="features")


def test_a_catalogue_of_one_item_leaves_nothing_to_get_wrong(tmp_path: Path) -> None:
    prepare("csv", source=plays(tmp_path, users=5, songs=1), out=tmp_path / "d")
    assert run(tmp_path / "d", tmp_path, "run")["test"]["hr1"] == 1.0
