"""Reads delimited and parquet files as columns of text, and says which row of which file is bad."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mrff_data.errors import DataError


@dataclass(frozen=True)
class Layout:
    """How a delimited file is written; ``names`` are given where the file has no header line."""

    separator: str = ","
    names: tuple[str, ...] | None = None
    encoding: str = "utf8"
    quote: str | None = '"'


@dataclass
class Table:
    """Columns of one file; ``bad`` collects the rows that could not be used, where tolerated.

    Rows are counted from 1 without the header and without empty lines.
    """

    path: Path
    columns: dict[str, Any]  # name -> pyarrow array
    num_rows: int
    tolerant: bool = False
    malformed: int = 0  # rows the reader skipped
    bad: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.bad = np.zeros(self.num_rows, dtype=bool)

    def text(self, name: str, *, optional: bool = False) -> Any:
        """The column as text; missing values are null if ``optional`` and errors otherwise."""
        column = self.columns[name]
        if pa.types.is_floating(column.type):
            column = _whole_as_integer(column, self.path, name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        try:
            column = pc.utf8_trim_whitespace(column.cast(pa.string()))
        except pa.ArrowException:
            raise DataError(
                f"{self.path}, column {name!r}: values of type {column.type} are no names; "
                f"use a column of text or whole numbers"
            ) from None
        empty = pc.fill_null(pc.equal(column, ""), True)
        column = pc.if_else(empty, pa.scalar(None, pa.string()), column)
        if not optional:
            self._reject(name, np.asarray(empty), column, "a value")
        return column

    def numbers(self, name: str, *, optional: bool = False) -> NDArray[np.float64]:
        """The column as float64; NaN where missing if ``optional``.

        Raises:
            DataError: the first value that is no finite number, with its row.
        """
        column = self.columns[name]
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            missing = np.asarray(pc.is_null(column))
            values = np.asarray(pc.fill_null(column.cast(pa.float64()), 0.0))
        else:
            column = self.text(name, optional=True)
            missing = np.asarray(pc.is_null(column))
            values = _parse_numbers(pc.fill_null(column, "0"))
        wrong = ~np.isfinite(values) | (missing if not optional else False)
        self._reject(name, np.asarray(wrong), column, "a finite number")
        return np.asarray(np.where(missing & optional, np.nan, np.where(wrong, 0.0, values)))

    def times(self, name: str) -> NDArray[np.int64]:
        """The column as int64: whole numbers as found, fractions of seconds and dates as ms."""
        column = self.columns[name]
        if pa.types.is_temporal(column.type):
            self._reject(name, np.asarray(pc.is_null(column)), column, "a time")
            stamps = pc.fill_null(column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()), 0)
            return np.asarray(stamps)
        if pa.types.is_integer(column.type):
            self._reject(name, np.asarray(pc.is_null(column)), column, "a time")
            return np.asarray(pc.fill_null(column.cast(pa.int64()), 0))
        if pa.types.is_string(column.type) and _looks_like_dates(column):
            return self._dates(name)
        values = self.numbers(name)
        if np.any(np.abs(values) >= 2**53):
            self._reject(name, np.abs(values) >= 2**53, column, "a time below 2^53")
        whole = bool(np.all(values == np.floor(values)))
        return np.round(values if whole else values * 1000).astype(np.int64)

    def keep(self) -> NDArray[np.int64]:
        """The rows that are usable."""
        return np.flatnonzero(~self.bad)

    def _dates(self, name: str) -> NDArray[np.int64]:
        column = self.text(name, optional=True)
        stamps = _parse_dates(column)
        self._reject(name, np.asarray(pc.is_null(stamps)), column, "a date like 2024-01-31")
        return np.asarray(pc.fill_null(stamps.cast(pa.int64()), 0))

    def _reject(self, name: str, wrong: NDArray[np.bool_], column: Any, wanted: str) -> None:
        if self.tolerant:
            self.bad |= wrong
        elif wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            value = column[row].as_py()
            shown = "nothing" if value in (None, "") else repr(value)
            raise DataError(
                f"{self.path}, row {row + 1}, column {name!r}: expected {wanted}, got {shown}; "
                f"correct or remove the row"
            )


def read_table(
    path: Path, columns: Sequence[str] | None = None, *, layout: Layout, tolerant: bool = False
) -> Table:
    """Reads the named columns (all: None) of a delimited file, gzipped too, or of a parquet file.

    Raises:
        DataError: an unreadable or empty file, an unknown column, a row with too few or many
            fields (counted instead if ``tolerant``).
    """
    try:
        if path.suffix in (".parquet", ".pq"):
            return _read_parquet(path, columns, tolerant)
        return _read_delimited(path, columns, layout, tolerant)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, a file is needed; check the path") from None
    except UnicodeDecodeError:
        raise _undecodable(path, layout) from None
    except (OSError, EOFError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        if "UTF8" in reason:
            raise _undecodable(path, layout) from None
        raise DataError(f"{path} cannot be read ({reason}); check the file") from None


def _undecodable(path: Path, layout: Layout) -> DataError:
    return DataError(f"{path} is not {layout.encoding} text; set its encoding (often: latin1)")


def _read_parquet(path: Path, columns: Sequence[str] | None, tolerant: bool) -> Table:
    names = pq.read_schema(path).names
    wanted = _known(path, columns, names)
    table = pq.read_table(path, columns=list(wanted))
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows; check the file")
    arrays = {name: _one_array(table.column(name)) for name in wanted}
    return Table(path, arrays, table.num_rows, tolerant)


def _read_delimited(
    path: Path, columns: Sequence[str] | None, layout: Layout, tolerant: bool
) -> Table:
    with pa.input_stream(str(path), compression="detect") as stream:
        content = stream.read()
    separator = layout.separator
    if len(separator) > 1:  # the reader knows single characters only
        content, separator = content.replace(separator.encode(), b"\x1f"), "\x1f"
    content = content.removeprefix(b"\xef\xbb\xbf")
    first, _, rest = content.partition(b"\n")
    if layout.names is None:
        header = first.decode(layout.encoding).rstrip("\r")
        reader = csv.reader([header], delimiter=separator, quotechar=layout.quote or None)
        names = [name.strip() for name in next(reader, [])]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise DataError(f"{path} has two columns named {min(repeated)!r}; rename one")
        content = rest
    else:
        names = list(layout.names)
    wanted = _known(path, columns, names)
    if not content.strip():
        raise DataError(f"{path} has no rows; check the file")
    skipped: list[int] = []

    def on_wrong_width(row: Any) -> str:
        if not tolerant:
            raise DataError(
                f"{path}, row {row.number}: expected "
                f"{row.expected_columns} fields, got {row.actual_columns} in {row.text[:60]!r}; "
                f"check the separator or remove the row"
            )
        skipped.append(row.number)
        return "skip"

    table = pa_csv.read_csv(
        io.BytesIO(content),
        read_options=pa_csv.ReadOptions(
            column_names=names, encoding=layout.encoding, use_threads=False
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter=separator,
            quote_char=layout.quote or False,
            invalid_row_handler=on_wrong_width,
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            include_columns=list(wanted),
            strings_can_be_null=True,
            null_values=[""],
        ),
    )
    arrays = {name: _one_array(table.column(name)) for name in wanted}
    return Table(path, arrays, table.num_rows, tolerant, len(skipped))


def _known(path: Path, columns: Sequence[str] | None, names: Sequence[str]) -> Sequence[str]:
    for name in columns or ():
        if name not in names:
            raise DataError(
                f"{path} has no column {name!r}; its columns are {', '.join(map(repr, names))}"
            )
    return names if columns is None else list(dict.fromkeys(columns))


def _one_array(column: Any) -> Any:
    combined = column.combine_chunks()
    return combined.combine_chunks() if isinstance(combined, pa.ChunkedArray) else combined


def _whole_as_integer(column: Any, path: Path, name: str) -> Any:
    try:
        return column.cast(pa.int64())
    except pa.ArrowException:
        raise DataError(
            f"{path}, column {name!r} holds fractions where names are expected; "
            f"use a column of text or whole numbers"
        ) from None


def _parse_numbers(column: Any) -> NDArray[np.float64]:
    """Float64 of a text column; NaN where the text is no number."""
    try:
        return np.asarray(column.cast(pa.float64()))
    except pa.ArrowException:
        return np.array([_number(text) for text in column.to_pylist()])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


_DATE = re.compile(r"\s*\d{4}-\d{1,2}-\d{1,2}")


def _looks_like_dates(column: Any) -> bool:
    sample = pc.drop_null(column[:1000])
    return any(_DATE.match(text) for text in sample.to_pylist())


def _parse_dates(column: Any) -> Any:
    """Timestamps in ms (UTC where no zone is given); null where the text is no date."""
    for kind in (pa.timestamp("ms"), pa.timestamp("ms", tz="UTC")):
        try:
            return column.cast(kind)
        except pa.ArrowException:
            continue
    stamps = []
    for text in column:
        for kind in (pa.timestamp("ms"), pa.timestamp("ms", tz="UTC")):
            try:
                stamps.append(text.cast(kind).value)
                break
            except pa.ArrowException:
                continue
        else:
            stamps.append(None)
    return pa.array(stamps, pa.int64())
