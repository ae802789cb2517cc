"""What every recipe offers, and how the identity of its source is stated."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mrff.data.errors import DataError
from mrff.data.writing import Prepared

Progress = Callable[[str, int, int | None], None]  # stage, done, total (None: unknown)


class Recipe(ABC):
    """Turns one source into the prepared format; ``version`` changes when the result would."""

    name: str
    version: int
    summary: str
    default_source: str  # what happens without --from, or "" where --from is needed
    downloads: bool = False  # without --from, a sound folder made of any source will do

    def dataset_name(self, source: Path | None) -> str:
        """The name of the dataset this recipe makes of the source."""
        return self.name

    @abstractmethod
    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """What the result depends on: checksums and parameters; cheap, and nothing is fetched."""

    @abstractmethod
    def build(
        self,
        source: Path | None,
        options: Mapping[str, Any],
        staging: Path,
        progress: Progress,
    ) -> Prepared:
        """Reads the source; files beside the standard ones may be written into ``staging``."""


def needed(recipe: Recipe, source: Path | None) -> Path:
    """The source of a recipe that has no default one."""
    if source is None:
        raise DataError(
            f"{recipe.name} has no default source; give its files with --from PATH "
            f"({recipe.summary})"
        )
    return source


def no_options(recipe: Recipe, options: Mapping[str, Any]) -> None:
    """Raises DataError for options given to a recipe that has none."""
    if options:
        raise DataError(
            f"{recipe.name} takes no option {next(iter(options))!r}; only synthetic has options"
        )


def one_file(source: Path, name: str) -> Path:
    """The source itself, or the file of this name (gzipped too) in it if it is a folder."""
    return files_in(source, [name])[0] if source.is_dir() else source


def files_in(folder: Path, names: Iterable[str]) -> list[Path]:
    """The named files of a folder, or their gzipped form.

    Raises:
        DataError: one of them is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the folder that holds {', '.join(names)}")
    found = []
    for name in names:
        candidates = [folder / name, folder / f"{name}.gz"]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise DataError(f"{folder} has no {name} (nor {name}.gz); give the right folder")
        found.append(path)
    return found


def fingerprint(paths: Iterable[Path]) -> dict[str, Any]:
    """The sha256 of each file, by file name."""
    sums = {}
    for path in paths:
        hasher = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    hasher.update(block)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from None
        name = path.name if path.name not in sums else str(path)
        sums[name] = hasher.hexdigest()
    return {"files": sums}
