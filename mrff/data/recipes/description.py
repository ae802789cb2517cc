"""The TOML description of somebody's own data, read into settings; ``docs/data.md`` explains it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast, get_args

from mrff.data.conditions import Condition
from mrff.data.encoding import Repeats
from mrff.data.recipes.row_rules import LabelRule, condition, label_rule
from mrff.data.recipes.toml_keys import Keys
from mrff.data.schema import RESERVED, Kind, RowKind
from mrff.data.tables import Layout

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SideRepeats = Literal["error", "first", "last"]
_KINDS = ("id", "categorical", "multi", "bucket")


@dataclass(frozen=True)
class FeatureColumn:
    """One feature: a column and how it becomes codes."""

    name: str
    kind: Kind
    column: str
    edges: tuple[float, ...] = ()  # bucket
    separator: str = "|"  # multi
    values: tuple[str, ...] | None = None  # categorical, multi: the whole vocabulary


@dataclass(frozen=True)
class Side:
    """Items or users: their own file, or columns of the interactions if ``file`` is None."""

    file: Path | None
    layout: Layout
    id: str
    title: str | None
    features: tuple[FeatureColumn, ...]
    drop_bad_rows: bool = False  # of the file
    repeats: SideRepeats = "error"  # what becomes of several rows of one id in the file
    where: Condition | None = None  # which rows of the file count

    @property
    def columns(self) -> list[str]:
        """All columns that are read for it."""
        titles = [] if self.title is None else [self.title]
        titles += [] if self.where is None else self.where.columns
        return [self.id, *titles, *(f.column for f in self.features if f.kind != "id")]


@dataclass(frozen=True)
class Description:
    """Everything the TOML says; paths are absolute."""

    path: Path
    name: str
    files: tuple[Path, ...]
    layout: Layout
    user: str
    item: str
    time: str | None  # None: the order of the rows is the order in time
    time_format: str | None  # of strptime; None: numbers or ISO dates
    label: LabelRule
    kind: RowKind
    repeats: Repeats
    drop_bad_rows: bool
    where: Condition | None  # which interactions count
    items: Side
    users: Side


def read_description(path: Path) -> Description:
    """Reads and checks a description.

    Raises:
        DataError: no TOML, an unknown or missing key, a value of the wrong kind.
    """
    top = Keys.of_file(path)
    name = top.text("name", path.stem)
    if not _NAME.fullmatch(name):
        raise top.error(f"name must be made of letters, digits, '-', '_' and '.', got {name!r}")
    rows = top.table("interactions")
    files = rows.texts("files") if "files" in rows.content else (rows.text("file"),)
    paths = tuple(path.parent / file for file in files or ())
    layout = _layout(rows, paths[0])
    user, item, label = rows.text("user"), rows.text("item"), label_rule(rows)
    found = Description(
        path=path,
        name=name,
        files=paths,
        layout=layout,
        user=user,
        item=item,
        time=rows.text("time", "") or None,
        time_format=_time_format(rows),
        label=label,
        kind=_kind(rows, label),
        repeats=cast(Repeats, rows.choice("repeats", "keep", ("keep", "exact", "first", "last"))),
        drop_bad_rows=_drops_bad_rows(rows),
        where=condition(rows, "where"),
        items=_side(top.table("items"), layout, item, of_items=True),
        users=_side(top.table("users"), layout, user, of_items=False),
    )
    rows.refuse_others()
    top.refuse_others()
    return found


def _layout(keys: Keys, file: Path) -> Layout:
    member = keys.text("member", "") or None
    is_tabbed = (member or file.name).removesuffix(".gz").endswith((".tsv", ".tab"))
    names = keys.texts("columns")
    if names is not None and len(set(names)) < len(names):
        raise keys.wrong("columns", f"names a column twice: {', '.join(names)}")
    quote = keys.get("quote")
    if quote is not None and (not isinstance(quote, str) or len(quote) > 1):
        raise keys.wrong("quote", f"must be one character or '', got {quote!r}")
    encoding = keys.text("encoding", "utf8")
    try:
        "".encode(encoding)
    except LookupError:
        raise keys.wrong("encoding", f"{encoding!r} is unknown (often: utf8, latin1)") from None
    return Layout(
        separator=keys.text("separator", "\t" if is_tabbed else ","),
        names=names,
        encoding=encoding,
        quote='"' if quote is None else quote or None,
        member=member,
    )


def _time_format(keys: Keys) -> str | None:
    pattern = keys.text("time-format", "") or None
    if pattern is None:
        return None
    if not _is_pattern(pattern):
        wanted = "must be made of strptime's codes, as '%d/%m/%Y %H:%M'"
        raise keys.wrong("time-format", f"{wanted}, got {pattern!r}")
    if "time" not in keys.content:
        raise keys.wrong("time-format", f"needs {keys.name('time')}, the column")
    return pattern


def _is_pattern(pattern: str) -> bool:
    """Whether the pattern has codes, and a time written by it can be read by it."""
    import pandas as pd  # heavy, and only where a pattern is given

    written = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC).strftime(pattern)
    try:
        pd.to_datetime([written], format=pattern)
    except ValueError:  # a code that is unknown or lacks another
        return False
    return written != pattern


def _kind(keys: Keys, label: LabelRule) -> RowKind:
    """What rows are, where the description says it; else by whether they have labels."""
    has_labels = bool(label.columns)
    kind = keys.choice("kind", "labelled" if has_labels else "events", get_args(RowKind))
    if has_labels and kind == "events":
        raise keys.wrong("kind", f"is events, which have no label: leave {keys.name('label')} out")
    if not has_labels and kind != "events":
        raise keys.wrong("kind", f"is {kind}, which needs {keys.name('label')}")
    return cast(RowKind, kind)


def _side(keys: Keys, layout: Layout, column: str, *, of_items: bool) -> Side:
    file = keys.path.parent / keys.text("file") if "file" in keys.content else None
    if file is not None:
        layout, column = _layout(keys, file), keys.text("id")
    drop = file is not None and _drops_bad_rows(keys)
    repeats = "error" if file is None else keys.choice("repeats", "error", get_args(SideRepeats))
    where = None if file is None else condition(keys, "where")
    title = keys.text("title", "") or None if of_items else None
    table = keys.table("features")
    features = tuple(_feature(table, name, of_items=of_items) for name in table.content)
    keys.refuse_others()
    if of_items and not features:
        features = (FeatureColumn("item", "id", column),)
    return Side(file, layout, column, title, features, drop, cast(SideRepeats, repeats), where)


def _drops_bad_rows(keys: Keys) -> bool:
    return keys.choice("on-bad-row", "error", ("error", "drop")) == "drop"


def _feature(table: Keys, name: str, *, of_items: bool) -> FeatureColumn:
    """``name = "kind"`` or ``name = { kind = ..., column = ..., ... }``."""
    content = table.get(name)
    if isinstance(content, str):
        content = {"kind": content}
    keys = Keys(table.path, table.name(name), content)
    kinds = _KINDS if of_items else _KINDS[1:]
    kind = cast(Kind, keys.choice("kind", "", kinds))
    if name in RESERVED:
        raise keys.error(f"a feature cannot be named {name!r}; give it another name and a column")
    column = keys.text("column", name)
    feature = FeatureColumn(
        name,
        kind,
        column,
        edges=keys.numbers("edges") if kind == "bucket" else (),
        separator=keys.text("separator", "|") if kind == "multi" else "|",
        values=keys.texts("values") if kind in ("categorical", "multi") else None,
    )
    keys.refuse_others()
    return feature
