"""Reads the MovieLens files in each of their published forms into common terms."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
    """The three tables of either source, in common terms."""

    item_ids: list[str]
    titles: list[str]
    years: NDArray[np.float64]  # NaN where unknown
    genres: list[list[str]]
    users: Any  # text
    ages: NDArray[np.float64]
    genders: Any
    occupations: Any
    rated_by: Any
    rated_item: Any
    ratings: NDArray[np.float64]
    times: NDArray[np.int64]


_TABS = Layout(separator="\t", quote=None)
_BARS = Layout(separator="|", encoding="latin1", quote=None)
_COLONS = Layout(separator="::", encoding="latin1", quote=None)
_YEAR = re.compile(r"\s*\((\d{4})\)(?:\s*\(V\))?\s*$")  # (V): released on video only


def from_wheel(folder: Path, *, prefix: str) -> Films:
    """RecBole's atomic files: tab separated, header ``name:type``, user ids with a prefix."""
    items, users, ratings = (_atomic(folder, suffix) for suffix in ("item", "user", "inter"))
    genres = "class" if "class" in items.columns else "genre"
    titles = items.text("movie_title").to_pylist()
    years = items.text("release_year", optional=True).to_pylist()
    for row, title in enumerate(titles):  # "Land Before Time III ... (1995)" of the year "V"
        if match := _YEAR.search(title):
            titles[row], years[row] = _YEAR.sub("", title), match.group(1)
    return Films(
        item_ids=items.distinct("item_id").to_pylist(),
        titles=titles,
        years=_years(pa.array(years, pa.string())),
        genres=[(row or "").split() for row in items.text(genres, optional=True).to_pylist()],
        users=pc.utf8_replace_slice(users.distinct("user_id"), 0, len(prefix), ""),
        ages=users.numbers("age"),
        genders=users.text("gender"),
        occupations=users.text("occupation"),
        rated_by=pc.utf8_replace_slice(ratings.text("user_id"), 0, len(prefix), ""),
        rated_item=ratings.text("item_id"),
        ratings=ratings.numbers("rating"),
        times=ratings.times("timestamp"),
    )


def _atomic(folder: Path, suffix: str) -> Table:
    paths = sorted(folder.glob(f"*.{suffix}"))
    if not paths:
        raise DataError(f"the wheel holds no .{suffix} file; use --from with the official archive")
    table = read_table(paths[0], layout=_TABS)
    table.columns = {name.split(":")[0]: column for name, column in table.columns.items()}
    return table


def _years(column: Any) -> NDArray[np.float64]:
    """Years of a text column; NaN where the text is no year (films of unknown date)."""
    is_year = pc.fill_null(pc.match_substring_regex(column, r"^\d{4}$"), False)
    years = pc.if_else(is_year, column, pa.scalar(None, pa.string())).cast(pa.float64())
    return np.asarray(pc.fill_null(years, np.nan))


def official_100k(folder: Path) -> Films:
    """``u.item`` has one column per genre, the first of which says that none is known."""
    genre_columns = ("unknown", *GENRES)
    item_names = ("id", "title", "released", "video", "url", *genre_columns)
    items = read_table(folder / "u.item", layout=replace(_BARS, names=item_names))
    user_names = ("id", "age", "gender", "occupation", "zip")
    users = read_table(folder / "u.user", layout=replace(_BARS, names=user_names))
    rating_names = ("user", "item", "rating", "time")
    ratings = read_table(folder / "u.data", layout=replace(_TABS, names=rating_names))
    flags = np.stack([items.numbers(genre) for genre in GENRES], axis=1) > 0
    titles = items.text("title").to_pylist()
    return _official(
        item_ids=items.distinct("id").to_pylist(),
        titles=titles,
        genres=[[GENRES[g] for g in np.flatnonzero(row)] for row in flags],
        users=users,
        ratings=ratings,
    )


def official_1m(folder: Path) -> Films:
    """Fields are separated by ``::``; ratings refer to films by MovieID."""
    items = read_table(
        folder / "movies.dat", layout=replace(_COLONS, names=("id", "title", "genres"))
    )
    user_names = ("id", "gender", "age", "occupation", "zip")
    users = read_table(folder / "users.dat", layout=replace(_COLONS, names=user_names))
    rating_names = ("user", "item", "rating", "time")
    ratings = read_table(folder / "ratings.dat", layout=replace(_COLONS, names=rating_names))
    titles = items.distinct("title").to_pylist()  # they name the films in the wheel
    position = codes_of(ratings.text("item"), items.distinct("id").to_pylist())
    ratings.columns["item"] = pa.array([None, *titles], pa.string()).take(pa.array(position))
    return _official(
        item_ids=titles,
        titles=titles,
        genres=[row.split("|") for row in items.text("genres").to_pylist()],
        users=users,
        ratings=ratings,
    )


def _official(
    *,
    item_ids: list[str],
    titles: list[str],
    genres: list[list[str]],
    users: Table,
    ratings: Table,
) -> Films:
    years = [match.group(1) if (match := _YEAR.search(title)) else None for title in titles]
    return Films(
        item_ids=item_ids,
        titles=[_YEAR.sub("", title) for title in titles],
        years=_years(pa.array(years, pa.string())),
        genres=genres,
        users=users.distinct("id"),
        ages=users.numbers("age"),
        genders=users.text("gender"),
        occupations=users.text("occupation"),
        rated_by=ratings.text("user"),
        rated_item=ratings.text("item", optional=True),
        ratings=ratings.numbers("rating"),
        times=ratings.times("time"),
    )
