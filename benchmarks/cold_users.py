"""What do people get who have just come: held-out users with few interactions, never trained on?

    python benchmarks/cold_users.py --dataset ~/.mrff/data/ml-100k --config conf/ml-100k.toml \
        --methods mrff one-group --seeds 0 1 2 3 4 --home /tmp/cold

A fifth of the users is held out, by key. On the others each method is trained through Flower. Then
every held-out user's rows 11 to 15 are predicted from their first 0, 1, 2, 5 and 10 rows, by the
shared model with a new user's private parameters, as a node does for somebody who has just come. So
all conditions are about the same rows. Differences to the first method are paired over users and
seeds, p-values by Holm over methods and conditions. The floor is items' smoothed rate.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from measuring import read_options
from numpy.typing import NDArray

from mrff.config.methods import METHODS
from mrff.data.dataset import Dataset, load_dataset, load_times, rows_of, take_users
from mrff.data.floors import SMOOTHING
from mrff.data.schema import ITEMS_FILE
from mrff.data.windows import is_chosen
from mrff.data.writing import UserChunk, write_users
from mrff.experiments.comparison.bootstrap import holm, paired_difference, resampled
from mrff.experiments.comparison.measures import auc_of
from mrff.ops.engine import FlowerEngine
from mrff.ops.federation import Federation
from mrff.ops.nodes import NodesAtHand
from mrff.ops.processes import termination_interrupts
from mrff.ops.simulation import Values, read_settings, run_on
from mrff.ops.trained_run import find_run, load_best
from mrff.ops.user_model import with_history

MET = (0, 1, 2, 5, 10)
ASKED = 5
HELD_OUT = 0.2
RESAMPLES = 4000
Logits = NDArray[np.float64]


def main() -> None:
    """Prints a row per condition and method."""
    options = method_options(__doc__, ["mrff", "one-group"])
    home, folder = options.home.expanduser().absolute(), options.dataset.expanduser().absolute()
    dataset = load_dataset(folder)
    held_out = is_chosen(dataset.user_keys, HELD_OUT)
    known = home / "data" / dataset.schema.name
    if not known.exists():
        write_known(folder, dataset, np.flatnonzero(~held_out), known)
    new = np.flatnonzero(held_out & (np.diff(dataset.offsets) >= MET[-1] + ASKED))
    cold = Cold.of(dataset, load_times(folder), new)
    found: dict[str, list[dict[int, Logits]]] = {method: [] for method in options.methods}
    with (
        termination_interrupts(),
        FlowerEngine(home / "flower", Federation(options.nodes)) as engine,
    ):
        for seed in options.seeds:
            for method in options.methods:
                settings = {
                    **read_settings(options.config, options.set),
                    **METHODS[method].overrides,
                }
                run = trained(engine, settings, home, (known, f"{method}-{seed}", seed))
                found[method].append(cold.answered_by(run))
    floor = item_rates(load_dataset(known))[cold.asked]
    table = compared(found, cold.wanted, floor)
    print(table.to_string(index=False))
    if options.csv:
        table.to_csv(options.csv, index=False)


def method_options(doc: str, methods: list[str]) -> argparse.Namespace:
    """The command line of a script that trains some of ``methods`` with some seeds."""
    return read_options(
        doc,
        *("dataset", "config", "set"),
        dataset={"required": True},
        home={"type": Path, "required": True, "help": "runs that are there are read"},
        methods={"nargs": "+", "default": methods, "choices": METHODS},
        seeds={"type": int, "nargs": "+", "default": [0]},
        nodes=2,
        csv={"type": Path, "default": None},
    )


def write_known(folder: Path, dataset: Dataset, users: NDArray[np.int64], out: Path) -> None:
    """A prepared folder with these users alone, and the whole catalogue."""
    times = load_times(folder)[rows_of(dataset.offsets, users)]
    write_changed(folder, take_users(dataset, users), times, out)


def write_changed(folder: Path, dataset: Dataset, times: NDArray[np.int64], out: Path) -> None:
    """A prepared folder of what was made of the one in ``folder``, with its catalogue."""
    out.mkdir(parents=True)
    shutil.copyfile(folder / ITEMS_FILE, out / ITEMS_FILE)
    schema, chunk = dataset.schema, UserChunk.of(dataset, times)
    counts, content = write_users(out, schema.user_features, [chunk])
    counts = {"items": schema.num_items, **counts}
    replace(schema, counts=counts, content_hash=content).save(out)


def trained(engine: FlowerEngine, settings: Values, home: Path, of: tuple[Path, str, int]) -> Path:
    """The folder of a run on the known users; ``of``: their data, the run's name, the seed."""
    data, name, seed = of
    folder = home / "runs" / name
    if not (folder / "summary.json").exists():
        values: Values = {
            **settings, "data.dataset": data.name, "data.data-dir": str(data),
            "data.home": str(home), "training.seed": seed, "run.name": name,
            "run.tensorboard": False, "evaluation.score-test": False,
        }  # fmt: skip
        run_on(engine, values, app=None)
    return folder


class Cold:
    """Rows of U users who have just come."""

    def __init__(self, items: Any, labels: Any, times: Any) -> None:
        self.items, self.labels, self.times = items, labels, times  # (U, 10 + 5) each

    @classmethod
    def of(cls, dataset: Dataset, times: NDArray[np.int64], users: NDArray[np.int64]) -> Cold:
        """The first rows of these users."""
        rows = dataset.offsets[users][:, None] + np.arange(MET[-1] + ASKED)
        items, labels = (
            column[rows].astype(np.int64) for column in (dataset.items, dataset.labels)
        )
        return cls(items, labels, times[rows])

    @property
    def asked(self) -> NDArray[np.int64]:
        """(U, 5) items."""
        found: NDArray[np.int64] = self.items[:, MET[-1] :]
        return found

    @property
    def wanted(self) -> NDArray[np.int64]:
        """(U, 5) labels."""
        found: NDArray[np.int64] = self.labels[:, MET[-1] :]
        return found

    @torch.no_grad()
    def answered_by(self, run: Path) -> dict[int, Logits]:
        """By how many rows were met: logits (U, 5)."""
        best = load_best(find_run(str(run)))
        node = next(NodesAtHand(best).open_all())
        found = {met: np.zeros(self.asked.shape) for met in MET}
        for met in MET:
            for user, asked in enumerate(torch.from_numpy(self.asked)):
                model = with_history(best, node, self.items[user, :met], self.labels[user, :met])
                if model.times is not None:
                    model = replace(model, times=self.times[user, :met])
                found[met][user] = model.network.score_items(model.histories, asked).logits[0]
        return found


def item_rates(dataset: Dataset) -> Logits:
    """(items + 1,) the smoothed share of the known users' rows that were liked."""
    size = dataset.schema.num_items + 1
    met = np.bincount(dataset.items, minlength=size)
    liked = np.bincount(dataset.items, weights=dataset.labels, minlength=size)
    overall = float(dataset.labels.mean())
    rates: Logits = (liked + SMOOTHING * overall) / (met + SMOOTHING)
    return rates


def compared(
    found: Mapping[str, list[dict[int, Logits]]], wanted: NDArray[np.int64], floor: Logits
) -> pd.DataFrame:
    """A row per condition and method; the first method is what the others are compared with."""
    reference = next(iter(found))
    measures = {
        str(met): {
            **{name: [auc_of(run[met], wanted) for run in runs] for name, runs in found.items()},
            "item rate": [auc_of(floor, wanted)],
        }
        for met in MET
    }
    values = resampled(measures, (len(wanted), wanted.size), resamples=RESAMPLES, seed=[0])
    rows = [
        row for met, of in values.items() for row in method_rows({"met": int(met)}, of, reference)
    ]
    return with_holm(rows)


def method_rows(
    about: dict[str, Any], values: Mapping[str, NDArray[np.float64]], reference: str
) -> Iterator[dict[str, Any]]:
    """A line for each method, from what `resampled` gave, beside the reference."""
    for name, runs in values.items():
        row = {**about, "method": name, "auc": round(float(runs[:, 0].mean()), 4)}
        if name != reference:
            by = paired_difference(runs, values[reference], confidence=0.95, seed=[1])
            row |= {"difference": round(by.difference, 4), "low": round(by.low, 4),
                    "high": round(by.high, 4), "p": by.p_value}  # fmt: skip
        yield row


def with_holm(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The lines as a table, their p-values by Holm over all of them."""
    table = pd.DataFrame(rows)
    table["p"] = [round(p, 4) for p in holm(table["p"].tolist())]
    return table


if __name__ == "__main__":
    main()
