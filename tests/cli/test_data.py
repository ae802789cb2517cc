"""``mrff data``, end to end in processes of their own and in this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.data.schema import Schema
from tests.support.events import plays
from tests.support.own_data import example
from tests.support.shop import PRODUCTS, grown_shop, shop


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def mrff(*words: object) -> int:
    return main(["data", *(str(word) for word in words)])


def test_from_nothing_to_shards(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mrff("prepare", "synthetic", "--users", 60, "--groups", 2, "--seed", 3) == 0
    said = capsys.readouterr()
    assert "synthetic: 60 users, 500 items, " in said.out
    assert f"prepared in {home}/data/synthetic" in said.out
    assert said.err == "making users\n"

    assert mrff("prepare", "synthetic", "--users", 60, "--groups", 2, "--seed", 3) == 0
    assert capsys.readouterr().err == f"{home}/data/synthetic is up to date\n"

    assert mrff("describe", "synthetic") == 0
    said = capsys.readouterr()
    assert "best_auc: 0." in said.out
    assert "user x item rate" in said.out
    assert (
        "split with holdout 1: 60 users, 0 too short (these only train), 60 test targets"
        in said.out
    )

    assert mrff("shard", "synthetic", "--nodes", 7, "--out", tmp_path / "s") == 0
    assert "7 nodes with 8 to 9 users each" in capsys.readouterr().out
    assert mrff("describe", tmp_path / "s" / "node-6") == 0
    assert "shard: node=6, nodes=7" in capsys.readouterr().out
    assert mrff("describe", tmp_path / "s" / "server") == 0
    assert "the public part only: 500 items" in capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    mrff("prepare", "synthetic", "--users", 5)
    capsys.readouterr()
    assert mrff("list") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {"ml-100k", "ml-1m", "kuaisar-r", "csv", "synthetic"} <= set(lines)
    assert lines["synthetic"].rstrip().endswith("yes")
    assert "--from PATH" in lines["kuaisar-r"]


def test_own_data_gets_its_own_name(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mrff("prepare", "csv", "--from", example(tmp_path)) == 0
    said = capsys.readouterr().out
    assert Schema.load(home / "data" / "shop").name == "shop"
    assert "dropped: 2 malformed rows" in said
    assert mrff("describe", "shop") == 0
    assert "no floors for test: no user has the 3 interactions" in capsys.readouterr().out


def test_a_dataset_grows_and_is_begun_anew_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mrff("prepare", "csv", "--from", shop(tmp_path)) == 0
    assert "version" not in capsys.readouterr().out
    assert mrff("prepare", "csv", "--from", grown_shop(tmp_path)) == 0
    told = (
        "version 2 of its catalogue; since it was prepared last: 2 new items, 4 new values of "
        "features, 2 new users\n"
    )
    assert told in capsys.readouterr().out
    assert mrff("describe", "shop") == 0
    assert told in capsys.readouterr().out
    fewer = shop(tmp_path, products=PRODUCTS[1:])
    assert mrff("prepare", "csv", "--from", fewer) == 2
    said = capsys.readouterr().err
    assert "3 of 5 items are not in the source any more" in said
    assert "Traceback" not in said
    assert mrff("prepare", "csv", "--from", fewer, "--anew") == 0
    assert "shop: 2 users, 2 items" in capsys.readouterr().out


def test_rows_are_appended_to_a_shard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = tmp_path / "shards"
    assert mrff("prepare", "csv", "--from", shop(tmp_path)) == 0
    assert mrff("shard", "shop", "--nodes", 2, "--out", shards) == 0
    capsys.readouterr()
    toml = shop(tmp_path / "week", events=["bob,s3,9,2", "bob,s3,1,5"])
    assert mrff("append", shards / "node-0", "--from", toml) == 0
    said = capsys.readouterr().out
    assert "shop: 1 users, 3 items, 3 interactions" in said
    assert "appended: 1 rows; version 1 of the catalogue\n" in said
    assert "dropped: 1 rows that were there already\n" in said
    assert mrff("append", shards / "node-0") == 2
    assert "give --from TOML, --catalogue DIR, or both" in capsys.readouterr().err


def test_events_have_no_rates_and_popularity_is_their_floor(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mrff("prepare", "csv", "--from", plays(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "plays: 120 users, 30 items, 2,544 events" in said
    assert "positive" not in said
    assert mrff("describe", "plays") == 0
    said = capsys.readouterr().out
    assert " events; events; label: every row is an event" in said
    assert "HR@10" in said
    assert "auc" not in said
    assert "warning" not in said
    assert mrff("describe", "plays", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "events"
    assert found["label_order"] is None
    assert found["users"]["predictors"] == []
    assert found["users"]["no_floors"] == {}
    assert found["users"]["split"]["users"] == 120
    by_part = {line["part"]: line for line in found["users"]["lists"]}
    assert set(by_part) == {"valid", "test"}
    assert 0 < by_part["test"]["ndcg10"] < by_part["test"]["hr10"] < 1


def rated(folder: Path, rows: list[str], *, kind: str = "labelled") -> Path:
    """A TOML with these rows of user, item, label, the order of rows being that of time."""
    (folder / "rows.csv").write_text("\n".join(["u,i,y", *rows]) + "\n")
    (folder / "rated.toml").write_text(
        f'[interactions]\nfile = "rows.csv"\nuser = "u"\nitem = "i"\nlabel = "y"\nkind = "{kind}"\n'
    )
    return folder / "rated.toml"


def test_choices_with_labels_have_both_floors(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{user},{row % 5},{(user + row * row) % 3 % 2}" for user in range(9) for row in range(6)
    ]
    assert mrff("prepare", "csv", "--from", rated(tmp_path, rows, kind="both")) == 0
    capsys.readouterr()
    assert mrff("describe", "rated") == 0
    said = capsys.readouterr().out
    assert "positive; both; label: y" in said
    assert "user x item rate" in said
    assert "popularity" in said


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        (
            [f"{u},{i},{1 - i % 2}" for u in range(40) for i in range(20)],
            "warning: labels can be told from the labels of the rows before and after: AUC 1.000",
        ),
        ([f"{u},{i},1" for u in range(3) for i in range(5)], "warning: by the label rule 'y' no "),
        ([f"{u},0,{i % 2}" for u in range(3) for i in range(5)], "warning: the catalogue has one"),
    ],
    ids=["negatives beside positives", "one class", "one item"],
)
def test_what_spoils_learning_is_said_when_prepared_and_when_described(
    rows: list[str],
    warning: str,
    tmp_path: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (("prepare", "csv", "--from", rated(tmp_path, rows)), ("describe", "rated")):
        assert mrff(*words) == 0
        told = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
        assert len(told) == 1
        assert told[0].startswith(warning)


def test_out(tmp_path: Path, home: Path) -> None:
    assert mrff("prepare", "synthetic", "--users", 5, "--out", tmp_path / "here") == 0
    assert (tmp_path / "here" / "schema.json").is_file()
    assert not home.exists()


def test_json(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mrff("prepare", "synthetic", "--users", 12)
    capsys.readouterr()
    assert mrff("list", "--json") == 0
    known = {line["dataset"]: line for line in json.loads(capsys.readouterr().out)}
    assert known["synthetic"]["prepared"] is True
    assert known["ml-100k"]["prepared"] is False
    assert mrff("describe", "synthetic", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["folder"] == str(home / "data" / "synthetic")
    assert found["counts"]["users"] == 12
    features = {line["feature"]: line for line in found["features"]}
    assert features["genre"] == {
        "feature": "genre", "of": "items", "kind": "categorical", "codes": 8, "most_values": 1,
    }  # fmt: skip
    assert {(line["predictor"], line["part"]) for line in found["users"]["predictors"]} >= {
        ("user rate", "test"), ("user x item rate", "valid"),
    }  # fmt: skip
    assert all(0 < line["auc"] < 1 for line in found["users"]["predictors"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("prepare", "netflix"), "unknown dataset 'netflix'"),
        (("describe", "csv"), "'csv' is neither a prepared folder nor a dataset"),
        (("prepare", "synthetic", "--users", 0), "users must be between"),
        (("shard", "synthetic", "--nodes", 6, "--out", "s"), "between 1 and 5"),
        (
            ("shard", "synthetic", "--nodes", "many", "--out", "s"),
            "'many' is not a valid integer; see: mrff data shard --help",
        ),
    ],
)
def test_errors(
    words: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mrff("prepare", "synthetic", "--users", 5)
    capsys.readouterr()
    assert mrff(*words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
