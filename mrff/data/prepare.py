"""Prepares a dataset once: idempotent, atomic, and safe when several processes want it at once."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from mrff.data.errors import DataError
from mrff.data.growth import WAY_OUT, Known, extended, known_in
from mrff.data.recipes import Progress, recipe_named
from mrff.data.schema import INTERACTIONS_FILE, ITEMS_FILE, SCHEMA_FILE, USERS_FILE, Schema
from mrff.data.writing import write_folder
from mrff.io.files import sync_folder

Result = TypeVar("Result")
FILES = (SCHEMA_FILE, ITEMS_FILE, USERS_FILE, INTERACTIONS_FILE)


def prepare(
    name: str,
    *,
    source: Path | None = None,
    out: Path,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
) -> Schema:
    """Makes ``out`` the prepared dataset ``name`` and returns its schema.

    A valid folder of the same recipe version and source is left alone; without an explicit
    source, one of any source is. Otherwise the new folder is built beside it and put in its place
    by renaming: a crash leaves the old folder or none, never a part. It is the next version of
    what was there (`mrff.data.growth`). Its people stay the same population: budgets are counted
    by it.

    Raises:
        DataError: unknown name, unusable source or folder, or a source that is no next version.
    """
    asked = Wanted(name, source, out, options or {})
    return prepare_asked(asked, progress)


@dataclass(frozen=True)
class Wanted:
    """What `prepare` was asked for."""

    name: str
    source: Path | None
    out: Path
    options: Mapping[str, Any]


def prepare_asked(asked: Wanted, progress: Progress | None = None, *, anew: bool = False) -> Schema:
    """As `prepare`; ``anew``: what was in the folder is replaced, its codes are given out anew."""
    recipe, source, out, options = recipe_named(asked.name), asked.source, asked.out, asked.options
    report = progress or (lambda stage, done, total: None)
    source = None if source is None else Path(source).expanduser().absolute()
    out = Path(out).expanduser().absolute()
    if source is not None and not source.exists():
        raise DataError(f"{source} does not exist; check the path given with --from")
    recipe.check_options(options)
    identity = {"recipe": recipe.name, "recipe_version": recipe.version}
    identity |= recipe.identify(source, options)
    name = recipe.dataset_name(source)

    def build(staging: Path) -> Schema:
        known = None if anew else _known(out, identity)
        prepared = recipe.build(source, options, staging, report)
        if known is not None:
            prepared = extended(prepared, known)
        return write_folder(prepared, staging, source=identity, replaced=_readable(out))

    found = _already(out, name, identity)
    if found is None or anew:
        with exclusive(out):
            found = _already(out, name, identity)  # another process may have been faster
            if found is None or anew:
                own = {*FILES, *recipe.extra_files}
                return replace_folder(out, build, is_own=own.__contains__)
    report(f"{out} is up to date", 1, 1)
    return found


def replace_folder(
    out: Path, build: Callable[[Path], Result], *, is_own: Callable[[str], bool]
) -> Result:
    """Builds a folder beside ``out`` and renames it to ``out``; nothing is left after an error.

    ``is_own`` tells by its name whether an entry of an existing ``out`` may be replaced.

    Raises:
        DataError: ``out`` holds files of somebody else, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; choose another folder with --out")
    for path in sorted(out.iterdir()) if out.exists() else ():
        if not is_own(path.name):
            raise DataError(
                f"{out} holds {path.name!r}, which would not be part of it; "
                f"choose another folder with --out"
            )
    with _writing_to(out):
        for leftover in out.parent.glob(f".{glob.escape(out.name)}.preparing-*"):
            shutil.rmtree(leftover, ignore_errors=True)  # of a process that was killed
        place, prefix = out.parent, f".{out.name}.preparing-"
        with tempfile.TemporaryDirectory("", prefix, place, ignore_cleanup_errors=True) as around:
            staging = Path(around) / "new"
            staging.mkdir()
            result = build(staging)
            sync_folder(staging)
            _swap(staging, out, aside=Path(around) / "old")
            sync_folder(place)
    return result


def _swap(new: Path, out: Path, *, aside: Path) -> None:
    """Puts ``new`` in the place of ``out``; puts the old one back if that fails."""
    if not out.exists():
        new.rename(out)
        return
    out.rename(aside)
    try:
        new.rename(out)
    except BaseException:
        aside.rename(out)
        raise


def _already(out: Path, name: str, wanted: Mapping[str, Any]) -> Schema | None:
    """The schema of ``out`` if it is what is wanted; None if it has to be (re)built."""
    schema = _readable(out)
    if schema is None:
        return None
    if schema.name != name:
        raise DataError(
            f"{out} holds the dataset {schema.name!r}, not {name!r}; "
            f"choose another folder with --out"
        )
    if "shard" in schema.source:
        raise DataError(f"{out} holds a node's shard; choose another folder with --out")
    same = all(schema.source.get(key) == value for key, value in wanted.items())
    return schema if same and _complete(out, schema) else None


def _readable(folder: Path) -> Schema | None:
    try:
        return Schema.load(folder)
    except DataError:
        return None


def _known(out: Path, wanted: Mapping[str, Any]) -> Known | None:
    """The version in ``out`` that the new one extends; None where there is none.

    Raises:
        DataError: there is one, and its codes cannot be read.
    """
    schema = _readable(out)
    if schema is None:
        return None
    if "appended" in schema.source:
        raise DataError(
            f"{out} holds {schema.source['appended']:,} appended rows, which the source may lack: "
            "append to it, and take a later catalogue with mrff data append --catalogue; or "
            f"{WAY_OUT}"
        )
    try:
        return known_in(out)
    except DataError as error:
        if schema.version == 1 and all(schema.source.get(k) == v for k, v in wanted.items()):
            return None  # made of the same source once more, it has the same codes
        reason = str(error).removesuffix("; prepare the dataset anew")
        raise DataError(
            f"{reason}: without it the codes of version {schema.version} are lost; restore it "
            f"from a backup, or {WAY_OUT}"
        ) from None


def _complete(folder: Path, schema: Schema) -> bool:
    """Whether the parquet files are there with the rows that the schema counts."""
    rows = {
        ITEMS_FILE: schema.num_items,
        USERS_FILE: schema.counts.get("users"),
        INTERACTIONS_FILE: schema.counts.get("interactions"),
    }
    try:
        return all(pq.read_metadata(folder / name).num_rows == n for name, n in rows.items())
    except (OSError, pa.ArrowException):
        return False


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Holds the lock beside ``out``, so that one process at a time makes it."""
    with _writing_to(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out.parent / f".{out.name}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing_to(out: Path) -> Iterator[None]:
    """Turns a refusal of the file system into one clear line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "a file stands where a folder is needed"
        raise DataError(
            f"cannot write {out} ({reason}); choose another folder with --out or set MRFF_HOME"
        ) from None
