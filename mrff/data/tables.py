"""Reads delimited files, JSON and parquet into columns, gzipped and from zip archives too."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mrff.data.archives import unzipped
from mrff.data.columns import Table, unknown_column
from mrff.data.errors import DataError
from mrff.data.json_rows import ENDINGS, read_json
from mrff.data.quotes import Quoting, count_lines, swallowed_lines

_LINE_END = re.compile(rb"\r\n|\n|\r")
_ZIP = "a zip archive or an Excel workbook; let its name end in .zip, or save it as CSV"
_NO_TEXT = {  # by how a file begins
    b"PK\x03\x04": _ZIP,
    b"PK\x05\x06": _ZIP,
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save it as CSV, and name that file",
    b"\x1f\x8b": "compressed by gzip; let its name end in .gz",
    b"PAR1": "a parquet file; let its name end in .parquet",
}


@dataclass(frozen=True)
class Layout:
    """How a delimited file is written; ``names`` are given where the file has no header line."""

    separator: str = ","
    names: tuple[str, ...] | None = None
    encoding: str = "utf8"
    quote: str | None = '"'
    member: str | None = None  # of a zip archive


def read_table(
    path: Path, columns: Sequence[str] | None = None, *, layout: Layout, tolerant: bool = False
) -> Table:
    """Reads the named columns (all: None) of a file; the end of its name says what it is.

    Raises:
        DataError: an unreadable or empty file, an unknown column, a row with too few or many
            fields (counted instead if ``tolerant``).
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, a file is needed; check the path")
    try:
        name, packed = path.name.removesuffix(".gz"), None
        if path.suffix == ".zip":
            name, packed = unzipped(path, layout.member)
        if name.endswith((".parquet", ".pq")):
            source = path if packed is None else pa.BufferReader(packed)
            return _read_parquet(source, path, columns, tolerant)
        content = _text(path, _content(path) if packed is None else packed, layout.encoding)
        if name.endswith(ENDINGS):
            return read_json(path, content, columns or (), tolerant=tolerant)
        return _read_delimited(path, content, columns, layout, tolerant)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        told = f"cannot be read ({reason}); check the file"
        if isinstance(error, UnicodeDecodeError) or "UTF8" in reason:
            told = f"is not {layout.encoding} text; set its encoding (often: latin1)"
        raise DataError(f"{path} {told}") from None


def _read_parquet(source: Any, path: Path, columns: Sequence[str] | None, tolerant: bool) -> Table:
    table = pq.read_table(source, columns=_known(path, columns, pq.read_schema(source).names))
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows; check the file")
    return Table(path, _arrays(table), table.num_rows, tolerant)


def _read_delimited(
    path: Path, content: bytes, columns: Sequence[str] | None, layout: Layout, tolerant: bool
) -> Table:
    header_lines = 0
    if content.startswith((b'{"', b"[{")):
        raise DataError(f"{path} is JSON; let its name end in .jsonl")
    if len(layout.separator) > 1:  # the reader knows single characters only
        content = content.replace(layout.separator.encode(), b"\x1f")
        layout = replace(layout, separator="\x1f")
    if layout.names is None:
        header, *rest = _LINE_END.split(content, maxsplit=1)
        names, content, header_lines = _header(path, header.decode(), layout), b"".join(rest), 1
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
        read_options=pa_csv.ReadOptions(column_names=names, use_threads=False),
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
    swallowed, quote = 0, layout.quote or ""
    may_swallow = bool(quote) and quote.encode() in content
    if may_swallow and count_lines(content) > table.num_rows + len(skipped):
        quoting = Quoting(layout.separator, quote, len(names), 1 + header_lines)
        swallowed = swallowed_lines(path, content, quoting)
    if skipped and not tolerant:
        row = skipped[0]
        raise DataError(
            f"{path}, row {row.number}: expected {row.expected_columns} fields, got "
            f"{row.actual_columns} in {row.text[:60]!r}; check the separator or remove the row"
        )
    return Table(path, _arrays(table), table.num_rows, tolerant, len(skipped), swallowed)


def _content(path: Path) -> bytes:
    with pa.input_stream(str(path), compression="detect") as stream:
        content: bytes = stream.read()
    return content


def _text(path: Path, content: bytes, encoding: str) -> bytes:
    """The file as UTF-8; DataError where it is no text at all."""
    for start, told in _NO_TEXT.items():
        if content.startswith(start):
            raise DataError(f"{path} is {told}")
    if codecs.lookup(encoding).name != "utf-8":
        content = content.decode(encoding).encode()
    elif content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is UTF-16 text; set its encoding to utf-16")
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        raise DataError(f"{path} is empty; check the file")
    if b"\0" in content[:4096]:
        raise DataError(f"{path} is not {encoding} text; set its encoding (utf-16-le?)")
    return content


def _header(path: Path, line: str, layout: Layout) -> list[str]:
    separator, quote = layout.separator, layout.quote or None
    reader = csv.reader([line], strict=True, delimiter=separator, quotechar=quote)
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error:
        raise DataError(
            f"{path}, line 1: a name begins with {layout.quote} and does not end with one; "
            f"mend the line"
        ) from None
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
