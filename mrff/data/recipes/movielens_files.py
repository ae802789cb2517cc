"""Reads the MovieLens files in each of their published forms into common terms."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.columns import Table
from mrff.data.encoding import codes_of
from mrff.data.errors import DataError
from mrff.data.tables import Layout, read_table

GENRES = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller",
    "War", "Western",
)  # fmt: skip


@dataclass(frozen=True)
class Films:
    """The three tables of any source, in common terms."""

    item_ids: list[str]
    titles: list[str]  # with the year, as "Toy Story (1995)"
    genres: list[list[str]]
    users: Table  # id, age, gender, occupation
    ratings: Table  # user, item, rating, time
    years: list[str | None] | None = None  # of titles that name none


_TABS = Layout(separator="\t", quote=None)
_BARS = Layout(separator="|", encoding="latin1", quote=None)
_COLONS = Layout(separator="::", encoding="latin1", quote=None)
_RATING_NAMES = ("user", "item", "rating", "time")
_YEAR = re.compile(r"\s*\((\d{4})\)(?:\s*\(V\))?\s*$")  # (V): released on video only


def from_wheel(folder: Path, *, prefix: str) -> Films:
    """RecBole's atomic files: tab separated, header ``name:type``, user ids with a prefix."""
    items = _atomic(folder, "item")
    users = _atomic(folder, "user", user_id="id")
    ratings = _atomic(folder, "inter", user_id="user", item_id="item", timestamp="time")
    for table, name in ((users, "id"), (ratings, "user")):
        table.columns[name] = pc.utf8_replace_slice(table.text(name), 0, len(prefix), "")
    genres = items.text("class" if "class" in items.columns else "genre", optional=True)
    return Films(
        item_ids=items.distinct("item_id").to_pylist(),
        titles=items.text("movie_title").to_pylist(),
        genres=[(row or "").split() for row in genres.to_pylist()],
        users=users,
        ratings=ratings,
        years=items.text("release_year", optional=True).to_pylist(),
    )


def _atomic(folder: Path, suffix: str, **names: str) -> Table:
    """The table of this suffix, its columns without their types and renamed."""
    paths = sorted(folder.glob(f"*.{suffix}"))
    if not paths:
        raise DataError(f"the wheel holds no .{suffix} file; use --from with the official archive")
    table = read_table(paths[0], layout=_TABS)
    plain = {name.split(":")[0]: column for name, column in table.columns.items()}
    table.columns = {names.get(name, name): column for name, column in plain.items()}
    return table


def official_100k(folder: Path) -> Films:
    """``u.item`` has one column per genre, the first of which says that none is known."""
    item_names = ("id", "title", "released", "video", "url", "unknown", *GENRES)
    items = read_table(folder / "u.item", layout=replace(_BARS, names=item_names))
    user_names = ("id", "age", "gender", "occupation", "zip")
    flags = np.stack([items.numbers(genre) for genre in GENRES], axis=1) > 0
    return Films(
        item_ids=items.distinct("id").to_pylist(),
        titles=items.text("title").to_pylist(),
        genres=[[GENRES[g] for g in np.flatnonzero(row)] for row in flags],
        users=read_table(folder / "u.user", layout=replace(_BARS, names=user_names)),
        ratings=read_table(folder / "u.data", layout=replace(_TABS, names=_RATING_NAMES)),
    )


def official_1m(folder: Path) -> Films:
    """Fields are separated by ``::``; ratings refer to films by MovieID."""
    item_names = ("id", "title", "genres")
    items = read_table(folder / "movies.dat", layout=replace(_COLONS, names=item_names))
    user_names = ("id", "gender", "age", "occupation", "zip")
    ratings = read_table(folder / "ratings.dat", layout=replace(_COLONS, names=_RATING_NAMES))
    item_ids = items.distinct("title").to_pylist()  # they name the films in the wheel
    position = codes_of(ratings.text("item"), items.distinct("id").to_pylist())
    ratings.columns["item"] = pa.array([None, *item_ids], pa.string()).take(pa.array(position))
    return Films(
        item_ids=item_ids,
        titles=item_ids,
        genres=[row.split("|") for row in items.text("genres").to_pylist()],
        users=read_table(folder / "users.dat", layout=replace(_COLONS, names=user_names)),
        ratings=ratings,
    )


def dated(films: Films) -> tuple[list[str], NDArray[np.float64]]:
    """Titles without their years, and those; NaN where unknown.

    The wheel has "Land Before Time III ... (1995)" of the year "V": what the title says goes first.
    """
    found = [match and match.group(1) for match in map(_YEAR.search, films.titles)]
    texts = [year or other for year, other in zip(found, films.years or found, strict=True)]
    known = [float(text) if text and re.fullmatch(r"\d{4}", text) else np.nan for text in texts]
    return [_YEAR.sub("", title) for title in films.titles], np.array(known, dtype=np.float64)
