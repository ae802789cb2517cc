"""Columns of text that hold dates: ISO dates, and any other form that somebody names."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_DATE = re.compile(r"\s*\d{4}-\d{1,2}-\d{1,2}")


def looks_like_dates(column: Any) -> bool:
    """Whether any of the first thousand texts begins like an ISO date."""
    sample = pc.drop_null(column[:1000])
    return any(_DATE.match(text) for text in sample.to_pylist())


def date_milliseconds(column: Any) -> Any:
    """Timestamps in ms (UTC where no zone is given); null where the text is no date."""
    together = _stamps(column)
    if together is not None:
        return together
    stamps = [_stamps(text) for text in column]
    return pa.array([None if stamp is None else stamp.value for stamp in stamps], pa.int64())


def _stamps(texts: Any) -> Any:
    """A column or one text as timestamps, None where that does not work for all."""
    for kind in (pa.timestamp("ms"), pa.timestamp("ms", tz="UTC")):
        try:
            return texts.cast(kind)
        except pa.ArrowException:
            continue
    return None


def parsed_by(pattern: str, column: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times by a pattern of ``strptime``, as pandas reads it.

    Args:
        pattern: as ``%d/%m/%Y %H:%M``; a time without a zone counts as UTC.
        column: pyarrow text.

    Returns:
        Milliseconds since 1970 (0 where the text does not fit), and which texts do not fit.
    """
    import pandas as pd  # half a second that only such descriptions should pay

    texts = pd.Series(column.to_pylist(), dtype=object)
    times = pd.DatetimeIndex(pd.to_datetime(texts, format=pattern, errors="coerce", utc=True))
    wrong = np.asarray(times.isna())
    return np.where(wrong, 0, times.as_unit("ms").asi8), wrong


def is_pattern(pattern: str) -> bool:
    """Whether the pattern has codes, and a time written by it can be read by it."""
    import pandas as pd  # heavy, and only where a pattern is given

    written = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC).strftime(pattern)
    try:
        pd.to_datetime([written], format=pattern)
    except ValueError:  # a code that is unknown or lacks another
        return False
    return written != pattern
