"""Conditions on rows: what they say of missing values and text, and what no description may do."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrff.data.conditions import MOST_LETTERS, Condition
from mrff.data.database import closed_database

ROWS = {
    "event": pa.array(["view", "buy", " view ", None, "it's"]),
    "rating": pa.array(["5", "4.5", "", "1", "3"]),
    "mixed": pa.array(["5", "4.5", "x", "1", "3"]),
    "n": pa.array([1, 2, 3, None, 5]),
    "a.b": pa.array([True, False, True, True, None]),
}


def answers(text: str) -> list[bool | None]:
    holds, unknown = Condition.read(text).answers(ROWS)
    return [
        None if is_unknown else bool(held) for held, is_unknown in zip(holds, unknown, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event = 'view'", [True, False, True, None, False]),
        ("event = 'view' and rating > 0", [True, False, None, None, False]),
        ("event = 'view' or rating >= 3", [True, True, True, None, True]),
        ("rating > 4 AND NOT event = 'buy'", [True, False, None, False, False]),
        ("event in ('buy', 'it''s')", [False, True, False, None, True]),
        ("event like 'v%'", [True, False, True, None, False]),
        ("upper(event) = 'BUY'", [False, True, False, None, False]),
        ("rating between 3 and 5", [True, True, None, False, True]),
        ("rating is not null", [True, True, False, True, True]),
        ("n % 2 = 1", [True, False, True, None, True]),
        ('"a.b"', [True, False, True, True, None]),
        ("try_cast(mixed as double) > 4", [True, True, None, False, False]),
        ("mixed = 'x' -- a remark", [False, False, True, False, False]),
    ],
)
def test_what_holds(text: str, expected: list[bool | None]) -> None:
    assert answers(text) == expected


@settings(deadline=None)  # DuckDB's first answer takes its time
@given(
    rating=st.integers(0, 5), event=st.sampled_from(["view", "buy"]),
    least=st.integers(-1, 6), wanted=st.sampled_from(["view", "buy", "x"]),
)  # fmt: skip
def test_and_or_not_are_pythons(rating: int, event: str, least: int, wanted: str) -> None:
    rows = {"event": pa.array([event]), "rating": pa.array([str(rating)])}
    text = f"rating >= {least} and not event = '{wanted}' or event = 'buy'"
    (holds,), _ = Condition.read(text).answers(rows)
    assert holds == ((rating >= least and event != wanted) or event == "buy")


@pytest.mark.parametrize(
    "text",
    [
        # other files, other tables
        "n in (select 1)",
        "exists (select * from read_text('/etc/passwd'))",
        "(select count(*) from '/etc/passwd') > 0 and n = 1",
        "n = 1) from read_csv('/etc/passwd') where (true",
        "n = 1) union all (select * from rows",
        "n = 1), (n = 2",
        "n = 1) order by (n",
        "n = 1) limit (1",
        # other statements
        "n = 1; copy (select 1) to 'out.csv'",
        "n = 1); copy (select 1) to 'out.csv'; select (1",
        "n = 1); install httpfs; select (1",
        "n = 1); set enable_external_access = true; select (1",
        # functions that read more than the row, or never end
        "read_text('/etc/passwd') = n",
        "getvariable('x') = n",
        "current_setting('threads') = n",
        "n = random()",
        "repeat('x', 1000000000) = event",
        "query('select 1') = n",
        "count(n) > 1",
        "sum(n) over () > 1",
        "list_filter([1], x -> x = n) = n",
        # what is no condition on columns
        "*",
        "columns('.*') = 1",
        "$1 = n",
        "? = n",
        "true",
        "1 = 1",
        "n = ",
        "(n = 1",
        "n = 1 /*",
        "",
        "n = 1 " + "or n = 1 " * MOST_LETTERS,
    ],
)
def test_no_more_than_a_condition_is_read(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        Condition.read(text)
    assert "\n" not in str(error.value)


def test_a_condition_nested_as_deeply_as_fits_is_read_or_refused() -> None:
    """How deep JSON may be depends on the Python: 3.13 reads this one, 3.11 does not."""
    told = "read"
    try:
        Condition.read("not " * 499 + "n")
    except ValueError as error:
        told = str(error)
    assert told in ("read", "is nested too deeply; make it simpler")


@pytest.mark.parametrize(
    "statement",
    [
        "select * from read_text('{file}')",
        "select * from '{file}'",
        "copy (select 1) to '{file}.out'",
        "attach '{file}.db'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "create secret (type s3)",
    ],
)
def test_the_database_has_no_way_out(statement: str, tmp_path: Path) -> None:
    """If a condition slipped through all the same: it would find a database that opens nothing."""
    file = tmp_path / "secret.csv"
    file.write_text("a\n1\n")
    with closed_database() as database, pytest.raises(duckdb.Error):
        database.execute(statement.format(file=file)).fetchall()
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixed > 1", "cannot be computed .*VARCHAR"),
        ("n + 1", "says neither yes nor no"),
        ("lower(event)", "says neither yes nor no"),
    ],
)
def test_what_cannot_be_computed_is_told(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        answers(text)
    assert "\n" not in str(error.value)


def test_dotted_names_need_quotes() -> None:
    with pytest.raises(ValueError, match=r'put it in double quotes, "a\.b"'):
        Condition.read("a.b = 1")
