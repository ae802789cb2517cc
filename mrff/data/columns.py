"""Typed columns of a file that was read, and the row to blame when one does not fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.clock import mixed_units
from mrff.data.errors import DataError
from mrff.data.values import floats, look_like_dates, milliseconds, whole_numbers

Rows = NDArray[np.int64]  # numbers of rows, from 0, in order


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
    swallowed: int = 0  # lines within quoted values that look like rows
    bad: NDArray[np.bool_] = field(init=False)
    left_out: NDArray[np.bool_] = field(init=False)  # rows that are not wanted, bad or not
    origins: list[tuple[Path, int]] = field(default_factory=list)  # files and their rows

    def __post_init__(self) -> None:
        self.bad = np.zeros(self.num_rows, dtype=bool)
        self.left_out = np.zeros(self.num_rows, dtype=bool)

    @classmethod
    def stacked(cls, tables: list[Table]) -> Table:
        """Tables with the same columns one below the other; errors name the file's own rows."""
        if len(tables) == 1:
            return tables[0]
        columns = {}
        for name in tables[0].columns:
            parts = [table.columns[name] for table in tables]
            kinds = {part.type for part in parts}
            if len(kinds) > 1:
                parts = [table.text(name, optional=True) for table in tables]
            columns[name] = pa.concat_arrays(parts)
        rows = sum(table.num_rows for table in tables)
        joined = cls(tables[0].path, columns, rows, tables[0].tolerant)
        joined.malformed = sum(table.malformed for table in tables)
        joined.swallowed = sum(table.swallowed for table in tables)
        joined.origins = [(table.path, table.num_rows) for table in tables]
        return joined

    def column(self, name: str) -> Any:
        """The column as read; DataError if there is none of this name."""
        if name not in self.columns:
            raise unknown_column(self.path, name, self.columns)
        return self.columns[name]

    def text(self, name: str, *, optional: bool = False) -> Any:
        """The column as text; missing values are null if ``optional`` and errors otherwise."""
        column = self.column(name)
        is_float = pa.types.is_floating(column.type)
        try:
            whole = column.cast(pa.int64()) if is_float else column
            column = pc.utf8_trim_whitespace(whole.cast(pa.string()))
        except pa.ArrowException:
            held = "fractions" if is_float else f"values of type {column.type}"
            raise DataError(
                f"{self.path}, column {name!r} holds {held} where names are expected; "
                f"use a column of text or whole numbers"
            ) from None
        empty = pc.fill_null(pc.equal(column, ""), True)
        column = pc.if_else(empty, pa.scalar(None, pa.string()), column)
        if not optional:
            self.reject(name, np.asarray(empty), column, "a value")
        return column

    def numbers(
        self, name: str, *, optional: bool = False, wanted: str = "a finite number"
    ) -> NDArray[np.float64]:
        """The column as float64; missing values are NaN if ``optional`` and errors otherwise."""
        column = self.column(name)
        if not (pa.types.is_primitive(column.type) and not pa.types.is_temporal(column.type)):
            column = self.text(name, optional=True)
        values = floats(column)
        allowed = np.asarray(pc.is_null(column)) & optional
        wrong = ~np.isfinite(values) & ~allowed
        self.reject(name, wrong, column, wanted)
        return np.where(wrong, 0.0, values)

    def binary(self, name: str) -> NDArray[np.int8]:
        """The column as int8 labels, 0 or 1 (or false or true, as text too)."""
        column = self.column(name)
        if pa.types.is_string(column.type):
            lower = pc.utf8_lower(pc.utf8_trim_whitespace(column))
            codes = pc.index_in(lower, pa.array(["0", "1", "0.0", "1.0", "false", "true"]))
            values = np.asarray(pc.fill_null(codes, -1)).astype(np.int64)
            wrong = values < 0
            values = values % 2
        else:
            values = self.numbers(name).astype(np.int64)
            wrong = (values != 0) & (values != 1)
        self.reject(name, wrong, column, "0 or 1")
        return np.where(wrong, 0, values).astype(np.int8)

    def distinct(self, name: str) -> Any:
        """The column as text; DataError for a value that an earlier row has."""
        self.one_each(name, "error")
        return self.text(name)

    def one_each(self, name: str, repeats: Literal["error", "first", "last"]) -> Rows:
        """The usable rows, but of those with the same text in a column only the first or last.

        Raises:
            DataError: there are such rows, and ``repeats`` is ``error``.
        """
        ids = self.text(name)
        rows = self.keep()[:: -1 if repeats == "last" else 1]
        _, first, same = np.unique(
            np.asarray(ids.take(pa.array(rows)).dictionary_encode().indices),
            return_index=True, return_inverse=True,
        )  # fmt: skip
        repeated = np.flatnonzero(first[same] < np.arange(len(rows)))
        if repeats == "error" and len(repeated):
            row, before = (int(rows[n]) for n in (repeated[0], first[same[repeated[0]]]))
            raise DataError(
                f"{self.path}, row {row + 1}: {name} {ids[row].as_py()!r} was already in row "
                f"{before + 1}; keep one of the rows"
            )
        return np.sort(rows[first])

    def lists(self, name: str, separator: str, rows: Rows) -> list[list[str]]:
        """The values of each of the rows: a list column, or text split at the separator."""
        column = self.column(name).take(pa.array(rows))
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            return [[str(v) for v in row or () if v is not None] for row in column.to_pylist()]
        texts = self.text(name, optional=True).take(pa.array(rows)).to_pylist()
        return [
            [part.strip() for part in (t or "").split(separator) if part.strip()] for t in texts
        ]

    def times(
        self,
        name: str,
        *,
        pattern: str | None = None,
        wanted: str = "a number or a date like 2024-01-31",
    ) -> NDArray[np.int64]:
        """The column as int64: whole numbers as found, fractions of seconds and dates as ms.

        Args:
            pattern: how every value is written, in the codes of ``strptime``; then whole numbers
                are dates, too (``%Y%m%d``).
            wanted: what an error asks for if the column holds neither numbers nor ISO dates.

        Raises:
            DataError: the first value that is none of them, with its row.
        """
        column = self.column(name)
        kind = column.type
        if pattern is not None:
            texts = self.text(name, optional=True)
            stamps, wrong = milliseconds(texts, pattern)
            self.reject(name, wrong, texts, f"a time written as {pattern!r}")
            return stamps
        if pa.types.is_string(kind) and look_like_dates(column[:1000]).any():
            texts = self.text(name, optional=True)
            stamps, wrong = milliseconds(texts, "ISO8601")
            self.reject(name, wrong | ~look_like_dates(texts), texts, "a date like 2024-01-31")
            return stamps
        if pa.types.is_temporal(kind):
            self.reject(name, np.asarray(pc.is_null(column)), column, "a time")
            column = column.cast(pa.timestamp("ms"), safe=False)
            return np.asarray(pc.fill_null(column.cast(pa.int64()), 0))
        whole = whole_numbers(column)
        if whole is not None:
            self._refuse_mixed_units(name, whole)
            return whole
        values = self.numbers(name, wanted=wanted)
        self._refuse_mixed_units(name, values)
        self.reject(name, np.abs(values) >= 2**53, column, "a time below 2^53")
        is_whole = bool(np.all(values == np.floor(values)))
        return np.round(values if is_whole else values * 1000).astype(np.int64)

    def _refuse_mixed_units(self, name: str, times: NDArray[Any]) -> None:
        rows = self.keep()
        mixed = [(unit, int(rows[place])) for unit, place in mixed_units(times[rows])]
        if mixed:
            told = []
            for unit, row in mixed:
                path, number = self._origin(row)
                told.append(f"{path.name}, row {number}: {times[row]:.0f} looks like {unit}")
            raise DataError(
                f"{self.path}, column {name!r} mixes units ({'; '.join(told)}); "
                f"write all times in one unit"
            )

    def keep(self) -> Rows:
        """The rows that are usable."""
        return np.flatnonzero(~(self.bad | self.left_out))

    @property
    def num_bad(self) -> int:
        """Rows that are not usable; those with too few or many fields count."""
        return self.malformed + int((self.bad & ~self.left_out).sum())

    def reject(self, name: str, wrong: NDArray[np.bool_], column: Any, wanted: str) -> None:
        """Marks rows as bad; DataError for the first one where none is tolerated."""
        if self.tolerant:
            self.bad |= wrong
            return
        wrong = wrong & ~self.left_out
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            value = column[row].as_py()
            shown = "nothing" if value in (None, "") else f"{value!r:.80}"
            path, number = self._origin(row)
            raise DataError(
                f"{path}, row {number}, column {name!r}: expected {wanted}, got {shown}; "
                f"correct or remove the row"
            )

    def _origin(self, row: int) -> tuple[Path, int]:
        """The file of a row counted from 0, and its number there, from 1."""
        for path, rows in self.origins:
            if row < rows:
                return path, row + 1
            row -= rows
        return self.path, row + 1


def unknown_column(path: Path, name: str, names: Iterable[str]) -> DataError:
    """The error of a file that lacks a column; it lists the columns there are."""
    return DataError(
        f"{path} has no column {name!r}; its columns are {', '.join(map(repr, names))}"
    )
