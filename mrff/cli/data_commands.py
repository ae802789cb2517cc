"""``mrff data``: list the known datasets, prepare one, describe it, spread it over nodes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrff.data.dataset import Dataset, load_catalogue, load_dataset
from mrff.data.errors import DataError
from mrff.data.floors import Floors, floors
from mrff.data.prepare import prepare
from mrff.data.recipes import RECIPES, Progress, recipe_named
from mrff.data.recipes.synthetic import SyntheticSettings
from mrff.data.schema import SCHEMA_FILE, USERS_FILE, Schema
from mrff.data.shard import shard

if TYPE_CHECKING:
    from rich.table import Table


def add_parser(subparsers: Any) -> None:
    """Adds ``data`` and its commands; each sets ``handler``, which returns the exit status."""
    data = subparsers.add_parser("data", help="prepare, describe and shard datasets")
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="the datasets that can be prepared")
    command.set_defaults(handler=_list)

    command = commands.add_parser("prepare", help="make a dataset ready for training")
    command.add_argument("name", metavar="NAME", help=f"one of {', '.join(RECIPES)}")
    command.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="PATH",
        help="the files to read: a folder or archive; for csv the TOML that describes them",
    )
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write (default: HOME/data/NAME)"
    )
    for field in fields(SyntheticSettings):
        command.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=int,
            metavar="N",
            help=f"synthetic only (default: {field.default})",
        )
    command.set_defaults(handler=_prepare)

    command = commands.add_parser("describe", help="what is in a prepared dataset")
    command.add_argument("dataset", metavar="FOLDER-or-NAME")
    command.add_argument(
        "--holdout", type=int, default=1, metavar="K", help="rows held out for each part (1)"
    )
    command.set_defaults(handler=_describe)

    command = commands.add_parser("shard", help="spread a dataset's users over nodes")
    command.add_argument("dataset", metavar="FOLDER-or-NAME")
    command.add_argument("--nodes", type=int, required=True, metavar="N")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.set_defaults(handler=_shard)


def dataset_folder(dataset: str) -> Path:
    """The folder of a dataset given as one, or by the name under which it was prepared.

    Raises:
        DataError: neither is a prepared dataset.
    """
    folder = Path(dataset).expanduser()
    if (folder / SCHEMA_FILE).is_file():
        return folder.absolute()
    named = _home() / "data" / dataset
    if (named / SCHEMA_FILE).is_file():
        return named
    raise DataError(
        f"{dataset!r} is neither a prepared folder nor a dataset in {_home() / 'data'}; "
        f"make it with: mrff data prepare NAME"
    )


def _home() -> Path:
    return Path(os.environ.get("MRFF_HOME") or "~/.mrff").expanduser().absolute()


def _list(arguments: argparse.Namespace) -> int:
    table = _table("dataset", "content", "source", "prepared")
    for recipe in RECIPES.values():
        ready = (_home() / "data" / recipe.name / SCHEMA_FILE).is_file()
        source = recipe.default_source or "--from PATH"
        table.add_row(recipe.name, recipe.summary, source, "yes" if ready else "")
    _show(table)
    return 0


def _prepare(arguments: argparse.Namespace) -> int:
    recipe = recipe_named(arguments.name)
    options = {
        field.name: value
        for field in fields(SyntheticSettings)
        if (value := getattr(arguments, field.name)) is not None
    }
    out = arguments.out or _home() / "data" / recipe.dataset_name(arguments.source)
    with show_progress() as progress:
        schema = prepare(
            recipe.name, source=arguments.source, out=out, progress=progress, options=options
        )
    print(f"{schema.name}: {_counts(schema)}")
    for reason, count in schema.counts.get("dropped", {}).items():
        print(f"dropped: {count:,} {reason}")
    print(f"prepared in {Path(out).expanduser().absolute()}")
    return 0


def _describe(arguments: argparse.Namespace) -> int:
    folder = dataset_folder(arguments.dataset)
    has_users = (folder / USERS_FILE).is_file()
    dataset = load_dataset(folder) if has_users else None
    schema = load_catalogue(folder)[0]
    print(f"{schema.name} in {folder}")
    if dataset is None:
        print(f"the public part only: {schema.num_items:,} items; label: {schema.label_rule}")
    else:
        print(f"{_counts(schema)}; label: {schema.label_rule}")
        sizes = np.diff(dataset.offsets)
        low, middle, high = (int(value) for value in np.quantile(sizes, [0, 0.5, 1]))
        print(f"interactions of a user: {low} to {high:,}, median {middle}")
    for key, value in schema.source.items():
        print(f"source {key}: {_short(value)}")
    for reason, count in schema.counts.get("dropped", {}).items():
        print(f"dropped: {count:,} {reason}")
    print(f"schema hash {schema.schema_hash}, content hash {schema.content_hash}")
    table = _table("feature", "of", "kind", "codes", "values per row")
    for side, features in (("items", schema.item_features), ("users", schema.user_features)):
        for feature in features:
            width = f"up to {feature.width}" if feature.kind == "multi" else "1"
            table.add_row(feature.name, side, feature.kind, str(feature.size - 1), width)
    _show(table)
    if dataset is not None:
        _show_floors(dataset, arguments.holdout)
    return 0


def _show_floors(dataset: Dataset, holdout: int) -> None:
    """The floors of both parts; a line with the reason where there are none."""
    table = _table("predictor", "part", "auc", "log loss")
    measured: Floors | None = None
    for part in ("valid", "test"):
        try:
            measured = floors(dataset, holdout=holdout, part=part)
        except DataError as error:
            print(f"no floors for {part}: {error}")
            continue
        named = {
            "user rate": measured.user,
            "user x item rate": measured.user_item,
            "user x feature rates": measured.user_features,
        }
        for name, floor in named.items():
            if floor is not None:
                table.add_row(name, part, f"{floor.auc:.4f}", f"{floor.log_loss:.4f}")
    if measured is not None:
        short = dataset.num_users - measured.users
        print(
            f"split with holdout {holdout}: {measured.users:,} users, {short:,} too short, "
            f"{measured.targets:,} test targets; predictors that pool the training rows:"
        )
        _show(table)


def _shard(arguments: argparse.Namespace) -> int:
    folder = dataset_folder(arguments.dataset)
    schemas = shard(folder, arguments.out, arguments.nodes)
    users = [schema.counts["users"] for schema in schemas]
    share = f"{min(users)}" if min(users) == max(users) else f"{min(users)} to {max(users)}"
    out = arguments.out.expanduser().absolute()
    print(
        f"{len(schemas)} nodes with {share} users each in {out}/node-*, catalogue in {out}/server"
    )
    return 0


def _counts(schema: Schema) -> str:
    counts = schema.counts
    rate = counts["positive"] / counts["interactions"]
    return (
        f"{counts['users']:,} users, {counts['items']:,} items, "
        f"{counts['interactions']:,} interactions, {rate:.1%} positive"
    )


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_short(item)}" for key, item in value.items())
    text = str(value)
    return text if len(text) <= 64 else text[:61] + "..."


@contextmanager
def show_progress() -> Iterator[Progress]:
    """A bar on a terminal, a line per stage elsewhere; both on stderr."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def show(stage: str, done: int, total: int | None) -> None:
            bars.update(task, description=stage, completed=done, total=total)

        yield show


def _lines() -> Progress:
    said: list[str] = []

    def show(stage: str, done: int, total: int | None) -> None:
        if said[-1:] != [stage]:
            said.append(stage)
            print(stage, file=sys.stderr, flush=True)

    return show


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _show(table: Table) -> None:
    from rich.console import Console

    # a pipe has no width: lines are as long as their content
    Console(width=None if sys.stdout.isatty() else 200).print(table)
