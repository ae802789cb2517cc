"""Conditions on the columns of a row, in SQL's words, as ``event = 'view' and rating > 0``.

DuckDB reads and computes them. Nothing of a description's text is run as code: what it parses to
may hold columns, values, comparisons and a few functions, and everything else is refused. The
database is one in memory that cannot open files, load extensions or change its settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.database import closed_database

MOST_LETTERS = 2000
_CLASSES = {
    "COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "OPERATOR", "FUNCTION", "CAST", "TYPE",
    "BETWEEN",
}  # fmt: skip
_FUNCTIONS = {
    "+", "-", "*", "/", "%", "abs", "lower", "upper", "trim", "length", "contains", "starts_with",
    "ends_with", "regexp_matches",
}  # fmt: skip
_LIKE = {"~~", "!~~", "~~*", "!~~*"}  # like, not like, ilike, not ilike
_PARTS = ("where_clause", "group_expressions", "having", "qualify", "modifiers", "sample")


@dataclass(frozen=True)
class Condition:
    """A condition that was found harmless, and the columns that it reads."""

    text: str
    columns: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Condition:
        """Parses it.

        Raises:
            ValueError: it is no single condition, or more than one; the reason is its text.
        """
        if len(text) > MOST_LETTERS:
            raise ValueError(f"has {len(text):,} letters, at most {MOST_LETTERS:,} are read")
        columns = []
        for node in _nodes(_expression(text)):
            kind, name = node["class"], node.get("function_name")
            if kind not in _CLASSES:
                raise ValueError(f"may not hold a {kind.lower()}, got {text!r}")
            if kind == "FUNCTION" and name not in _FUNCTIONS | _LIKE:
                known = ", ".join(sorted(_FUNCTIONS | {"like", "ilike"}))
                raise ValueError(f"may not call {name!r} (it may: {known})")
            if kind == "COLUMN_REF":
                names = node["column_names"]
                if len(names) > 1:
                    dotted = ".".join(names)
                    raise ValueError(f'reads {dotted}: put it in double quotes, "{dotted}"')
                columns += names
        if not columns:
            raise ValueError(f"reads no column, got {text!r}")
        return cls(text, tuple(dict.fromkeys(columns)))

    def answers(self, columns: Mapping[str, Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Where it holds, and where it says neither yes nor no, since a value is missing.

        Args:
            columns: pyarrow arrays by name; text counts as numbers where all of it are some.

        Raises:
            ValueError: it cannot be computed on these columns; the reason is its text.
        """
        import duckdb  # heavy, and only where a description has conditions

        rows = pa.table({name: _typed(columns[name]) for name in self.columns})
        try:
            with closed_database() as database:
                database.register("rows", rows)
                found = database.execute(f"SELECT (\n{self.text}\n) AS a FROM rows").fetchnumpy()
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{self.text!r} cannot be computed ({reason})") from None
        answers = np.ma.asarray(found["a"])
        if answers.dtype != np.bool_:
            raise ValueError(f"{self.text!r} says neither yes nor no of a row")
        return answers.filled(False), np.ma.getmaskarray(answers)


def _expression(text: str) -> Any:
    """What a text parses to, if that is one expression and nothing around it."""
    with closed_database() as database:
        asked = database.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{text}\n)"])
        ((answer,),) = asked.fetchall()
    try:
        parsed = json.loads(answer)
    except RecursionError:
        raise ValueError("is nested too deeply; make it simpler") from None
    if parsed["error"]:
        reason = " ".join(parsed["error_message"].split())
        raise ValueError(
            f"is no condition ({reason}), got {text!r}; a column named like a word of SQL stands "
            f"in double quotes"
        )
    (statement,) = parsed["statements"]
    node = statement["node"]
    alone = node["type"] == "SELECT_NODE" and len(node["select_list"]) == 1
    if not alone or node["from_table"]["type"] != "EMPTY" or any(map(node.get, _PARTS)):
        raise ValueError(f"must be one condition, got {text!r}")
    return node["select_list"][0]


def _nodes(expression: Any) -> Iterator[dict[str, Any]]:
    """The expression and all in it, as written."""
    open_ones = [expression]
    while open_ones:
        part = open_ones.pop()
        if isinstance(part, dict):
            if "class" in part:
                yield part
            part = list(part.values())
        if isinstance(part, list):
            open_ones += reversed(part)


def _typed(column: Any) -> Any:
    """Text as numbers, if all that is not missing is some."""
    if not pa.types.is_string(column.type):
        return column
    trimmed = pc.utf8_trim_whitespace(column)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowException:
        return trimmed
