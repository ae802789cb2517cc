"""The TOML of a file: what was guessed, with the reason beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mrff.data.errors import DataError
from mrff.data.guessing.features import Sides, find_features
from mrff.data.guessing.roles import Guess, Roles, find_roles
from mrff.data.guessing.source import Source, look_at
from mrff.data.recipes import RECIPES

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Described:
    """A TOML that was written; ``roles`` and ``sides`` say what is in it."""

    path: Path
    name: str
    rows: int
    roles: Roles
    sides: Sides


def describe_file(file: Path, said: Mapping[str, str]) -> Described:
    """Writes the TOML of a file beside it.

    Args:
        said: ``user``, ``item``, ``time``, ``time-format``, ``label``, where it need not be
            guessed.

    Raises:
        DataError: something cannot be told, or a TOML is there; nothing was written.
    """
    stem = Path(file.name.removesuffix(".gz")).stem
    path = file.with_name(f"{stem}.toml")
    if path.exists():
        raise DataError(
            f"{path} is there already; move it away, or use it: {prepare_command(path)}"
        )
    source = look_at(file)
    roles = find_roles(source, said)
    sides = find_features(source, roles)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-") or "data"
    name = f"{name}-own" if name in RECIPES else name
    text = "\n".join(_lines(source, roles, sides, name)) + "\n"
    with path.open("x", encoding="utf-8") as written:
        written.write(text)
    return Described(path, name, source.table.num_rows, roles, sides)


def prepare_command(path: Path) -> str:
    """What one types next."""
    return f"mrff data prepare csv --from {path}"


def _lines(source: Source, roles: Roles, sides: Sides, name: str) -> list[str]:
    lines = [
        f"# Guessed by `mrff new` from the {source.table.num_rows:,} rows of {source.path.name}. "
        "Look through it; docs/data.md explains the keys.",
        f"name = {_text(name)}",
        "",
        "[interactions]",
        f"file = {_text(source.path.name)}",
        *_layout(source),
    ]
    for role in ("user", "item", "time", "label"):
        guess: Guess = getattr(roles, role)
        lines.append(f"# {guess.why}")
        lines.append(f"# {role} = ..." if guess.value is None else f"{role} = {_text(guess.value)}")
        if guess.format:
            lines.append(f"time-format = {_text(guess.format)}")
    if roles.label_column is not None:
        lines.append('# kind = "both"  # where rows are choices too, as films that users picked')
    unusable = _unusable(source, roles)
    if unusable:
        lines += [f"# {unusable:,} rows lack something", 'on-bad-row = "drop"']
    lines += _items(sides)
    if sides.users:
        lines += ["", "# Columns that never change for a user.", "[users.features]"]
        lines += [f"{_key(feature)} = {spec}" for feature, spec in sides.users.items()]
    if sides.left:
        lines += ["", "# Not used:"]
        lines += [f"#   {column}: {why}" for column, why in sides.left.items()]
    return lines


def _items(sides: Sides) -> list[str]:
    lines = []
    if sides.title is not None:
        lines += ["", "[items]", f"title = {_text(sides.title)}"]
    if sides.items:
        lines += ["", "# Columns that never change for an item, and the item itself."]
        lines += ["[items.features]", 'item = "id"']
        lines += [f"{_key(feature)} = {spec}" for feature, spec in sides.items.items()]
    return lines


def _layout(source: Source) -> list[str]:
    """What the description would not assume by itself."""
    layout, lines = source.layout, []
    is_tabbed = source.path.name.removesuffix(".gz").endswith((".tsv", ".tab"))
    if layout.separator != ("\t" if is_tabbed else ","):
        lines.append(f"separator = {_text(layout.separator)}")
    if layout.quote != '"':
        lines.append(f"quote = {_text(layout.quote or '')}")
    if layout.encoding != "utf8":
        lines.append(f"encoding = {_text(layout.encoding)}")
    if layout.names is not None:
        lines += ["# the file has no header line", f"columns = {json.dumps(layout.names)}"]
    return lines


def _unusable(source: Source, roles: Roles) -> int:
    """Rows with another number of fields, or without one that has a role."""
    lacking = sum(source.texts(name).null_count for name in roles.columns)
    return source.table.malformed + lacking


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)
