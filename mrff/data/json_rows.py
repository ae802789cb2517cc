"""Rows of JSON: an object on every line, or a list of them; a dotted name reaches into objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa

from mrff.data.columns import Table, unknown_column
from mrff.data.errors import DataError

ENDINGS = (".jsonl", ".ndjson", ".json")


def read_json(path: Path, content: bytes, columns: Sequence[str], *, tolerant: bool) -> Table:
    """The named columns as text, or as lists of text; what an object lacks is missing.

    Args:
        columns: names of keys, or of keys within: ``user.id`` of ``{"user": {"id": 7}}``.

    Raises:
        DataError: a column that no row has or that holds objects, and a line that is no object
            (counted instead if ``tolerant``).
    """
    found: dict[str, list[Any]] = {name: [] for name in columns}
    malformed, first = 0, None
    for number, row in enumerate(_rows(path, content), start=1):
        if not isinstance(row, dict):
            if not tolerant:
                raise DataError(
                    f'{path}, row {number}: expected an object as {{"key": value}}, got '
                    f"{str(row)[:60]!r}; correct or remove the row"
                )
            malformed += 1
            continue
        first = first or row
        for name, values in found.items():
            values.append(row.get(name, _reached(row, name)))
    for name, values in found.items():
        if all(value is None for value in values):
            raise unknown_column(path, name, first or ())
    arrays = {name: _column(path, name, values) for name, values in found.items()}
    rows = len(next(iter(found.values()), []))
    return Table(path, arrays, rows, tolerant, malformed)


def _rows(path: Path, content: bytes) -> Iterator[Any]:
    """Every row as it is parsed; a line that cannot be is its own text."""
    if content.lstrip()[:1] == b"[":
        try:
            yield from json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is damaged ({error}); check the file") from None
        return
    for line in BytesIO(content):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield line.decode(errors="replace").strip()


def _reached(row: dict[str, Any], name: str) -> Any:
    value: Any = row
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _column(path: Path, name: str, values: list[Any]) -> Any:
    lists = any(isinstance(value, list) for value in values)
    try:
        if lists:
            return pa.array([_texts(value) for value in values], pa.list_(pa.string()))
        return pa.array([_text(value) for value in values], pa.string())
    except TypeError:
        raise DataError(
            f"{path}, column {name!r} holds objects; name a value in them, as {name}.KEY"
        ) from None
    except UnicodeEncodeError:
        raise DataError(f"{path}, column {name!r} holds text that is no Unicode") from None


def _text(value: Any) -> str | None:
    """A value as CSV has it; TypeError for an object."""
    if isinstance(value, dict | list):
        raise TypeError("holds objects")
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def _texts(value: Any) -> list[str | None]:
    if value is None:
        return []
    return [_text(part) for part in (value if isinstance(value, list) else [value])]
