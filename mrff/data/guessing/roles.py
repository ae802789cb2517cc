"""Which column is the user, which the item, when it was and whether it was liked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.clock import nanoseconds
from mrff.data.columns import unknown_column
from mrff.data.errors import DataError
from mrff.data.guessing.source import Source
from mrff.data.values import look_like_dates, milliseconds

NONE = "none"  # said of a role that no column has
_WORDS = {
    "user": "user userid uid u customer client member visitor reviewer account person listener "
    "reader viewer player buyer shopper subscriber profile student borrower",
    "item": "item itemid iid i product sku asin movie film song track artist book isbn article "
    "video game business restaurant recipe venue place news content listing ad post page offer "
    "course show episode app photo anime hotel ean gtin",
    "time": "time timestamp ts t date datetime when day created moment epoch",
    "label": "label rating ratings rate stars star score overall feedback like liked click clicked "
    "target y response grade vote preference relevance",
}
WORDS = {role: frozenset(words.split()) for role, words in _WORDS.items()}
IDS = frozenset(["id", "parent", "no", "nr", "number", "key", "code", "hash", "uuid"])
_BESIDE = {
    "is", "was", "has", "user", "item", "product", "book", "movie", "review", "event", "unix",
    "rated", "created", "at", "on", "value", "utc",
}  # fmt: skip
_DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%b %d, %Y",
          "%m %d, %Y")  # fmt: skip
_FORMATS = (
    *(date + clock for date in _DATES for clock in ("", " %H:%M", " %H:%M:%S")),
    "%a %b %d %H:%M:%S %z %Y",
)
_COMPACT = r"^(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])$"  # 20240131
_LOOKED = 1000  # values that a format is tried on
_SCALES = ((5.0, 4), (10.0, 8), (100.0, 80))  # largest rating, and the least that is liked


@dataclass(frozen=True)
class Guess:
    """What a column was taken for, and why; no value: nothing was."""

    value: str | None
    why: str
    format: str | None = None  # of times


@dataclass(frozen=True)
class Roles:
    """What each line of the interactions says."""

    user: Guess
    item: Guess
    time: Guess
    label: Guess
    label_column: str | None

    @property
    def columns(self) -> set[str]:
        """Those that have a role."""
        named = (self.user.value, self.item.value, self.time.value, self.label_column)
        return {name for name in named if name is not None}


def find_roles(source: Source, said: Mapping[str, str]) -> Roles:
    """What was said of a role, else a guess by the columns' names, else by their values.

    Raises:
        DataError: it cannot be told; the option to say it by is named.
    """
    for role in ("user", "item", "time"):
        if role in said and said[role] not in (*source.names, *([NONE] if role == "time" else [])):
            raise unknown_column(source.path, said[role], source.names)
    user, item = (_identity(source, role, said) for role in ("user", "item"))
    taken = {user.value, item.value}
    time = _time(source, [name for name in source.names if name not in taken], said)
    rest = [name for name in source.names if name not in {*taken, time.value}]
    label, column = _label(source, rest, (user.value or "", item.value or ""), said)
    return Roles(user, item, time, label, column)


def words_of(name: str) -> list[str]:
    """``userId``, ``user_id`` and ``User ID`` as ``[user, id]``."""
    return [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _fits(name: str, role: str) -> int:
    """0: not by its name; 1: it may be; 2: it says that it is an id."""
    words = words_of(name)
    together = "".join(words)
    known = WORDS[role]
    if together in known or together.removesuffix("id") in known:
        words = [together.removesuffix("id")] + ["id"] * together.endswith("id")
    beside = IDS if role in ("user", "item") else _BESIDE
    if not any(w in known for w in words) or any(w not in known | beside for w in words):
        return 0
    return 2 if role in ("user", "item") and any(w in IDS for w in words) else 1


def _best(names: list[str], role: str) -> list[str]:
    ranks = {name: _fits(name, role) for name in names}
    most = max(ranks.values(), default=0)
    return [name for name, rank in ranks.items() if rank == most and most]


def _identity(source: Source, role: str, said: Mapping[str, str]) -> Guess:
    if role in said:
        return Guess(said[role], "as said")
    found = _best(source.names, role)
    if len(found) != 1:
        told = f"{' and '.join(map(repr, found))} may be" if found else "no name says"
        raise cannot_tell(source, f"which column is the {role} ({told})", f"--{role} COLUMN")
    return Guess(found[0], f"by its name; {_distinct(source, found[0]):,} different values")


def _time(source: Source, names: list[str], said: Mapping[str, str]) -> Guess:
    if said.get("time") == NONE:
        return Guess(None, "as said: the order of the rows is the order in time")
    if "time" in said:
        is_time, pattern = _as_time(source, said["time"], said)
        if not is_time:
            raise cannot_tell(source, f"how {said['time']!r} is written", "--time-format FORMAT")
        return Guess(said["time"], "as said", pattern)
    by_name = _best(names, "time")
    usable = {name: _as_time(source, name, said) for name in by_name}
    found = [name for name, (is_time, _) in usable.items() if is_time]
    if by_name and not found:
        told = f"how the times of {by_name[0]!r} are written (as {source.examples(by_name[0])})"
        raise cannot_tell(source, told, "--time-format FORMAT or --time none")
    if found:  # of several, the one that tells more times apart
        name = max(found, key=lambda one: _distinct(source, one))
        return Guess(name, f"by its name; values as {source.examples(name)}", usable[name][1])
    found = [name for name in names if _is_moment(source, name)]
    if len(found) == 1:
        return Guess(found[0], f"its values are times, as {source.examples(found[0])}")
    if found:
        told = f"which column is the time ({' and '.join(map(repr, found))} may be)"
        raise cannot_tell(source, told, "--time COLUMN or --time none")
    return Guess(None, "no column is a time: the order of the rows is the order in time")


def _as_time(source: Source, name: str, said: Mapping[str, str]) -> tuple[bool, str | None]:
    """Whether a column can be read as times, and by which format where one is needed."""
    if "time-format" in said:
        return True, said["time-format"]
    if pa.types.is_temporal(source.table.columns[name].type) or _are_dates(source, name):
        return True, None
    texts = pc.drop_null(pc.unique(source.texts(name)))[:_LOOKED]
    if len(texts) and pc.all(pc.match_substring_regex(texts, _COMPACT)).as_py():
        return True, "%Y%m%d"
    if source.numbers(name) is not None:
        return True, None
    fitting = [text for text in _FORMATS if not milliseconds(texts, text)[1].any()]
    if len(fitting) > 1:
        options = " or ".join(f"--time-format '{text}'" for text in fitting)
        raise cannot_tell(source, f"day from month in {name!r} ({source.examples(name)})", options)
    return bool(fitting), fitting[0] if fitting else None


def _are_dates(source: Source, name: str) -> bool:
    texts = pc.drop_null(source.texts(name))
    return bool(len(texts) and look_like_dates(texts).all())


def _is_moment(source: Source, name: str) -> bool:
    """Whether the values alone say that they are times of our days."""
    if pa.types.is_temporal(source.table.columns[name].type) or _are_dates(source, name):
        return True
    numbers = source.numbers(name)
    if numbers is None or not np.isfinite(numbers).all() or np.abs(numbers).max() >= 2**62:
        return False
    return nanoseconds(numbers.astype(np.int64)) is not None


def _label(
    source: Source, names: list[str], entities: tuple[str, str], said: Mapping[str, str]
) -> tuple[Guess, str | None]:
    if said.get("label") == NONE:
        return Guess(None, "as said: every row is an event"), None
    if "label" in said:
        column = re.split(r"\s*(?:>=|<=|==|!=|=|>|<)", said["label"])[0].strip()
        return Guess(said["label"], "as said"), column if column in source.names else None
    found = _best(names, "label")
    if not found:  # an answer changes with the user and with the item: what features do not
        found = [
            name for name in names
            if _values(source, name) == {0.0, 1.0}
            and not any(is_constant(source, name, entity) for entity in entities)
        ]  # fmt: skip
    if len(found) > 1:
        told = f"which column is the label ({' and '.join(map(repr, found))} may be)"
        raise cannot_tell(source, told, "--label COLUMN, --label 'COLUMN >= 4' or --label none")
    if not found:
        return Guess(None, "no column is a label or a rating: every row is an event"), None
    rule, why = _rule(source, found[0])
    return Guess(rule, why), found[0]


def _rule(source: Source, name: str) -> tuple[str, str]:
    """When a row is liked, by the values of a column; they have to be of both kinds."""
    values = _values(source, name)
    held = f"it holds {source.examples(name)}"
    option = f"--label '{name} >= NUMBER' or --label none"
    if values is None:
        option = f"--label '{name} == VALUE' or --label none"
        raise cannot_tell(source, f"which values of {name!r} are liked ({held})", option)
    least, most = min(values), max(values)
    if values == {0.0, 1.0}:
        return name, "by its name; it holds 0 and 1"
    if values <= {-1.0, 0.0, 1.0} and least < most == 1.0:
        return f"{name} > 0", f"by its name; it holds values from {least:g} to {most:g}"
    for top, liked in _SCALES:
        if least >= 0 and 1 < most <= top and least < liked <= most:
            return f"{name} >= {liked}", f"by its name; it is a rating from {least:g} to {most:g}"
    raise cannot_tell(source, f"which values of {name!r} are liked ({held})", option)


def _values(source: Source, name: str) -> set[float] | None:
    """Its different numbers, truth values included; None: other things are there, or nothing."""
    if pa.types.is_boolean(source.table.columns[name].type):
        return {
            float(v) for v in pc.unique(source.table.columns[name]).to_pylist() if v is not None
        }
    truths = {"true": 1.0, "false": 0.0}
    texts = pc.utf8_lower(pc.drop_null(pc.unique(source.texts(name)))).to_pylist()
    if texts and set(texts) <= truths.keys():
        return {truths[text] for text in texts}
    numbers = source.numbers(name)
    return None if numbers is None else set(np.unique(numbers[np.isfinite(numbers)]).tolist())


def is_constant(source: Source, name: str, entity: str) -> bool:
    """Whether all rows of an entity (user or item) have one value of a column."""
    return _pairs(source.codes(entity), source.codes(name)) == _distinct(source, entity)


def _pairs(of: NDArray[np.int64], values: NDArray[np.int64]) -> int:
    is_there = of >= 0
    return len(np.unique(np.stack([of[is_there], values[is_there]]), axis=1).T)


def _distinct(source: Source, name: str) -> int:
    return len(pc.unique(pc.drop_null(source.texts(name))))


def cannot_tell(source: Source, what: str, option: str) -> DataError:
    """One line: what is not known, what says it, and the columns there are."""
    named = "; ".join(f"{name!r}: {source.examples(name)}" for name in source.names[:12])
    return DataError(f"{source.path.name}: cannot tell {what}; say {option} (columns: {named})")
