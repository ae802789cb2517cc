"""``mrff compare``: runs a grid of methods, datasets and seeds, and tests the differences."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mrff.cli.terminal import App, AsJson, Changes, print_json, several

if TYPE_CHECKING:
    from mrff.experiments.comparison.comparing import Compared

SEVERAL = ("--methods", "--datasets", "--seeds")  # take several words, until the next option
Names = Annotated[list[str], several(metavar="NAME...", help="These alone.")]


def compare(
    plans: Annotated[list[Path], typer.Argument(metavar="CONFIG...")],
    methods: Names,
    datasets: Names,
    seeds: Annotated[list[int], several(metavar="N...", help="These alone.")],
    changes: Changes,
    name: Annotated[
        str, typer.Option(help="Of the folder of results (the comparison's, with -part).")
    ] = "",
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Runs at once (one for every two processors)."),
    ] = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Run methods on datasets with seeds, and test the differences.

    CONFIG says what to compare, as conf/compare-*.toml. --methods, --datasets, --seeds and --set
    run a part of it, with the file's settings.
    """
    # These bring torch and pandas.
    from mrff.experiments.comparison.comparing import compare_all
    from mrff.experiments.comparison.plan import PlanPart, read_plan
    from mrff.experiments.comparison.running import Workplace
    from mrff.ops.flower_app import app_folder
    from mrff.ops.simulation import read_settings

    here = app_folder(app)
    place = Workplace(jobs or max(1, (os.cpu_count() or 1) // 2), here)
    part = PlanPart(methods, datasets, seeds, read_settings(None, changes), name)
    read = [read_plan(path, presets=here / "conf", part=part) for path in plans]
    done = []
    for result in compare_all(read, place):
        print_json(result.numbers()) if as_json else _print(result)
        for line in result.undone:
            print(f"mrff: not finished: {line}", file=sys.stderr)
        done.append(not result.undone)
    if not all(done):
        print("mrff: the same command runs what is not finished again", file=sys.stderr)
        raise typer.Exit(1)


def _print(result: Compared) -> None:
    from mrff.experiments.comparison.tables import legend, terminal  # brings pandas

    console = Console(width=None if sys.stdout.isatty() else 240)
    for table in result.tables:
        console.print(terminal(table))
        for note in table.notes:
            console.print(f"  {note}", markup=False, highlight=False)
        console.print()
    print(legend(result.plan))
    print(f"results: {result.folder}")


def spread(words: list[str]) -> list[str]:
    """Repeats the name of an option that takes several words before each of them."""
    spread_words: list[str] = []
    option = ""
    for word in words:
        is_option = word.startswith("-")
        if option and not is_option and spread_words[-1] != option:
            spread_words.append(option)
        if is_option:
            option = word if word in SEVERAL else ""
        spread_words.append(word)
    return spread_words
