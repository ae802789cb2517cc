"""Prepared datasets by name: found, made with visible progress, described."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bars

from mrff.config import RunConfig
from mrff.data.append import Appended, append
from mrff.data.dataset import Dataset, load_catalogue, load_dataset
from mrff.data.errors import DataError
from mrff.data.floors import floors, split_rows
from mrff.data.prepare import Wanted, prepare_asked
from mrff.data.recipes import RECIPES, Progress, recipe_named
from mrff.data.schema import SCHEMA_FILE, USERS_FILE, RowKind, Schema
from mrff.data.warnings import order_of, warnings_of

Part = Literal["valid", "test"]
PARTS: tuple[Part, ...] = ("valid", "test")


def dataset_folder(dataset: str) -> Path:
    """The folder of a dataset given as one, or by the name under which it was prepared.

    Raises:
        DataError: neither is a prepared dataset.
    """
    folder, home = Path(dataset).expanduser(), _data_home()
    if (folder / SCHEMA_FILE).is_file():
        return folder.absolute()
    if (home / dataset / SCHEMA_FILE).is_file():
        return home / dataset
    raise DataError(
        f"{dataset!r} is neither a prepared folder nor a dataset in {home}; "
        f"make it with: mrff data prepare NAME"
    )


def known_datasets() -> list[dict[str, Any]]:
    """The datasets that can be prepared: name, content, source, and whether each is prepared."""
    return [
        {
            "dataset": recipe.name,
            "content": recipe.summary,
            "source": recipe.default_source or "--from PATH",
            "prepared": (_data_home() / recipe.name / SCHEMA_FILE).is_file(),
        }
        for recipe in RECIPES.values()
    ]


def prepare_dataset(
    name: str,
    *,
    source: Path | None,
    out: Path | None,
    options: Mapping[str, Any] | None = None,
    anew: bool = False,
) -> tuple[Schema, Path]:
    """Prepares a dataset into ``out``, or where runs look for it, and shows how far it is.

    Args:
        anew: codes are given out anew; else what is there already is extended.

    Raises:
        DataError: the name, the source or an option cannot be used.
    """
    recipe = recipe_named(name)
    folder = out or _data_home() / recipe.dataset_name(source)
    with _progress() as progress:
        asked = Wanted(name, source, folder, options or {})
        schema = prepare_asked(asked, progress, anew=anew)
    return schema, folder.expanduser().absolute()


def append_to(folder: Path, *, source: Path | None, catalogue: Path | None) -> Appended:
    """Adds rows to a prepared folder, and shows how far it is; see `mrff.data.append`."""
    with _progress() as progress:
        return append(folder, source=source, catalogue=catalogue, progress=progress)


def describe(dataset: str, *, holdout: int) -> dict[str, Any]:
    """What is in a dataset given as a folder or by name, the floors of a split included.

    Raises:
        DataError: it is not prepared, or damaged.
    """
    folder = dataset_folder(dataset)
    schema = load_catalogue(folder).schema
    users = _users(load_dataset(folder), holdout) if (folder / USERS_FILE).is_file() else None
    order = order_of(folder, schema)
    return {
        "name": schema.name,
        "folder": str(folder),
        "items": schema.num_items,
        "counts": schema.counts,
        "kind": schema.kind,
        "label": schema.label_rule,
        "source": schema.source,
        "version": schema.version,
        "schema_hash": schema.schema_hash,
        "content_hash": schema.content_hash,
        "features": [
            {
                "feature": feature.name, "of": side, "kind": feature.kind,
                "codes": feature.size - 1,
                "most_values": feature.width if feature.kind == "multi" else 1,
            }
            for side, features in (("items", schema.item_features), ("users", schema.user_features))
            for feature in features
        ],
        "users": users,
        "label_order": None if order is None else {**asdict(order), "share": order.share},
        "warnings": warnings_of(schema, order),
    }  # fmt: skip


def _users(dataset: Dataset, holdout: int) -> dict[str, Any]:
    """What only a folder with users tells: interactions of a user, and predictors to beat."""
    low, middle, high = np.quantile(np.diff(dataset.offsets), [0, 0.5, 1])
    found: dict[str, Any] = {
        "interactions": {"fewest": int(low), "median": int(middle), "most": int(high)},
        "split": None, "predictors": [], "lists": [], "no_floors": {},
    }  # fmt: skip
    for part in PARTS:
        for add in FLOORS_OF[dataset.schema.kind]:
            try:
                add(found, dataset, holdout, part)
            except DataError as error:
                found["no_floors"][part] = str(error)
    return found


def _add_rates(found: dict[str, Any], dataset: Dataset, holdout: int, part: Part) -> None:
    """Predictors of labels."""
    measured = floors(dataset, holdout=holdout, part=part)
    found["split"] = _split(dataset, holdout, measured.users, measured.targets)
    for name, floor in (
        ("user rate", measured.user),
        ("user x item rate", measured.user_item),
        ("user x feature rates", measured.user_features),
    ):
        if floor is not None:
            found["predictors"].append({"predictor": name, "part": part, **asdict(floor)})


def _add_popularity(found: dict[str, Any], dataset: Dataset, holdout: int, part: Part) -> None:
    """Lists of what comes next."""
    from mrff.ops.popularity import popularity_floor  # brings PyTorch

    measured = asdict(popularity_floor(dataset, holdout=holdout, part=part))
    found["split"] = _split(dataset, holdout, measured.pop("users"), measured.pop("targets"))
    found["lists"].append({"lists_by": "popularity", "part": part, **measured})


def _split(dataset: Dataset, holdout: int, users: int, targets: int) -> dict[str, int]:
    test = split_rows(dataset, holdout=holdout, part="test").held_out
    return {
        "holdout": holdout,
        "users": users,
        "too_short": dataset.num_users - users,
        "targets": targets,
        "same_time": int(dataset.same_time[test].sum()),  # targets at the time of the row before
    }


FLOORS_OF: Mapping[RowKind, tuple[Callable[[dict[str, Any], Dataset, int, Part], None], ...]] = {
    "labelled": (_add_rates,),
    "events": (_add_popularity,),
    "both": (_add_rates, _add_popularity),
}


def _data_home() -> Path:
    return RunConfig.from_flat({}).home / "data"


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on a terminal, a line per stage elsewhere; both on stderr."""
    if not sys.stderr.isatty():
        stages: list[str] = []

        def say(stage: str, done: int, total: int | None) -> None:
            if stages[-1:] != [stage]:
                stages.append(stage)
                print(stage, file=sys.stderr, flush=True)

        yield say
        return
    with Bars(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def show(stage: str, done: int, total: int | None) -> None:
            bars.update(task, description=escape(stage), completed=done, total=total)

        yield show
