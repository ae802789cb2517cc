"""``mrff new``: what it writes of a file is prepared by the recipe as it stands."""

from __future__ import annotations

import gzip
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrff.cli.main import main
from mrff.data.dataset import load_dataset, load_titles
from mrff.data.schema import Schema


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def new(file: Path, *words: str) -> dict[str, Any]:
    """Writes the TOML of a file and prepares it; returns what the TOML says."""
    assert main(["new", str(file), *words]) == 0
    (toml,) = file.parent.glob("*.toml")
    assert main(["data", "prepare", "csv", "--from", str(toml)]) == 0
    return tomllib.loads(toml.read_text())


def schema(home: Path, name: str) -> Schema:
    return Schema.load(home / "data" / name)


RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{item},{1 + (user + item) % 5},{1_600_000_000 + 1000 * n}\n"
    for n, (user, item) in enumerate((u, i) for u in range(1, 6) for i in range(11, 17))
)


def test_ratings_as_movielens_writes_them(tmp_path: Path, home: Path) -> None:
    (tmp_path / "ratings.csv").write_text(RATINGS)
    rows = new(tmp_path / "ratings.csv")["interactions"]
    assert rows == {
        "file": "ratings.csv", "user": "userId", "item": "movieId", "time": "timestamp",
        "label": "rating >= 4",
    }  # fmt: skip
    made = schema(home, "ratings")
    assert (made.kind, made.counts["users"], made.counts["items"]) == ("labelled", 5, 6)
    assert load_dataset(home / "data/ratings").labels.tolist().count(1) == 12


def test_the_same_with_colons_and_without_a_header(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No name says who is who: the columns are numbered, and shown with what they hold."""
    lines = RATINGS.replace(",", "::").splitlines()[1:]
    (tmp_path / "ratings.dat").write_text("\n".join(lines) + "\n")
    assert main(["new", str(tmp_path / "ratings.dat")]) == 2
    said = capsys.readouterr().err
    assert "cannot tell which column is the user (no name says); say --user COLUMN" in said
    assert "'column3': 3, 4, 5" in said
    assert said.count("\n") == 1
    words = ("--user", "column1", "--item", "column2", "--label", "column3 >= 4")
    content = new(tmp_path / "ratings.dat", *words)["interactions"]
    assert content["separator"] == "::"
    assert content["columns"] == ["column1", "column2", "column3", "column4"]
    assert content["time"] == "column4"
    assert schema(home, "ratings").counts["users"] == 5


def test_events_by_semicolon_with_european_dates(tmp_path: Path, home: Path) -> None:
    rows = ["Customer No;SKU;When"]
    rows += [f"c{n % 4};s{n % 7};{1 + n % 28:02}.03.2024 10:{n % 60:02}" for n in range(40)]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    content = new(tmp_path / "log.csv")
    assert content["interactions"] == {
        "file": "log.csv", "separator": ";", "user": "Customer No", "item": "SKU",
        "time": "When", "time-format": "%d.%m.%Y %H:%M",
    }  # fmt: skip
    assert schema(home, "log").kind == "events"


SHOWN = "user,age,item,title,genres,price,liked,note\n" + "".join(
    f"u{user},{20 + user},i{item},Film {item},{'a|b' if item % 2 else 'b|c'},{item * 1.5},"
    f"{(user * item) % 2},n{user}-{item}\n"
    for user in range(8)
    for item in range(1, 15)
)


def test_features_in_the_same_file(tmp_path: Path, home: Path) -> None:
    """What never changes for an item is the item's; a note of each row is nobody's."""
    (tmp_path / "shown.csv").write_text(SHOWN)
    content = new(tmp_path / "shown.csv")
    assert content["interactions"]["label"] == "liked"
    assert "time" not in content["interactions"]
    assert content["items"]["title"] == "title"
    features = content["items"]["features"]
    assert features["item"] == "id"
    assert features["genres"] == "multi"
    assert features["price"]["kind"] == "bucket"
    assert features["price"]["edges"] == sorted(features["price"]["edges"])
    assert content["users"]["features"] == {"age": "categorical"}
    assert "#   note: changes" in (tmp_path / "shown.toml").read_text()
    made = schema(home, "shown")
    assert [f.name for f in made.item_features] == ["item", "genres", "price"]
    assert made.counts["users"] == 8
    assert "Film 3" in load_titles(home / "data/shown")


def test_parquet_with_lists_truth_values_and_times(tmp_path: Path, home: Path) -> None:
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(6), 10)
    items = np.tile(np.arange(10), 6)
    table = pa.table(
        {
            "uid": users,
            "iid": items,
            "is_click": random.random(60) < 0.5,
            "tags": [[f"t{item % 3}", "all"] for item in items],
            "created_at": pa.array(np.arange(60) * 10**9, pa.timestamp("us")),
        }
    )
    pq.write_table(table, tmp_path / "clicks.parquet")
    content = new(tmp_path / "clicks.parquet")
    assert content["interactions"]["label"] == "is_click"
    assert content["interactions"]["time"] == "created_at"
    assert content["items"]["features"]["tags"] == "multi"
    assert schema(home, "clicks").counts["interactions"] == 60


def test_json_lines_with_objects_in_them(tmp_path: Path, home: Path) -> None:
    rows = [
        {"user": {"id": n % 5, "region": "ns"[n % 5 % 2]}, "song": f"s{n % 7}",
         "played_at": f"2024-01-{1 + n % 28:02}", "devices": [{"a": 1}]}
        for n in range(40)
    ]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "plays.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    content = new(tmp_path / "plays.jsonl.gz")
    assert content["interactions"]["user"] == "user.id"
    assert content["interactions"]["item"] == "song"
    assert content["interactions"]["time"] == "played_at"
    assert content["users"]["features"] == {"user.region": "categorical"}
    assert schema(home, "plays").counts["users"] == 5


def test_old_encodings_quotes_and_rows_that_lack_something(tmp_path: Path, home: Path) -> None:
    lines = ["user_id\titem_id\tname\tstars"]
    lines += [f"{n % 5}\t{n % 6}\t\"Stück, 'Nr' {n % 6}\"\t{1 + n % 5}" for n in range(60)]
    lines += ["7\t\tohne\t3", "8"]
    (tmp_path / "alt.tsv").write_bytes(("\n".join(lines) + "\n").encode("latin1"))
    content = new(tmp_path / "alt.tsv")
    assert content["interactions"]["encoding"] == "latin1"
    assert content["interactions"]["on-bad-row"] == "drop"
    assert content["items"]["title"] == "name"
    made = schema(home, "alt")
    assert made.counts["dropped"]["malformed rows"] == 2
    assert "Stück, 'Nr' 3" in load_titles(home / "data/alt")


def test_an_answer_is_known_by_its_values_and_a_recipes_name_is_kept(
    tmp_path: Path, home: Path
) -> None:
    """A 0 or 1 that changes with the user and with the item is neither's feature."""
    lines = ["member,asin,premium,kept"]
    lines += [f"m{u},a{i},{u % 2},{(u + i) % 2}" for u in range(6) for i in range(6)]
    (tmp_path / "ml-1m.csv").write_text("\n".join(lines) + "\n")
    content = new(tmp_path / "ml-1m.csv")
    assert content["name"] == "ml-1m-own"
    assert content["interactions"]["label"] == "kept"
    assert content["users"]["features"] == {"premium": "categorical"}
    assert schema(home, "ml-1m-own").counts["positive"] == 18


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,b\n1,2\n3,4\n", "which column is the user (no name says); say --user COLUMN"),
        (
            "user_id,customer_id,item\n1,2,3\n4,5,6\n",
            "which column is the user ('user_id' and 'customer_id' may be)",
        ),
        (
            "user,item,date\n1,2,01/02/2024\n1,3,03/04/2024\n",
            "--time-format '%d/%m/%Y' or --time-format '%m/%d/%Y'",
        ),
        ("user,item,date\n1,2,soon\n1,3,late\n", "say --time-format FORMAT or --time none"),
        (
            "user,item,rating\n1,2,good\n1,3,bad\n",
            "which values of 'rating' are liked (it holds good, bad); say --label 'rating == ",
        ),
        ("user,item,vote\n1,2,-1\n1,3,0\n", "--label 'vote >= NUMBER' or --label none"),
        ("user,item,rating\n1,2,5\n1,3,5\n", "--label 'rating >= NUMBER' or --label none"),
        ("user,item,stars,liked\n1,2,5,0\n1,3,2,1\n", "('stars' and 'liked' may be)"),
        ("only\n1\n2\n", "has one column"),
    ],
)
def test_what_cannot_be_told_is_one_line_with_the_option_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, said: str
) -> None:
    (tmp_path / "rows.csv").write_text(rows)
    assert main(["new", str(tmp_path / "rows.csv")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "rows.toml").exists()


def test_options_say_what_cannot_be_told(tmp_path: Path, home: Path) -> None:
    lines = ["a,b,c"]
    lines += [f"{u},{i},{'buy' if (u + i) % 3 else 'view'}" for u in range(5) for i in range(6)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    words = ("--user", "a", "--item", "b", "--label", "c == buy", "--time", "none")
    assert new(tmp_path / "rows.csv", *words)["interactions"]["label"] == "c == buy"
    assert schema(home, "rows").counts["positive"] == 20
    (tmp_path / "rows.toml").unlink()
    assert main(["new", str(tmp_path / "rows.csv"), "--user", "d"]) == 2


def test_a_description_that_is_there_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ratings.csv").write_text(RATINGS)
    (tmp_path / "ratings.toml").write_text("mine")
    assert main(["new", str(tmp_path / "ratings.csv")]) == 2
    assert "is there already; move it away, or use it: mrff data" in capsys.readouterr().err
    assert (tmp_path / "ratings.toml").read_text() == "mine"


def test_the_next_commands_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ratings.csv").write_text(RATINGS)
    assert main(["new", str(tmp_path / "ratings.csv")]) == 0
    said = capsys.readouterr().out
    assert "label: rating >= 4 (by its name; it is a rating from 1 to 5)" in said
    assert said.endswith(
        f"  mrff data prepare csv --from {tmp_path}/ratings.toml\n  mrff run -c dataset=ratings\n"
    )
