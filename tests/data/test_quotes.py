"""Rows that a quote swallowed are found, however the quotes stand; text on lines is left alone."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrff.data.columns import Table
from mrff.data.errors import DataError
from mrff.data.quotes import count_lines
from mrff.data.tables import Layout, read_table


def read(path: Path, text: str, *, tolerant: bool = False, quote: str | None = '"') -> Table:
    path.write_text(text, newline="")
    return read_table(path, layout=Layout(quote=quote), tolerant=tolerant)


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('u,i,y,t\n1,2,1,"abc\n2,3,0,d\n3,3,1,e\n', 2),  # to the end of the file
        ('u,i\n1,2\n"3,4\n5,6\n"7,8\n', 3),  # to the next one of its kind
        ('u,i\n1,2\n3,"4\n5,"6"\n7,8\n', 3),  # to one that is well closed
        ('u,i\n\n1,2\n3,"4""\n5,6\n', 4),  # a doubled one is text
        ('u,i\r1,"2\r3,4\r', 2),
    ],
)
def test_a_value_that_does_not_end_is_refused(
    tmp_path: Path, text: str, line: int, tolerant: bool
) -> None:
    with pytest.raises(
        DataError, match=rf"t\.csv, line {line}: a value begins with .* mend"
    ) as told:
        read(tmp_path / "t.csv", text, tolerant=tolerant)
    assert "\n" not in str(told.value)


def test_without_quotes_such_a_file_is_read_whole(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", 'u,i\n1,"2\n3,4\n', quote=None)
    assert table.text("i").to_pylist() == ['"2', "4"]


def test_rows_in_a_value_that_ends_are_counted(tmp_path: Path) -> None:
    """The last line closes what the first one opened: a reader has no reason to complain."""
    assert read(tmp_path / "t.csv", 'u,i\n1,"2\n3,4\n5,6"\n').swallowed == 2
    assert read(tmp_path / "t.csv", 'u,i\n1,"a text\non lines"\n5,6\n').swallowed == 0


def test_quotes_within_a_value_swallow_nothing(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", 'u,i\n5" nails,1\n12" vinyl,2\n')
    assert (table.text("u").to_pylist(), table.swallowed) == (['5" nails', '12" vinyl'], 0)


LETTERS = st.text("ab\n\r\"', ", max_size=8)


@given(rows=st.lists(st.tuples(LETTERS, st.just("x")), min_size=1, max_size=8))
def test_what_a_writer_quoted_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("u", "i"), *rows])
    table = read(tmp_path_factory.getbasetemp() / "quoted.csv", text.getvalue())
    assert table.columns["u"].to_pylist() == [value or None for value, _ in rows]


@given(
    values=st.lists(st.text("ab' ", min_size=1, max_size=4), min_size=3, max_size=9),
    opened=st.sets(st.integers(0, 7), min_size=1),
)
def test_no_row_is_lost_in_silence(
    tmp_path_factory: pytest.TempPathFactory, values: list[str], opened: set[int]
) -> None:
    """Quotes open any values and close none: every row is there, or the file is refused."""
    lines = [f"{n}," + '"' * (n in opened) + value for n, value in enumerate(values)]
    path = tmp_path_factory.getbasetemp() / "opened.csv"
    with suppress(DataError):
        table = read(path, "u,i\n" + "\n".join(lines) + "\n")
        assert table.num_rows == len(values)


@given(st.text("a\r\n", max_size=30))
def test_lines_are_counted_as_python_splits_them(text: str) -> None:
    assert count_lines(text.encode()) == sum(1 for line in text.splitlines() if line)
