"""Reads delimited files, gzipped too, and parquet files into columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mrff.data.columns import Table, unknown_column
from mrff.data.errors import DataError


@dataclass(frozen=True)
class Layout:
    """How a delimited file is written; ``names`` are given where the file has no header line."""

    separator: str = ","
    names: tuple[str, ...] | None = None
    encoding: str = "utf8"
    quote: str | None = '"'


def read_table(
    path: Path, columns: Sequence[str] | None = None, *, layout: Layout, tolerant: bool = False
) -> Table:
    """Reads the named columns (all: None) of a delimited file, gzipped too, or of a parquet file.

    Raises:
        DataError: an unreadable or empty file, an unknown column, a row with too few or many
            fields (counted instead if ``tolerant``).
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, a file is needed; check the path")
    try:
        if path.suffix in (".parquet", ".pq"):
            return _read_parquet(path, columns, tolerant)
        return _read_delimited(path, columns, layout, tolerant)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        told = f"cannot be read ({reason}); check the file"
        if isinstance(error, UnicodeDecodeError) or "UTF8" in reason:
            told = f"is not {layout.encoding} text; set its encoding (often: latin1)"
        raise DataError(f"{path} {told}") from None


def _read_parquet(path: Path, columns: Sequence[str] | None, tolerant: bool) -> Table:
    table = pq.read_table(path, columns=_known(path, columns, pq.read_schema(path).names))
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows; check the file")
    return Table(path, _arrays(table), table.num_rows, tolerant)


def _read_delimited(
    path: Path, columns: Sequence[str] | None, layout: Layout, tolerant: bool
) -> Table:
    with pa.input_stream(str(path), compression="detect") as stream:
        content = stream.read().removeprefix(b"\xef\xbb\xbf")
    if len(layout.separator) > 1:  # the reader knows single characters only
        content = content.replace(layout.separator.encode(), b"\x1f")
        layout = replace(layout, separator="\x1f")
    if layout.names is None:
        header, _, content = content.partition(b"\n")
        names = _header(path, header, layout)
    else:
        names = list(layout.names)
    wanted = _known(path, columns, names)
    if not content.strip():
        raise DataError(f"{path} has no rows; check the file")
    skipped: list[Any] = []  # the reader swallows what its handler raises

    def on_wrong_width(row: Any) -> str:
        skipped.append(row)
        return "skip"

    table = pa_csv.read_csv(
        io.BytesIO(content),
        read_options=pa_csv.ReadOptions(
            column_names=names, encoding=layout.encoding, use_threads=False
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter=layout.separator,
            quote_char=layout.quote or False,
            newlines_in_values=layout.quote is not None,
            invalid_row_handler=on_wrong_width,
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            include_columns=wanted,
            strings_can_be_null=True,
            null_values=[""],
        ),
    )
    if skipped and not tolerant:
        row = skipped[0]
        raise DataError(
            f"{path}, row {row.number}: expected {row.expected_columns} fields, got "
            f"{row.actual_columns} in {row.text[:60]!r}; check the separator or remove the row"
        )
    return Table(path, _arrays(table), table.num_rows, tolerant, len(skipped))


def _header(path: Path, line: bytes, layout: Layout) -> list[str]:
    text = line.decode(layout.encoding).rstrip("\r")
    reader = csv.reader([text], delimiter=layout.separator, quotechar=layout.quote or None)
    names = [name.strip() for name in next(reader, [])]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise DataError(f"{path} has two columns named {min(repeated)!r}; rename one")
    return names


def _known(path: Path, columns: Sequence[str] | None, names: list[str]) -> list[str]:
    for name in columns or ():
        if name not in names:
            raise unknown_column(path, name, names)
    return names if columns is None else list(dict.fromkeys(columns))


def _arrays(table: Any) -> dict[str, Any]:
    """The columns, each in one piece and in one of few types."""
    arrays = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            kind = pa.string()
        if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
            kind = pa.float64()
        arrays[name] = pa.concat_arrays([pa.array([], kind), *column.cast(kind).chunks])
    return arrays
