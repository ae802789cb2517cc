"""Values of features as people say them, and which features tell a time instead of a taste."""

from __future__ import annotations

import re

from mrff.data.guessing.roles import words_of
from mrff.data.schema import Feature

TIMES = {
    "year", "years", "decade", "month", "date", "released", "release", "published", "uploaded",
    "created", "premiere", "timestamp", "epoch",
}  # fmt: skip
_YEAR = re.compile(r"(1[89]|20)\d\d")


def tells_time(feature: Feature) -> bool:
    """Whether it says when an item came, by its name, or by bounds that are years.

    A schema has numbers of any meaning as one kind, ``bucket``.
    """
    if TIMES & {*words_of(feature.name)}:
        return True
    bounds = {bound for value in feature.values for bound in _bounds(value)}
    return feature.kind == "bucket" and len(bounds) > 1 and all(map(_YEAR.fullmatch, bounds))


def named_value(feature: Feature, code: int) -> str:
    """``genres: Horror``, ``price 12 to 30``; the code where the schema has no name of it."""
    value = feature.values[code - 1] if code <= len(feature.values) else str(code)
    if feature.kind != "bucket":
        return f"{feature.name}: {value}"
    bounds = [_readable(bound) for bound in _bounds(value)]
    before = next((word for word in ("below ", "from ") if value.startswith(word)), "")
    return f"{feature.name} {before}{' to '.join(bounds)}"


def _bounds(value: str) -> list[str]:
    """One or two, of a part of a number as `mrff.data.encoding.bucket` names it."""
    return value.removeprefix("below ").removeprefix("from ").split("..")


def _readable(bound: str) -> str:
    try:
        number = float(bound)
    except ValueError:
        return bound
    return f"{number:,.0f}" if number.is_integer() else f"{number:,g}"
