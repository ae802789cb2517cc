"""Finds the rows that a quote swallowed: it opens a value, and all up to the next one is in it.

A reader takes them for text on several lines, as it should where they are: who reads such a file
has fewer rows than lines, and no error.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrff.data.errors import DataError

_PART = 1 << 24  # bytes whose lines are counted at once


@dataclass(frozen=True)
class Quoting:
    """How a file writes values: its separator, its quote, and the fields that a row has."""

    separator: str
    quote: str
    fields: int
    first_line: int  # of the content in the file, counted from 1


def count_lines(content: bytes) -> int:
    r"""Lines that are not empty; they end in ``\n``, ``\r`` or both."""
    lines, before = 0, True  # a line begins after the end of another
    for start in range(0, len(content), _PART):
        part = np.frombuffer(content, np.uint8, min(_PART, len(content) - start), start)
        is_end = (part == 10) | (part == 13)
        lines += int(np.count_nonzero(~is_end & np.concatenate([[before], is_end[:-1]])))
        before = bool(is_end[-1])
    return lines


def swallowed_lines(path: Path, content: bytes, quoting: Quoting) -> int:
    """Lines within quoted values that look like rows: as many fields as a row has.

    Args:
        content: UTF-8 text without its header line.

    Raises:
        DataError: a quote opens a value and the next one does not end it, or none does.
    """
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf8", newline="")
    separator, quote, line, found = quoting.separator, quoting.quote, 0, 0
    rows = csv.reader(text, strict=True, delimiter=separator, quotechar=quote)
    while True:
        try:
            row = next(rows, None)
        except csv.Error:
            raise DataError(
                f"{path}, line {quoting.first_line + line}: a value begins with {quote} "
                f"and does not end with one, which takes the lines after it for its text; mend the "
                f"line, or set quote to '' if quotes mean nothing in this file"
            ) from None
        if row is None:
            return found
        if rows.line_num > line + 1:
            within = (part for value in row for part in value.splitlines()[1:])
            found += sum(part.count(separator) + 1 == quoting.fields for part in within)
        line = rows.line_num
