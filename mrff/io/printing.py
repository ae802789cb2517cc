"""Text reaches a terminal or pipe of any encoding: what cannot be written is escaped, not lost."""

from __future__ import annotations

import io
import sys


def escape_unprintable() -> None:
    r"""From now on standard output prints ``\u6620`` where its encoding has no such character.

    Standard error does so by itself. Without it one title in a table, or a folder's name at the end
    of a run, would be an error instead of all that is printed.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
