"""Finds items by what people call them: a title, a part of one, or an id.

Commas separate items, and titles have commas, too (Matrix, The): what stands between commas stays
together as long as it names an item, the longest first.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from mrff.data.errors import DataError

BY_ID = "id:"
MOST_PARTS = 8  # between commas, of one title
NEAREST = 3  # titles shown when none fits


class ItemNames:
    """The items of a catalogue by their names.

    Args:
        ids, titles: by code; entry 0 is no item.
    """

    def __init__(self, ids: Sequence[str], titles: Sequence[str]) -> None:
        self._ids, self._titles = ids, titles
        self._folded = [title.casefold() for title in titles]
        # By id and by title, as written and without case: the first that knows a text decides.
        self._as_written = _codes_by(ids), _codes_by(titles)
        self._without_case = _codes_by([i.casefold() for i in ids]), _codes_by(self._folded)

    def items(self, texts: Iterable[str]) -> np.ndarray:
        """Codes (n,) of the items that the texts name, in their order.

        Raises:
            DataError: nothing is named, a text names no item, or several.
        """
        codes: list[int] = []
        for text in texts:
            parts = text.split(",")
            while parts:
                used, code = self._longest(parts)
                parts = parts[used:]
                codes += [code] if code else []
        if not codes:
            raise DataError("the history is empty: name at least one item by its title or id")
        return np.array(codes, dtype=np.int64)

    def _longest(self, parts: Sequence[str]) -> tuple[int, int]:
        """How many parts name an item together, and its code; 0 for a part that is empty."""
        if not parts[0].strip():
            return 1, 0
        for number in range(min(len(parts), MOST_PARTS), 0, -1):
            text = ",".join(parts[:number]).strip()
            found = self._named(text)
            if len(found) > 1:
                raise DataError(
                    f"{text!r} may be {self._told(found)}; write more of the title, or {BY_ID}..."
                )
            if found:
                return number, found[0]
        raise DataError(self._unknown(parts))

    def _named(self, text: str) -> list[int]:
        """Codes of the items that the text may mean."""
        by_id = text.startswith(BY_ID)
        text = text.removeprefix(BY_ID).strip()
        for asked, tables in ((text, self._as_written), (text.casefold(), self._without_case)):
            found = {code for table in tables[: 1 if by_id else 2] for code in table.get(asked, ())}
            if found:
                return sorted(found)
        if by_id:
            return []
        return [code for code, title in enumerate(self._folded) if text.casefold() in title]

    def _unknown(self, parts: Sequence[str]) -> str:
        first = parts[0].strip()
        if first.startswith(BY_ID):
            return f"no item has the id {first.removeprefix(BY_ID).strip()!r}"
        whole = ",".join(parts).strip().casefold()
        near = [
            self._folded.index(title)
            for asked in dict.fromkeys((whole, first.casefold()))
            for title in difflib.get_close_matches(asked, self._folded[1:], n=NEAREST)
        ]
        hint = f"; near it: {self._told(list(dict.fromkeys(near)))}" if near else ""
        return f"no item has {first!r} as its id or in its title{hint}"

    def _told(self, codes: Sequence[int]) -> str:
        """``Alien (id:1214), Aliens (id:1200)``."""
        shown = [f"{self._titles[code]} ({BY_ID}{self._ids[code]})" for code in codes[:NEAREST]]
        more = len(codes) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _codes_by(names: Sequence[str]) -> dict[str, list[int]]:
    """Codes by name; several items may share one."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for code, name in enumerate(names):
        if code:
            found[name].append(code)
    return dict(found)
