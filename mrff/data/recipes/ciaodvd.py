"""CiaoDVD: film ratings of a shopping portal, and who trusts whom there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data import encoding
from mrff.data.recipes.recipe import FilesRecipe
from mrff.data.tables import Layout, read_table
from mrff.data.writing import Entities, Prepared

GENRES = (
    "Action & Adventure", "Comedy", "Family", "Drama", "Horror", "Science Fiction & Fantasy",
    "Thriller & Mystery", "Martial Arts", "Musicals & Music Films", "War", "Westerns",
    "Documentaries & Biographies", "Special Interest", "Sports", "World Cinema", "TV Series",
    "Anime",
)  # fmt: skip
TRUST_EDGES = (1, 2, 3, 6, 11, 21, 51)


class CiaoDVD(FilesRecipe):
    """Label rating = 5; a film is its id and genre, a user the numbers of trust links.

    Of several ratings that a user gave to one film the first is kept.
    """

    name = "ciaodvd"
    version = 1
    summary = "CiaoDVD: 17,615 users, 16,121 films, 72,665 ratings, 40,133 trust links"
    files = ("movie-ratings.txt", "trusts.txt")

    def read(self, paths: Sequence[Path]) -> Prepared:
        """Ratings and links of trust: commas, no header."""
        columns = ("user", "movie", "genre", "review", "rating", "date")
        ratings = read_table(paths[0], layout=Layout(names=columns))
        trusts = read_table(paths[1], layout=Layout(names=("from", "to", "value")))

        movies = ratings.text("movie")
        names = encoding.natural_order(movies.unique())
        genres = ratings.text("genre").take(pa.array(encoding.first_rows(movies, names)))
        numbers = [str(code + 1) for code in range(len(GENRES))]
        genre, codes = encoding.categorical("genre", genres, values=numbers)
        named = replace(genre, values=GENRES)
        items = Entities(names, [encoding.item_id_feature(len(names)), (named, codes)])
        users = ratings.text("user").unique().to_pylist()
        links = [
            encoding.bucket(name, _degree(trusts.text(end), users), TRUST_EDGES)
            for name, end in (("trusts", "from"), ("trusted_by", "to"))
        ]
        labels = (ratings.numbers("rating") == 5).astype(np.int8)
        times = ratings.times("date")
        rows = encoding.Rows(ratings.text("user"), movies, labels, times, repeats="first")
        return encoding.prepared(self.name, "rating = 5", items, rows, Entities(users, links))


def _degree(ends: Any, users: list[str]) -> NDArray[np.float64]:
    """How many links each user has at this end."""
    codes = encoding.codes_of(pc.drop_null(ends), users)
    return np.bincount(codes, minlength=len(users) + 1)[1:].astype(np.float64)
