"""Prints measurements as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per quantity, one column per row of measurements."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  " + "  ".join(f"{_text(row.get(name)):>14}" for row in rows))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
