"""Own data: the example of docs/data.md, variants of it, and what can be wrong."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrff.data.dataset import Dataset, load_dataset, load_titles
from mrff.data.errors import DataError
from mrff.data.losses import losses_of
from mrff.data.prepare import prepare
from mrff.data.schema import Schema
from mrff.data.warnings import warnings_of
from tests.support.own_data import example


def test_the_documented_example(tmp_path: Path) -> None:
    schema = prepare("csv", source=example(tmp_path), out=tmp_path / "d")
    dataset = load_dataset(tmp_path / "d")
    assert schema.name == "shop"
    assert schema.label_rule == "stars >= 4"
    assert dataset.user_ids.tolist() == ["ann", "bob", "cy"]
    assert dataset.offsets.tolist() == [0, 2, 3, 4]
    assert dataset.items.tolist() == [2, 1, 2, 3]  # ann's first rating of s1 gave way to the last
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert schema.counts["dropped"] == {
        "malformed rows": 2,  # "soon", and a row with three fields
        "rows of items missing from the catalogue": 1,
        "repeated items, last kept": 1,
    }
    assert load_titles(tmp_path / "d") == ["", "One", "Two", "Three"]
    assert dataset.item_features["item"].tolist() == [0, 1, 2, 3]
    assert dataset.item_features["brand"].tolist() == [0, 1, 2, 0]
    assert dataset.item_features["tags"].tolist() == [[0, 0], [1, 2], [0, 0], [2, 0]]
    assert dataset.item_features["price"].tolist() == [0, 1, 3, 0]
    assert dataset.user_features["region"].tolist() == [1, 0, 0]
    assert dataset.user_features["age"].tolist() == [1, 4, 0]
    assert schema.source["users_without_features"] == 1
    assert set(schema.source["files"]) == {
        "shop.toml",
        "events-1.csv",
        "events-2.csv.gz",
        "products.tsv",
        "customers.csv",
    }


def made(tmp_path: Path, toml: str, **files: str) -> tuple[Schema, Dataset]:
    for name, content in files.items():
        (tmp_path / f"{name}.csv").write_text(content)
    (tmp_path / "own.toml").write_text(toml)
    schema = prepare("csv", source=tmp_path / "own.toml", out=tmp_path / "d")
    return schema, load_dataset(tmp_path / "d")


LEAST = """[interactions]
file = "rows.csv"
user = "u"
item = "i"
label = "y"
"""
ROWS = "u,i,y\n2,7,1\n10,5,0\n2,5,true\n"
TIMED = LEAST + 'time = "t"\n'


def test_the_least_one_can_say(tmp_path: Path) -> None:
    """No time: the order of the rows. No item file: items are what occurs, with their id."""
    schema, dataset = made(tmp_path, LEAST, rows=ROWS)
    assert schema.name == "own"
    assert dataset.user_ids.tolist() == ["2", "10"]
    assert dataset.items.tolist() == [2, 1, 1]
    assert dataset.labels.tolist() == [1, 1, 0]
    assert dataset.item_features["item"].tolist() == [0, 1, 2]
    assert dataset.user_features == {}


@pytest.mark.parametrize(
    ("rule", "labels"),
    [
        ("y >= 4", [0, 1, 1]),
        ("y>4", [0, 0, 1]),
        ("y <= 4", [1, 1, 0]),
        ("y < 4.5", [1, 1, 0]),
        ("y == 4", [0, 1, 0]),
        ("y = 4", [0, 1, 0]),
        ("y != 4", [1, 0, 1]),
        ("kind == buy", [0, 1, 0]),
        ("kind == 'buy'", [0, 1, 0]),
        ("kind != buy", [1, 0, 1]),
    ],
)
def test_label_rules(tmp_path: Path, rule: str, labels: list[int]) -> None:
    toml = LEAST.replace('"y"', f'"{rule}"')
    rows = "u,i,y,kind\n1,1,3,view\n1,2,4,buy\n1,3,5,view\n"
    _, dataset = made(tmp_path, toml, rows=rows)
    assert dataset.labels.tolist() == labels


def test_features_within_the_interactions(tmp_path: Path) -> None:
    toml = LEAST + '[items.features]\ngenre = "categorical"\n[users.features]\n'
    toml += 'age = { kind = "bucket", edges = [18] }\n'
    rows = "u,i,y,genre,age\n1,a,1,x,10\n1,b,0,y,10\n2,a,1,z,20\n"
    schema, dataset = made(tmp_path, toml, rows=rows)
    assert dataset.item_features["genre"].tolist() == [0, 1, 2]
    assert dataset.user_features["age"].tolist() == [1, 2]
    assert [feature.name for feature in schema.item_features] == ["genre"]


def test_parquet_with_lists_and_no_header(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"i": [5, 7], "tags": [["b", "a"], []], "t": ["five", None]}),
        tmp_path / "items.parquet",
    )
    toml = LEAST + 'columns = ["u", "i", "y"]\nseparator = "|"\n'
    toml += '[items]\nfile = "items.parquet"\nid = "i"\ntitle = "t"\n'
    toml += '[items.features]\ntags = "multi"\n'
    _, dataset = made(tmp_path, toml, rows="2|7|1\n2|5|0\n")
    assert dataset.items.tolist() == [2, 1]
    assert dataset.item_features["tags"].tolist() == [[0, 0], [2, 1], [0, 0]]
    assert load_titles(tmp_path / "d") == ["", "five", ""]


def test_times_of_another_form(tmp_path: Path) -> None:
    """Days before months, as many shops write them: the order in time is not that of the texts."""
    rows = "u,i,y,t\n1,5,1,02/01/2024\n1,7,0,01/02/2024\n1,9,1,31/12/2023\n"
    _, dataset = made(tmp_path, TIMED + 'time-format = "%d/%m/%Y"\n', rows=rows)
    assert dataset.items.tolist() == [3, 1, 2]


BAD_SIDES = """[items]
file = "items.csv"
id = "i"
on-bad-row = "drop"
repeats = "REPEATS"
[items.features]
brand = "categorical"
price = { kind = "bucket", edges = [5] }
[users]
file = "users.csv"
id = "u"
on-bad-row = "drop"
repeats = "REPEATS"
[users.features]
age = { kind = "bucket", edges = [18] }
"""
ITEMS_TWICE = "i,brand,price\n5,x,1\n7,y,9\n5,z,9\n,q,1\n7,q\n8,w,dear\n9,v,\n"
USERS_TWICE = "u,age\n2,17\n10,old\n2,30\n"


@pytest.mark.parametrize(
    ("repeats", "brands", "prices", "ages"),
    [("first", "vxy", [0, 0, 1, 2], [1, 0]), ("last", "vyz", [0, 0, 2, 2], [2, 0])],
)
def test_bad_and_repeated_rows_of_items_and_users(
    tmp_path: Path, repeats: str, brands: str, prices: list[int], ages: list[int]
) -> None:
    toml = LEAST + BAD_SIDES.replace("REPEATS", repeats)
    schema, dataset = made(tmp_path, toml, rows=ROWS, items=ITEMS_TWICE, users=USERS_TWICE)
    brand, _ = schema.item_features
    assert "".join(brand.values) == brands
    assert sorted(dataset.item_features["price"].tolist()) == sorted(prices)
    assert dataset.user_features["age"].tolist() == ages
    assert schema.counts["dropped"] == {
        "malformed rows of items.csv": 3,  # no id, two fields, no number
        f"repeated rows of items.csv, {repeats} kept": 1,
        "malformed rows of users.csv": 1,
        f"repeated rows of users.csv, {repeats} kept": 1,
    }


def test_rows_that_a_quote_swallowed_are_warned_of(tmp_path: Path) -> None:
    rows = ROWS + '3,7,1\n4,"7,1\n4,5,1\n4,7",1\n'
    schema, _ = made(tmp_path, LEAST, rows=rows)
    (warning,) = [line for line in warnings_of(schema, None) if "quote" in line]
    assert "1 lines within quoted values" in warning


def events(usable: int, malformed: int) -> str:
    lines = [f"{n % 9},{n % 5},{n % 2}" for n in range(usable)] + ["1,2,maybe"] * malformed
    return "u,i,y\n" + "\n".join(lines) + "\n"


def test_mostly_malformed_rows_are_refused(tmp_path: Path) -> None:
    """A description that fits a hundredth of the rows is no description of them."""
    toml = LEAST + 'on-bad-row = "drop"\n'
    with pytest.raises(DataError, match=r"rows\.csv: 9,900 of 10,000 rows are malformed, more th"):
        made(tmp_path, toml, rows=events(100, 9_900))
    with pytest.raises(DataError, match="51 of 101"):
        made(tmp_path, toml, rows=events(50, 51))
    schema, _ = made(tmp_path, toml, rows=events(50, 50))
    assert losses_of(schema) == ["50% of the rows are dropped: malformed rows; check a few of them"]
    assert losses_of(made(tmp_path, toml, rows=events(96, 4))[0]) == []
    sides = SIDES.replace('id = "i"', 'id = "i"\non-bad-row = "drop"')
    with pytest.raises(DataError, match=r"items\.csv: 2 of 3 rows are malformed"):
        made(tmp_path, sides, rows=ROWS, items="i,p\n5\n7\n8,1\n", users=USERS)


LOG = """u,i,stars,event,lang
1,a,5,view,en
1,b,2,buy,en
1,c,,view,de
2,a,4,buy,en
2,d,5,bot,en
2,b,x,bot,en
"""
RULES = """[interactions]
file = "rows.csv"
user = "u"
item = "i"
where = "event in ('view', 'buy') and lang = 'en'"
label = "stars >= 4 or event = 'buy'"
"""


def test_rows_that_do_not_count_are_left_out(tmp_path: Path) -> None:
    """Items that occur in them alone are in no catalogue; what they hold need not be sound."""
    schema, dataset = made(tmp_path, RULES, rows=LOG.replace(",x,bot", ",,bot"))
    assert schema.label_rule == "stars >= 4 or event = 'buy'"
    assert dataset.items.tolist() == [1, 2, 1]
    assert dataset.labels.tolist() == [1, 1, 1]
    assert schema.num_items == 2
    assert schema.counts["dropped"] == {"rows that where leaves out": 3}
    assert losses_of(schema) == []
    simple = RULES.replace(" or event = 'buy'", "")
    (tmp_path / "other").mkdir()  # another rule is another dataset
    _, dataset = made(tmp_path / "other", simple, rows=LOG)  # an x where no row counts
    assert dataset.labels.tolist() == [1, 0, 1]


def test_rows_of_which_a_rule_says_nothing(tmp_path: Path) -> None:
    """No stars, and no other part of the rule that decides it."""
    toml = RULES.replace(" and lang = 'en'", "")
    rows = LOG.replace(",x,bot", ",,bot")
    with pytest.raises(DataError, match=r"row 3, column 'stars or event': .* rule, got noth"):
        made(tmp_path, toml, rows=rows)
    schema, dataset = made(tmp_path, toml + 'on-bad-row = "drop"\n', rows=rows)
    assert dataset.labels.tolist() == [1, 1, 1]
    assert schema.counts["dropped"] == {"malformed rows": 1, "rows that where leaves out": 2}


def test_items_are_chosen_too(tmp_path: Path) -> None:
    toml = SIDES.replace('id = "i"', 'id = "i"\nwhere = "p > 1"')
    schema, dataset = made(tmp_path, toml, rows=ROWS, items=ITEMS, users=USERS)
    assert schema.num_items == 1
    assert dataset.user_ids.tolist() == ["2"]
    assert schema.counts["dropped"]["rows that where leaves out of items.csv"] == 1


def test_ids_that_do_not_match_are_warned_of(tmp_path: Path) -> None:
    """Written with leading zeros in the items' file and among the users."""
    files = {"items": "i\n005\n7\n", "users": "u\n002\n0010\n"}
    schema, _ = made(tmp_path, SIDES, rows=ROWS, **files)
    missing, without = losses_of(schema)
    assert missing.startswith("67% of the rows are dropped: rows of items missing from the catal")
    assert without.startswith("1 of 1 users are not in the file of users; check whether both")


def test_prepared_anew_when_a_file_changes(tmp_path: Path) -> None:
    made(tmp_path, LEAST, rows=ROWS)
    schema, _ = made(tmp_path, LEAST, rows=ROWS + "3,5,1\n")
    assert schema.counts["users"] == 3


SIDES = LEAST + '[items]\nfile = "items.csv"\nid = "i"\n[users]\nfile = "users.csv"\nid = "u"\n'
ITEMS, USERS = "i,p\n5,1\n7,2\n", "u,a\n2,1\n10,2\n"
AGE = '[users.features]\na = { kind = "bucket", edges = [1] }\n'


@pytest.mark.parametrize(
    ("toml", "files", "message"),
    [
        ("x = [", {}, r"own\.toml is no valid TOML"),
        ("", {}, r"interactions\.file is missing; see docs/data\.md"),
        ("interactions = 3", {}, r"interactions must be a table, got 3"),
        (LEAST.replace("user", "usr"), {}, r"interactions\.user is missing"),
        (LEAST + "usr = 'u'", {}, r"unknown key 'interactions\.usr' \(known: .*user, where\)"),
        (LEAST + "[item]\n", {}, r"unknown key 'item' \(known: interactions, items, name, users\)"),
        ("name = 'a/b'\n" + LEAST, {}, "name must be made of letters"),
        (LEAST + "repeats = 'none'", {}, "repeats must be one of keep, exact, first, last, got"),
        (LEAST + "on-bad-row = 'skip'", {}, "on-bad-row must be one of error, drop, got 'skip'"),
        (LEAST + "encoding = 'klingon'", {}, "encoding 'klingon' is unknown"),
        (LEAST + "separator = ''", {}, "separator must be a text, got ''"),
        (LEAST + "columns = ['a', 'a']", {}, "names a column twice"),
        (LEAST + "where = 'y in (select 1)'", {}, r"interactions\.where may not hold a subquery"),
        (LEAST + "where = 'y > '", {}, r"interactions\.where is no condition \(.*\), got 'y > '"),
        (LEAST + "where = 'z > 1'", {}, r"rows\.csv has no column 'z'"),
        (LEAST + "where = 'y > 1'", {}, r"rows\.csv: where = 'y > 1' cannot be computed \(.*VARCH"),
        (
            LEAST.replace('"y"', '"y > 1 and read_text(y) = 2"'),
            {},
            "label may not call 'read_text'",
        ),
        (LEAST.replace('"y"', '"y >"'), {}, "must be a column or 'column operator value'"),
        (LEAST.replace('"y"', '"y > x"'), {}, "> needs a number, got 'x'"),
        (LEAST.replace('"y"', '"z"'), {}, r"rows\.csv has no column 'z'; its columns are 'u', 'i'"),
        (TIMED, {}, "has no column 't'"),
        (LEAST.replace("rows", "row"), {}, r"row\.csv, which is no file; correct the path"),
        (LEAST, {"rows": "u,i,y\n2,7,1\n2,5,maybe\n"}, r"rows\.csv, row 2, column 'y': .*'maybe'"),
        (LEAST, {"rows": "u,i,y\n2,7,1\n2,5\n"}, "row 2: expected 3 fields, got 2"),
        (LEAST, {"rows": "u,i,y\n2,7,1\n,5,1\n"}, "row 2, column 'u': expected a value, got noth"),
        (LEAST, {"rows": "u,i,y\n"}, r"rows\.csv has no rows"),
        (TIMED, {"rows": "u,i,y,t\n2,7,1,inf\n"}, "row 1, column 't': .*, got 'inf'"),
        (
            TIMED,
            {"rows": "u,i,y,t\n2,7,1,31/12/2024\n"},
            r"\(interactions\.time-format names other forms\), got '31/12/2024'",
        ),
        (
            TIMED + "time-format = '%d/%m/%Y'",
            {"rows": "u,i,y,t\n2,7,1,12/31/2024\n"},
            "row 1, column 't': expected a time written as '%d/%m/%Y', got '12/31/2024'",
        ),
        (TIMED + "time-format = 'dd/mm'", {}, "must be made of strptime's codes.*, got 'dd/mm'"),
        (TIMED + "time-format = '%Y %U'", {}, "must be made of strptime's codes"),
        (TIMED + "time-format = '%Q'", {}, "must be made of strptime's codes.*, got '%Q'"),
        (LEAST + "time-format = '%Y'", {}, r"time-format needs interactions\.time, the column"),
        (
            LEAST.replace('"y"', '"y > 1"'),
            {"rows": "u,i,y\n1,1,nan\n"},
            "a finite number, got 'nan",
        ),
        (SIDES, {"users": "u\n2\n10\n2\n"}, r"users\.csv, row 3: u '2' was already in row 1"),
        (SIDES, {"items": "i\n5\n5\n"}, r"items\.csv, row 2: i '5' was already in row 1"),
        (SIDES, {"items": "i\n8\n"}, "no interactions to write .dropped: 3 rows of items missing"),
        (SIDES.replace('id = "i"', ""), {}, r"items\.id is missing"),
        (SIDES + AGE, {"users": "u,a\n2,old\n"}, r"users\.csv, row 1, column 'a': .* got 'old'"),
        (SIDES + AGE, {"users": "u,a\n2,inf\n"}, "expected a finite number, got 'inf'"),
        (SIDES + AGE.replace("[1]", "[2, 1]"), {}, "edges must increase"),
        (SIDES + AGE.replace("[1]", "[]"), {}, "edges must be a list of numbers"),
        (SIDES + AGE.replace("edges = [1]", "edge = [1]"), {}, "edges must be a list of numbers"),
        (SIDES + AGE.replace("bucket", "id"), {}, "kind must be one of categorical, multi, bucket"),
        (SIDES + AGE.replace("a =", "b ="), {}, r"users\.csv has no column 'b'"),
        (SIDES + AGE.replace("a =", "user_id ="), {}, "a feature cannot be named 'user_id'"),
        (SIDES + "[users.features]\na = 3\n", {}, r"users\.features\.a must be a table, got 3"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, toml: str, files: dict[str, str], message: str
) -> None:
    content = {"rows": ROWS, "items": ITEMS, "users": USERS} | files
    with pytest.raises(DataError, match=message) as error:
        made(tmp_path, toml, **content)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "d").exists()


def test_no_description(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="csv has no default source"):
        prepare("csv", out=tmp_path / "d")
    with pytest.raises(DataError, match="cannot be read"):
        prepare("csv", source=tmp_path, out=tmp_path / "d")
