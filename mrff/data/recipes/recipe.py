"""What every recipe offers, and how the identity of its source is stated."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mrff.data.errors import DataError
from mrff.data.writing import Prepared

Progress = Callable[[str, int, int | None], None]  # stage, done, total (None: unknown)


class Recipe(ABC):
    """Turns one source into the prepared format; ``version`` changes when the result would."""

    name: str
    version: int
    summary: str
    default_source: str = ""  # what happens without --from, or "" where --from is needed
    options: ClassVar[Mapping[str, int]] = {}  # what it takes, with defaults
    extra_files: tuple[str, ...] = ()  # what it writes beside the standard files

    def dataset_name(self, source: Path | None) -> str:
        """The name of the dataset this recipe makes of the source."""
        return self.name

    @abstractmethod
    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """What the result depends on: checksums and parameters; cheap, and nothing is fetched.

        Empty for a download: a sound folder made of any source will do then.
        """

    @abstractmethod
    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Reads the source; files beside the standard ones may be written into ``staging``."""

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raises DataError for an option this recipe does not have."""
        for name in options:
            if name not in self.options:
                told = f"it has {', '.join(self.options)}" if self.options else "leave it out"
                verb = "has" if self.options else "takes"
                raise DataError(f"{self.name} {verb} no option {name!r}; {told}")

    def needed(self, source: Path | None) -> Path:
        """The source of a recipe that has no default one."""
        if source is None:
            raise DataError(
                f"{self.name} has no default source; give its files with --from PATH "
                f"({self.summary})"
            )
        return source


class FilesRecipe(Recipe):
    """A recipe of published files: given as their folder, a single one by itself as well."""

    files: tuple[str, ...]

    @abstractmethod
    def read(self, paths: Sequence[Path]) -> Prepared:
        """Reads the files, given in the order of ``files``; each may be gzipped."""

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The checksums of the files."""
        return fingerprint(self._paths(source))

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Reads the files."""
        progress(f"reading {self.name}", 0, None)
        return self.read(self._paths(source))

    def _paths(self, source: Path | None) -> list[Path]:
        source = self.needed(source)
        if len(self.files) == 1 and not source.is_dir():
            return [source]
        if not source.is_dir():
            names = ", ".join(self.files)
            raise DataError(f"{source} is no folder; give the folder that holds {names}")
        found = []
        for name in self.files:
            forms = [path for path in (source / name, source / f"{name}.gz") if path.is_file()]
            if not forms:
                raise DataError(f"{source} has no {name} (nor {name}.gz); give the right folder")
            found.append(forms[0])
        return found


def fingerprint(paths: Iterable[Path]) -> dict[str, Any]:
    """The sha256 of each file, by file name."""
    sums: dict[str, str] = {}
    for path in paths:
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from None
        sums[path.name if path.name not in sums else str(path)] = found
    return {"files": sums}
