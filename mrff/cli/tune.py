"""``mrff tune``: settings for a dataset, found by validation within a budget of time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrff.cli.terminal import App, Changes, Config, CpusPerNode, Dataset, Nodes, print_table
from mrff.config import RunConfig

if TYPE_CHECKING:
    from mrff.ops.tuning.tune import Found


def tune(
    dataset: Dataset,
    changes: Changes,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="Of this command: 30m, 2h, 90s.")
    ] = "30m",
    config: Config = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For journal and best.toml (default: HOME/tune/NAME)."),
    ] = None,
    nodes: Nodes = 2,
    cpus_per_node: CpusPerNode = 1,
    app: App = None,
) -> None:
    """Search settings for a dataset by validation, and write a file for mrff run --config.

    DATASET is the name of a prepared dataset, or its folder. The first run has what fits the data,
    the second the plain defaults. The test is never scored. Settings given with -c or --config
    stay as they are. The same command goes on where it ended, after Ctrl-C as well.
    """
    # These bring torch and pyarrow.
    from mrff.ops.datasets import dataset_folder
    from mrff.ops.flower_app import app_folder
    from mrff.ops.simulation import read_settings
    from mrff.ops.tuning.study import seconds_of
    from mrff.ops.tuning.trials import Workshop
    from mrff.ops.tuning.tune import tune as tuned

    seconds, values = seconds_of(budget), read_settings(config, changes)
    for key in ("data.dataset", "data.data-dir"):
        values.pop(key, None)  # the command names the dataset
    folder = dataset_folder(dataset)
    home = (
        out.expanduser().absolute() if out else RunConfig.from_flat({}).home / "tune" / folder.name
    )
    workshop = Workshop(home, nodes, cpus_per_node, app_folder(app))
    found = tuned(folder, values, workshop, seconds, _tell)
    _print(found)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(found: Found) -> None:
    """What mattered, the best of each setting, and what it is better than."""
    print_table(
        ("setting", "importance", "best", "default", "values tried"),
        (
            (key, "-" if share is None else f"{share:.2f}", best, default, tried)
            for key, share, best, default, tried in found.axes
        ),
        title=f"{found.trials} trials, by validation {found.measure}",
        lines=True,
    )
    told = [f"{name} {value:.4f}" for name, value in found.points.items()]
    told += [f"best floor {found.floor[1]:.4f} ({found.floor[0]})"] if found.floor else []
    print(
        f"best validation {found.measure} {found.best:.4f} (trial {found.trial}); {', '.join(told)}"
    )
    print(f"run it: mrff run --config {found.file}")
