"""How a file is written, and all of its columns."""

from __future__ import annotations

import codecs
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.columns import Table
from mrff.data.errors import DataError
from mrff.data.json_rows import ENDINGS
from mrff.data.tables import Layout, read_table
from mrff.data.values import floats

_SAMPLE = 1 << 20  # letters that separator, quote and header are told from
_JSON_ROWS = 1000  # that names are looked for in
_DOTS = "::"  # MovieLens' separator, which DuckDB does not try


@dataclass(frozen=True)
class Source:
    """A file with everything in it; rows that cannot be read are counted."""

    path: Path
    layout: Layout
    table: Table

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return list(self.table.columns)

    def texts(self, name: str) -> Any:
        """A column as text, null where there is nothing; the text of a list is of no use."""
        column = self.table.columns[name]
        if self.is_list(name):
            return pa.array([None if row is None else str(row) for row in column.to_pylist()])
        try:
            return self.table.text(name, optional=True)
        except DataError:  # fractions, times
            return column.cast(pa.string())

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        """A column of numbers, NaN where there is nothing; None: it is another."""
        column = self.table.columns[name]
        kind = column.type
        if self.is_list(name) or pa.types.is_temporal(kind) or pa.types.is_boolean(kind):
            return None
        values = floats(column if pa.types.is_primitive(kind) else self.texts(name))
        is_there = ~np.asarray(pc.is_null(self.texts(name)))
        return values if is_there.any() and np.isfinite(values[is_there]).all() else None

    def is_list(self, name: str) -> bool:
        """Whether its values are lists, of JSON or parquet."""
        kind = self.table.columns[name].type
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))

    def codes(self, name: str) -> NDArray[np.int64]:
        """A number for each value of a column, -1 where there is nothing."""
        return np.asarray(pc.fill_null(self.texts(name).dictionary_encode().indices, -1))

    def examples(self, name: str) -> str:
        """Its first values, for people."""
        found = pc.unique(pc.drop_null(self.texts(name)[:1000])).to_pylist()[:3]
        return ", ".join(f"{value:.20}" for value in found) or "nothing"


def look_at(path: Path) -> Source:
    """Reads a file whose layout nobody has described.

    Raises:
        DataError: it is no table that can be read.
    """
    name = path.name.removesuffix(".gz")
    if name.endswith((".zip", ".xlsx", ".xls")):
        raise DataError(f"{path} is an archive or workbook; unpack it or save it as CSV")
    if not path.is_file():
        raise DataError(f"{path} is no file; check the path")
    layout, columns = Layout(), None
    if name.endswith(ENDINGS):
        columns = sorted(set(_json_names(path)), key=str.lower)
    elif not name.endswith((".parquet", ".pq")):
        layout = _layout(path)
    return Source(path, layout, read_table(path, columns, layout=layout, tolerant=True))


def _layout(path: Path) -> Layout:
    """Of a delimited file; DuckDB looks at its beginning, which is handed to it as UTF-8."""
    import duckdb  # heavy, and only where a layout is not known

    encoding, sample = _sample(path)
    separated = f", delim='{_DOTS}'" if _DOTS in sample.partition("\n")[0] else ""
    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8") as file:
        file.write(sample)
        file.flush()
        told_of = f"sniff_csv($path, ignore_errors=true{separated})"
        asked = f"SELECT Delimiter, Quote, HasHeader, Columns FROM {told_of}"
        try:
            with duckdb.connect(":memory:") as database:
                found = database.execute(asked, {"path": file.name}).fetchone()
        except duckdb.Error as error:
            told = str(error).splitlines()[0]
            raise DataError(f"{path}: no columns can be told ({told}); see docs/data.md") from None
    assert found is not None
    separator, quote, has_header, columns = found
    if len(columns) < 2:
        raise DataError(f"{path} has one column; is it a table? describe it by hand: docs/data.md")
    used = quote if quote in ('"', "'") else None
    return Layout(
        separator=separator,
        names=None if has_header else tuple(f"column{n + 1}" for n in range(len(columns))),
        encoding=encoding,
        quote=used if '"' in sample else used or '"',
    )


def _sample(path: Path) -> tuple[str, str]:
    """The encoding, and the beginning."""
    with pa.input_stream(str(path), compression="detect") as stream:
        content = stream.read(4 * _SAMPLE)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", content[:_SAMPLE].decode("utf-16", errors="ignore")
    try:  # a letter may be cut at the end
        return "utf8", codecs.getincrementaldecoder("utf-8-sig")().decode(content)[:_SAMPLE]
    except UnicodeDecodeError:
        return "latin1", content.decode("latin1")[:_SAMPLE]


def _json_names(path: Path) -> Iterator[str]:
    """Names of values in the first objects; a dot reaches into objects, lists of them are left."""
    with pa.input_stream(str(path), compression="detect") as stream:
        text = stream.read().decode("utf-8", errors="replace")
    try:
        rows = json.loads(text) if text.lstrip()[:1] == "[" else _first_lines(text)
    except ValueError:
        rows = []
    for row in rows[:_JSON_ROWS]:
        yield from _names_in(row, "")


def _first_lines(text: str) -> list[Any]:
    rows = []
    for line in text.splitlines()[:_JSON_ROWS]:
        try:
            rows.append(json.loads(line))
        except ValueError:  # read_table tells
            continue
    return rows


def _names_in(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _names_in(inner, f"{name}.{key}" if name else key)
    elif name and value is not None and not _holds_objects(value):
        yield name


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)
