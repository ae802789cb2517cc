"""What is answered over HTTP is what the commands say, whoever asks and however."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mrff.data.dataset import load_titles
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import answer
from mrff.ops.trained_run import find_run, load_best
from mrff.ops.user_model import open_user
from mrff.ops.wish import Wish
from tests.support.serving import asking
from tests.support.trained import NEXT_RUNS


def by_command(home: Path, run: str, user: str, *, explain: bool = False) -> dict[str, Any]:
    nodes = NodesAtHand(load_best(find_run(str(home / "runs" / run))))
    titles = load_titles(nodes.dataset_folder)
    return answer(open_user(nodes, user), titles, Wish(5), explain=explain)


def lists_of(client: TestClient, users: list[str]) -> dict[str, dict[str, Any]]:
    return {u: client.get(f"/v1/users/{u}/recommendations?top=5").json() for u in users}


def without_ids(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "items": [{k: v for k, v in i.items() if k != "id"} for i in said["items"]]}


@pytest.mark.parametrize("run", NEXT_RUNS)
def test_every_user_of_every_node_gets_the_list_of_the_command(next_home: Path, run: str) -> None:
    with asking(next_home, run) as client:
        users = client.get("/v1/users?limit=1000").json()
        assert len(users) == 15
        for user, said in lists_of(client, users).items():
            assert without_ids(said) == by_command(next_home, run, user)
            assert len({line["id"] for line in said["items"]}) == 5


def test_many_who_ask_at_once_each_get_their_own(next_home: Path) -> None:
    """Users take turns in one network: nobody may find another one's parameters there."""
    with asking(next_home, "mixed") as client:
        users = client.get("/v1/users?limit=1000").json()
        alone = lists_of(client, users)
        with ThreadPoolExecutor(8) as pool:
            for found in pool.map(lambda _: lists_of(client, users), range(4)):
                assert found == alone
        together = client.post("/v1/batch", json={"users": users, "top": 5}).json()
        assert together == list(alone.values())


def test_reasons_histories_and_popular_items(next_home: Path) -> None:
    with asking(next_home, "mixed") as client:
        user = client.get("/v1/users?limit=1").json()[0]
        said = client.get(f"/v1/users/{user}/recommendations?top=5&explain=true").json()
        assert without_ids(said) == by_command(next_home, "mixed", user, explain=True)
        history = client.get(f"/v1/users/{user}/history?last=3").json()
        newest_first = list(reversed(said["latest"][-3:]))
        assert [line["item"] for line in history] == newest_first
        popular = client.get(f"/v1/users/{user}/popular?top=20").json()
        met = {line["code"] for line in client.get(f"/v1/users/{user}/history?last=99").json()}
        assert popular
        assert not met & {line["code"] for line in popular}


def test_somebody_unknown_brings_a_history(next_home: Path) -> None:
    with asking(next_home, "both") as client:
        history = [{"item": "id:item-3"}, {"item": "id:item-7", "liked": False}]
        said = client.post("/v1/recommendations", json={"history": history, "top": 4}).json()
        assert not said["is_known"]
        assert said["history"] == 2
        assert "1 of them liked" in said["provenance"]
        assert not {"item-3", "item-7"} & {line["id"] for line in said["items"]}
        other = client.post(
            "/v1/recommendations",
            json={"history": [{"item": "id:item-3"}, {"item": "id:item-7"}], "top": 4},
        ).json()
        chances = [[line["probability"] for line in s["items"]] for s in (said, other)]
        assert chances[0] != chances[1]  # what was not liked counts


def test_a_newer_best_model_answers_by_itself_and_a_broken_one_does_not(
    next_home: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(next_home, home)
    best, other = (home / "runs" / run / "best" for run in ("next", "both"))
    before = best.with_name("kept")
    shutil.copytree(best, before)
    with asking(home, "next") as client:
        assert client.get("/health").json()["objective"] == "next"
        (best / "best.json").write_text("{")
        time.sleep(0.5)
        assert client.get("/health").json()["objective"] == "next"
        user = client.get("/v1/users?limit=1").json()[0]
        assert client.get(f"/v1/users/{user}/recommendations").status_code == 200
        shutil.copytree(other, best, dirs_exist_ok=True)
        for _ in range(100):
            if client.get("/health").json()["objective"] == "both":
                break
            time.sleep(0.1)
        assert client.get("/health").json()["objective"] == "both"
        said = client.get(f"/v1/users/{user}/recommendations").json()
        assert "probability" in said["items"][0]


@pytest.mark.parametrize(("path", "status", "told"), [
    ("/v1/users/nobody/recommendations", 404, "user 'nobody' is not in the data of this node"),
    ("/v1/users/nobody/history", 404, "send what they like as a history"),
    ("/v1/users/{user}/recommendations?top=99", 422, "top must be between 1 and 20"),
    ("/v1/users/{user}/recommendations?filter=colour", 422, "filter needs FEATURE=VALUE"),
    ("/v1/users/{user}/recommendations?filter=colour=red", 422, "items have no feature 'colour'"),
])  # fmt: skip
def test_what_cannot_be_answered_is_said_in_one_line(
    next_home: Path, path: str, status: int, told: str
) -> None:
    with asking(next_home, "next") as client:
        user = client.get("/v1/users?limit=1").json()[0]
        said = client.get(path.format(user=user))
        assert said.status_code == status
        assert told in said.json()["detail"]


@pytest.mark.parametrize(("body", "told"), [
    ({"history": []}, "at least 1 item"),
    ({"history": [{"item": "id:no such"}]}, "no item has the id 'no such'"),
    ({"history": [{"item": "id:item-1,id:item-2"}]}, "names 2 items, an entry of a history is one"),
    ({"history": [{"item": "id:item-1"}] * 10_001}, "at most 10000 items"),
    ({"history": [{"item": "id:item-1"}], "top": 0}, "greater than or equal to 1"),
])  # fmt: skip
def test_histories_that_cannot_be_used(next_home: Path, body: dict[str, Any], told: str) -> None:
    with asking(next_home, "next") as client:
        said = client.post("/v1/recommendations", json=body)
        assert said.status_code == 422
        assert told in said.text
