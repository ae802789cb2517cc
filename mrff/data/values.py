"""Numbers and dates as files write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def floats(column: Any) -> NDArray[np.float64]:
    """NaN where there is nothing, or text that is no number."""
    try:
        return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan))
    except pa.ArrowException:
        return np.array([_float(text) for text in column.to_pylist()])


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def look_like_dates(column: Any) -> NDArray[np.bool_]:
    """Which texts begin like an ISO date."""
    found = pc.match_substring_regex(column, r"^\s*\d{4}-\d{1,2}-\d{1,2}")
    return np.asarray(pc.fill_null(found, False))


def milliseconds(column: Any, pattern: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times in a text column as pandas reads them; without a zone they count as UTC.

    Args:
        pattern: of ``strptime``, as ``%d/%m/%Y %H:%M``, or ``ISO8601``, which may end in UTC.

    Returns:
        Milliseconds since 1970 (0 where the text does not fit), and which texts do not fit.
    """
    import pandas as pd  # heavy, and only where times are text

    if pattern == "ISO8601":
        column = pc.replace_substring_regex(column, r"\s*(UTC|GMT)$", "")
    texts = pd.Series(column.to_pylist(), dtype=object)
    times = pd.DatetimeIndex(pd.to_datetime(texts, format=pattern, errors="coerce", utc=True))
    wrong = np.asarray(times.isna())
    return np.where(wrong, 0, times.as_unit("ms").asi8), wrong


def whole_numbers(column: Any) -> NDArray[np.int64] | None:
    """A column of numbers or text as int64, exactly; None where a value is none."""
    if column.null_count or pa.types.is_floating(column.type):
        return None
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
    try:
        return np.asarray(column.cast(pa.int64()))
    except pa.ArrowException:
        return None
