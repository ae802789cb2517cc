"""Reading files: what is tolerated, and which row is blamed for what is not."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrff.data.columns import Table
from mrff.data.errors import DataError
from mrff.data.tables import Layout, read_table


def written(tmp_path: Path, text: str, name: str = "t.csv", encoding: str = "utf8") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def read(tmp_path: Path, text: str, **layout: object) -> Table:
    return read_table(written(tmp_path, text), layout=Layout(**layout))  # type: ignore[arg-type]


def test_columns(tmp_path: Path) -> None:
    table = read(tmp_path, 'id,n,b\n1,2.5,true\n"a, b",-3,0\n')
    assert table.text("id").to_pylist() == ["1", "a, b"]
    assert table.numbers("n").tolist() == [2.5, -3]
    assert table.binary("b").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("\ufeffid;n\r\n1;2\r\n", {"separator": ";"}),
        ("id\tn\n1\t2", {"separator": "\t"}),
        ("1::2\n", {"separator": "::", "names": ("id", "n")}),
        (" id , n \n 1 , 2 \n\n", {}),
    ],
)
def test_ways_to_write_one_table(tmp_path: Path, text: str, layout: dict[str, object]) -> None:
    table = read(tmp_path, text, **layout)
    assert table.text("id").to_pylist() == ["1"]
    assert table.numbers("n").tolist() == [2]


def test_gzip_and_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"id,n\n1,2\n"))
    assert read_table(path, ["n"], layout=Layout()).numbers("n").tolist() == [2]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": [7.0, 8.0], "n": [1, 0], "flag": [True, False]}), path)
    table = read_table(path, layout=Layout())
    assert table.text("id").to_pylist() == ["7", "8"]
    assert table.binary("flag").tolist() == [1, 0]


def test_quoted_line_breaks(tmp_path: Path) -> None:
    assert read(tmp_path, 'id,n\n"a\nb",2\nc,3\n').text("id").to_pylist() == ["a\nb", "c"]


def test_parquet_types(tmp_path: Path) -> None:
    columns = {
        "d": pa.array(["x", "y", "x"]).dictionary_encode(),
        "l": pa.array(["1", "0", "1"], pa.large_string()),
        "n": pa.array([1, 2, None], pa.int16()),
        "t": pa.array(["2024-01-01", "2024-01-01", "2024-01-02"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", layout=Layout())
    assert table.text("d").to_pylist() == ["x", "y", "x"]
    assert table.binary("l").tolist() == [1, 0, 1]
    assert table.numbers("n", optional=True)[:2].tolist() == [1, 2]
    assert np.diff(table.times("t")).tolist() == [0, 86_400_000]
    with pytest.raises(DataError, match="row 3, column 'n': expected a finite number, got nothing"):
        table.numbers("n")


def test_latin1(tmp_path: Path) -> None:
    path = written(tmp_path, "id\nMisérables\n", encoding="latin1")
    latin = read_table(path, layout=Layout(encoding="latin1"))
    assert latin.text("id").to_pylist() == ["Misérables"]
    with pytest.raises(DataError, match=r"is not utf8 text; set its encoding \(often: latin1\)"):
        read_table(path, layout=Layout())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t\n5\n7\n", [5, 7]),
        ("t\n1685336204570.0\n2\n", [1685336204570, 2]),
        ("t\n1.5\n2\n", [1500, 2000]),
        ("t\n1970-01-02\n1970-01-01\n", [86_400_000, 0]),
        ("t\n1970-01-01 00:00:01\n1970-01-01T00:00:02\n", [1000, 2000]),
        ("t\n1970-01-01T01:00:00+01:00\n1970-01-01T00:00:02Z\n", [0, 2000]),
        ("t\n1970-01-01T00:00:01\n1970-01-01T00:00:02Z\n", [1000, 2000]),
        ("t\n1970-01-01 00:00:01 UTC\n1970-01-01 00:00:02.250123 UTC\n", [1000, 2250]),
        ("t\n1970-01-02UTC\n1970-01-01 GMT\n", [86_400_000, 0]),
        ("t\n1700000000000001\n1700000000000000\n", [1700000000000001, 1700000000000000]),
        ("t\n1700000000000000001\n 7\n", [1700000000000000001, 7]),  # exactly
    ],
)
def test_times(tmp_path: Path, text: str, expected: list[int]) -> None:
    assert read(tmp_path, text).times("t").tolist() == expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("%d/%m/%Y %H:%M", "02/01/1970 00:00\n01/01/1970 00:01", [86_400_000, 60_000]),
        ("%m %d, %Y", '"01 2, 1970"\n"01 01, 1970"', [86_400_000, 0]),
        ("%a %b %d %H:%M:%S %z %Y", "Wed Dec 31 16:00:01 -0800 1969", [1000]),
        ("%Y%m%d", "19700102\n19700101", [86_400_000, 0]),
        ("%Y-%m-%dT%H:%M:%S.%f", "1970-01-01T00:00:00.250000", [250]),
    ],
)
def test_times_of_a_named_form(
    tmp_path: Path, pattern: str, text: str, expected: list[int]
) -> None:
    assert read(tmp_path, f"t\n{text}\n").times("t", pattern=pattern).tolist() == expected


SECONDS, MILLIS = "1700000000", "1700000000000"


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        ([SECONDS, SECONDS, MILLIS], ["row 1: 1700000000 looks like seconds", "row 3: .*milli"]),
        ([MILLIS + "000", MILLIS], ["row 2: .* milliseconds", "row 1: .* microseconds"]),
        ([MILLIS + "000000", SECONDS + ".5"], ["row 2: .* seconds", "row 1: .* nanoseconds"]),
        ([SECONDS] * 200 + ["0", MILLIS], ["row 1: .* seconds", "row 202: .* milliseconds"]),
    ],
)
def test_mixed_units_are_refused(tmp_path: Path, values: list[str], rows: list[str]) -> None:
    message = r"column 't' mixes units \(t\.csv, " + ".*".join(rows) + ".*in one unit"
    for tolerant in (False, True):
        path = written(tmp_path, "t\n" + "\n".join(values) + "\n")
        with pytest.raises(DataError, match=message):
            read_table(path, layout=Layout(), tolerant=tolerant).times("t")


def test_mixed_units_of_two_files_name_each_file(tmp_path: Path) -> None:
    parts = [written(tmp_path, f"t\n{v}\n{v}\n", f"{v}.csv") for v in (SECONDS, MILLIS)]
    log = Table.stacked([read_table(path, layout=Layout()) for path in parts])
    with pytest.raises(DataError, match=rf"{SECONDS}\.csv, row 1: .*{MILLIS}\.csv, row 1: "):
        log.times("t")


@pytest.mark.parametrize("most", [100, 10**6, 10**13, 10**19 // 2])
def test_counts_since_a_start_are_no_mixed_units(tmp_path: Path, most: int) -> None:
    """Spread evenly, some of them look like seconds and some like microseconds of today."""
    times = [most * n // 500 for n in range(500)]
    assert read(tmp_path, "t\n" + "\n".join(map(str, times)) + "\n").times("t").tolist() == times


@pytest.mark.parametrize("value", ["31/02/2024", "2024-02-01", ""])
def test_a_time_of_another_form_is_named(tmp_path: Path, value: str) -> None:
    with pytest.raises(DataError, match=r"row 2, column 't': expected a (time|value)"):
        read(tmp_path, f"t,n\n01/02/2024,1\n{value},1\n").times("t", pattern="%d/%m/%Y")


def test_times_of_parquet(tmp_path: Path) -> None:
    moment = datetime(1970, 1, 1, 0, 0, 3, tzinfo=UTC)
    pq.write_table(pa.table({"t": [moment], "n": [4]}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", layout=Layout())
    assert table.times("t").tolist() == [3000]
    assert table.times("n").tolist() == [4]


@pytest.mark.parametrize(
    ("value", "method", "message"),
    [
        ("x", "numbers", r"t\.csv, row 2, column 'v': expected a finite number, got 'x'"),
        ("nan", "numbers", "row 2, column 'v': expected a finite number, got 'nan'"),
        ("inf", "numbers", "expected a finite number, got 'inf'"),
        ("", "numbers", "expected a finite number, got nothing"),
        ("", "text", "expected a value, got nothing"),
        ("2", "binary", "expected 0 or 1, got '2'"),
        ("yes", "binary", "expected 0 or 1, got 'yes'"),
        ("1e17", "times", "expected a time below"),
        ("-inf", "times", "expected a number or a date like 2024-01-31, got '-inf'"),
        ("05.01.2024", "times", "expected a number or a date like 2024-01-31, got '05.01.2024'"),
    ],
)
def test_bad_values_are_named(tmp_path: Path, value: str, method: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        getattr(read(tmp_path, f"id,v\n1,1\n2,{value}\n3,1\n"), method)("v")


def test_bad_date(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2, column 't': expected a date .*, got '2024-13-45'"):
        read(tmp_path, "t\n2024-01-01\n2024-13-45\n").times("t")


def test_a_number_among_dates_is_no_date(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2, column 't': expected a date .*, got '2024'"):
        read(tmp_path, "t\n2024-01-01\n2024\n").times("t")


def test_non_finite_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": [1.0, float("nan")]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="row 2, column 'v': expected a finite number, got nan"):
        read_table(tmp_path / "t.parquet", layout=Layout()).numbers("v")


def test_fractions_are_no_names(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": [1.0, 1.5]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="'v' holds fractions where names are expected"):
        read_table(tmp_path / "t.parquet", layout=Layout()).text("v")


def test_optional_values(tmp_path: Path) -> None:
    table = read(tmp_path, "id,v\n1,\n2,3\n")
    assert np.isnan(table.numbers("v", optional=True)).tolist() == [True, False]
    assert table.text("v", optional=True).to_pylist() == [None, "3"]


def test_unknown_column(tmp_path: Path) -> None:
    path = written(tmp_path, "id,n\n1,2\n")
    with pytest.raises(DataError, match="has no column 'rating'; its columns are 'id', 'n'"):
        read_table(path, ["rating"], layout=Layout())


def test_wrong_number_of_fields(tmp_path: Path) -> None:
    text = "id,n\n1,2\n3\n4,5\n"
    with pytest.raises(DataError, match="row 2: expected 2 fields, got 1 in '3'; check the sepa"):
        read(tmp_path, text)
    table = read_table(written(tmp_path, text), layout=Layout(), tolerant=True)
    assert table.text("id").to_pylist() == ["1", "4"]
    assert table.malformed == 1


def test_tolerated_values(tmp_path: Path) -> None:
    path = written(tmp_path, "id,n\n1,2\n,3\n4,x\n5,6\n")
    table = read_table(path, layout=Layout(), tolerant=True)
    table.text("id")
    table.numbers("n")
    assert table.keep().tolist() == [0, 3]


def test_repeated_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 3: user '7' was already in row 1; keep one"):
        read(tmp_path, "user\n7\n8\n7\n").distinct("user")
    with pytest.raises(DataError, match="has two columns named 'a'"):
        read(tmp_path, "a,b,a\n1,2,3\n")


@pytest.mark.parametrize("text", ["id,n\n", "id,n\n\n\n", "id,n"])
def test_no_rows(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="has no rows"):
        read(tmp_path, text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "cp1252"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, "id,n\r\nMisérables,2\r\n", encoding=encoding)
    table = read_table(path, layout=Layout(encoding=encoding))
    assert table.text("id").to_pylist() == ["Misérables"]
    assert table.numbers("n").tolist() == [2]


def test_lines_that_end_in_carriage_returns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"id,n\r1,2\r\r3,4")
    assert read_table(tmp_path / "t.csv", layout=Layout()).numbers("n").tolist() == [2, 4]


NO_TABLES = {
    "empty": ("t.csv", b"", "t.csv is empty; check the file"),
    "blank": ("t.csv", b" \n\n", "is empty"),
    "UTF-16": ("t.csv", "id\n1\n".encode("utf-16"), "is UTF-16 text; set its encoding to utf-16"),
    "UTF-16 unmarked": ("t.csv", "id\n1\n".encode("utf-16-le"), r"is not utf8 .*utf-16-le\?"),
    "zip": ("t.csv", b"PK\x03\x04 and more", "is a zip archive or an Excel workbook; let its"),
    "torn zip": ("t.zip", b"PK\x03\x04 and more", "cannot be unpacked .*; check the file"),
    "old Excel": ("t.csv", b"\xd0\xcf\x11\xe0 and more", "is an Excel workbook; save it as CSV"),
    "gzip": ("t.csv", gzip.compress(b"id\n1\n"), "compressed by gzip; let its name end in .gz"),
    "parquet": ("t.csv", b"PAR1 and more", "is a parquet file; let its name end in .parquet"),
    "JSON lines as csv": ("t.csv", b'{"id": 1}\n{"id": 2}\n', "is JSON; let its name end in"),
    "JSON as csv": ("t.csv", b'[{"id": 1}]', "is JSON"),
    "torn heading": ("t.csv", b'"id,n\n1,2\n', 'line 1: a name begins with " and does not end'),
    "no parquet": ("t.parquet", b"", "cannot be read"),
}


@pytest.mark.parametrize(("name", "content", "message"), NO_TABLES.values(), ids=NO_TABLES)
def test_what_is_no_table_is_told_in_a_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_table(tmp_path / name, layout=Layout())
    assert "\n" not in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv does not exist"):
        read_table(tmp_path / "nothing.csv", layout=Layout())
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path, layout=Layout())
    damaged = tmp_path / "t.csv.gz"
    damaged.write_bytes(b"\x1f\x8b damaged")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(damaged, layout=Layout())
    damaged = tmp_path / "t.parquet"
    damaged.write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(damaged, layout=Layout())


def test_stacked_files_keep_their_own_rows(tmp_path: Path) -> None:
    parts = [written(tmp_path, f"v\n{a}\n{b}\n", f"{a}.csv") for a, b in ((1, 2), (3, "x"))]
    table = Table.stacked([read_table(path, layout=Layout()) for path in parts])
    assert table.text("v").to_pylist() == ["1", "2", "3", "x"]
    with pytest.raises(DataError, match=r"3\.csv, row 2, column 'v'"):
        table.numbers("v")
