"""CiaoDVD: film ratings of a shopping portal, and who trusts whom there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.encoding import (
    Rows,
    bucket,
    categorical,
    codes_of,
    first_rows,
    item_id_feature,
    natural_order,
    sorted_users,
    with_user_features,
)
from mrff.data.recipes.recipe import Progress, Recipe, files_in, fingerprint, needed, no_options
from mrff.data.tables import Layout, read_table
from mrff.data.writing import Catalogue, Prepared

FILES = ("movie-ratings.txt", "trusts.txt")
GENRES = (
    "Action & Adventure", "Comedy", "Family", "Drama", "Horror", "Science Fiction & Fantasy",
    "Thriller & Mystery", "Martial Arts", "Musicals & Music Films", "War", "Westerns",
    "Documentaries & Biographies", "Special Interest", "Sports", "World Cinema", "TV Series",
    "Anime",
)  # fmt: skip
TRUST_EDGES = (1, 2, 3, 6, 11, 21, 51)


class CiaoDVD(Recipe):
    """Label rating = 5; a film is its id and genre, a user the numbers of trust links.

    Of several ratings that a user gave to one film the first is kept.
    """

    name = "ciaodvd"
    version = 1
    summary = "CiaoDVD: 17,615 users, 16,121 films, 72,665 ratings, 40,133 trust links"
    default_source = ""

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The checksums of the two files."""
        no_options(self, options)
        return fingerprint(files_in(needed(self, source), FILES))

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Reads ``movie-ratings.txt`` and ``trusts.txt`` (or .gz): commas, no header."""
        progress(f"reading {self.name}", 0, None)
        rating_path, trust_path = files_in(needed(self, source), FILES)
        columns = ("user", "movie", "genre", "review", "rating", "date")
        ratings = read_table(rating_path, layout=Layout(names=columns))
        trusts = read_table(trust_path, layout=Layout(names=("from", "to", "value")))

        movies = ratings.text("movie")
        names = natural_order(movies.unique())
        id_feature, id_codes = item_id_feature(len(names))
        genres = ratings.text("genre").take(pa.array(first_rows(movies, names)))
        numbers = [str(code + 1) for code in range(len(GENRES))]
        genre, genre_codes = categorical("genre", genres, values=numbers)
        catalogue = Catalogue(
            ids=names,
            features=(id_feature, replace(genre, values=GENRES)),
            codes={"item": id_codes, "genre": genre_codes},
        )
        labels = (ratings.numbers("rating") == 5).astype(np.int8)
        rows = Rows(ratings.text("user"), movies, labels, ratings.times("date"))
        dropped: dict[str, int] = {}
        chunk = sorted_users(rows, catalogue, repeats="first", dropped=dropped)
        user_features = with_user_features(
            chunk,
            pa.array(chunk.ids, pa.string()),
            [
                bucket("trusts", _degree(trusts.text("from"), chunk.ids), TRUST_EDGES),
                bucket("trusted_by", _degree(trusts.text("to"), chunk.ids), TRUST_EDGES),
            ],
        )
        return Prepared(
            name=self.name,
            label_rule="rating = 5",
            catalogue=catalogue,
            user_features=user_features,
            chunks=[chunk],
            dropped=dropped,
        )


def _degree(ends: Any, users: list[str]) -> NDArray[np.float64]:
    """How many links each user has at this end."""
    codes = codes_of(pc.drop_null(ends), users)
    return np.bincount(codes, minlength=len(users) + 1)[1:].astype(np.float64)


CIAODVD = CiaoDVD()
