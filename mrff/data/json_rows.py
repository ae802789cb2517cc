"""Rows of JSON: an object on every line, or a list of them; a dotted name reaches into objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mrff.data.columns import Table, unknown_column
from mrff.data.database import closed_database
from mrff.data.errors import DataError

ENDINGS = (".jsonl", ".ndjson", ".json")
_OBJECTS = "SELECT CASE WHEN json_valid(line) THEN json_type(line) END = 'OBJECT' AS a FROM lines"
_VALUES = "(SELECT coalesce(json_extract(line, $whole), json_extract(line, $path)) v FROM lines)"


def read_json(path: Path, content: bytes, columns: Sequence[str], *, tolerant: bool) -> Table:
    """The named columns as text, or as lists of text; what an object lacks is missing.

    Args:
        columns: names of keys, or of keys within: ``user.id`` of ``{"user": {"id": 7}}``.

    Raises:
        DataError: a column that no row has or that holds objects, and a line that is no object
            (counted instead if ``tolerant``).
    """
    lines = _lines(path, content.decode())
    is_object = np.asarray(pc.fill_null(_asked(_OBJECTS, lines)["a"], False))
    malformed = np.flatnonzero(~is_object)
    if len(malformed) and not tolerant:
        row = int(malformed[0])
        raise DataError(
            f'{path}, row {row + 1}: expected an object as {{"key": value}}, got '
            f"{lines[row].as_py()[:60]!r}; correct or remove the row"
        )
    lines = lines.filter(pa.array(is_object))
    if not len(lines):
        raise DataError(f"{path} has no rows; check the file")
    arrays = {name: _column(path, name, lines) for name in dict.fromkeys(columns)}
    return Table(path, arrays, len(lines), tolerant, len(malformed))


def _lines(path: Path, text: str) -> Any:
    """The rows as text; of a list, its elements."""
    whole = pa.array([text], pa.large_string())
    if text.lstrip()[:1] == "[":
        if not _asked("SELECT json_valid(line) AS a FROM lines", whole)["a"][0].as_py():
            raise DataError(f"{path} is no valid JSON; check the file")
        each = "SELECT unnest(from_json(line, '[\"JSON\"]'))::VARCHAR AS a FROM lines"
        return _asked(each, whole)["a"].combine_chunks().cast(pa.large_string())
    lines = pc.split_pattern(whole, "\n").values
    return lines.filter(pc.not_equal(pc.utf8_trim_whitespace(lines), ""))


def _column(path: Path, name: str, lines: Any) -> Any:
    """The values of one name, each as text."""
    keys = name.replace("~", "~0").replace("/", "~1")
    places = {"whole": f"/{keys}", "path": f"/{keys.replace('.', '/')}"}
    asked = f"SELECT json_type(v) AS kind, json_extract_string(v, '$') AS a FROM {_VALUES}"
    found = _asked(asked, lines, places)
    kinds = set(pc.unique(found["kind"]).to_pylist()) - {None, "NULL"}
    if not kinds:
        raise unknown_column(path, name, _keys(lines))
    values = found["a"].combine_chunks().cast(pa.string())
    if "ARRAY" in kinds:
        is_list = "json_type(v) = 'ARRAY'"
        each = f"CASE WHEN {is_list} THEN from_json(v, '[\"VARCHAR\"]') END"
        lists = _asked(f"SELECT {each} AS a FROM {_VALUES}", lines, places)["a"].to_pylist()
        alone = ([] if text is None else [text] for text in values.to_pylist())
        rows = [one if many is None else many for many, one in zip(lists, alone, strict=True)]
        if any((part or "").startswith("{") for row in rows for part in row):
            kinds.add("OBJECT")
        values = pa.array(rows, pa.list_(pa.string()))
    if "OBJECT" in kinds:
        raise DataError(
            f"{path}, column {name!r} holds objects; name a value in them, as {name}.KEY"
        )
    return values


def _keys(lines: Any) -> list[str]:
    """Of the first row."""
    keys: list[str] = _asked("SELECT json_keys(line) AS a FROM lines", lines[:1])["a"][0].as_py()
    return keys


def _asked(query: str, lines: Any, places: dict[str, str] | None = None) -> Any:
    """What DuckDB answers, as an arrow table with a row for each line."""
    with closed_database() as database:
        database.register("lines", pa.table({"line": lines}))
        return database.sql(query, params=places).to_arrow_table()
