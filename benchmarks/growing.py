"""What does a model that goes on lose, and save, against one trained anew on each slice of time?

    python benchmarks/growing.py --dataset ~/.mrff/data/ml-1m --slices 5 --rounds 300

The dataset is cut at quantiles of time. Slice k holds all rows up to its end, with the items and
users that they name: a catalogue that grows. On each a model is trained anew, and one goes on from
that of the slice before. Both are tested on the slice's own split at their best validated round.
`enough` is the first round whose validation is at most 0.002 below the best of the model trained
anew. Folders of earlier slices lie in ``--home``, which has to be new.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import read_options
from numpy.typing import NDArray

from mrff.data.dataset import Dataset, load_dataset, load_item_ids, load_times
from mrff.data.prepare import prepare
from mrff.data.schema import Feature
from mrff.ops.engine import FlowerEngine
from mrff.ops.federation import Federation
from mrff.ops.processes import termination_interrupts
from mrff.ops.simulation import Values, read_settings, run_on
from server_app.run.history import read_history

CLOSE = 0.002  # of a validation measure
MEASURES = ("auc", "log_loss", "ndcg10", "hr10")


def main() -> None:
    """Prints the table, a row per slice, seed and way of training."""
    options = read_options(
        __doc__,
        *("dataset", "config", "set"),
        dataset={"required": True},
        home={"type": Path, "required": True, "help": "a new folder for slices and runs"},
        slices=5,
        rounds=300,
        continued_rounds={"type": int, "default": 0, "help": "0: a third of the rounds"},
        start_share={"type": float, "default": 1.0, "help": "run.start-share of what goes on"},
        seeds={"type": int, "nargs": "+", "default": [0]},
        nodes=2,
        csv={"type": Path, "default": None},
    )
    home = options.home.expanduser().absolute()
    if home.exists():
        raise SystemExit(f"{home} exists already; name a new folder with --home")
    continued = options.continued_rounds or max(1, options.rounds // 3)
    settings = read_settings(options.config, options.set)
    source = Slices(options.dataset.expanduser(), home)
    rows = []
    with (
        termination_interrupts(),  # or a run would outlive this script
        FlowerEngine(home / "flower", Federation(options.nodes)) as engine,
    ):
        for number in range(1, options.slices + 1):
            new = source.prepare(number, options.slices)
            for seed in options.seeds:
                plan = Plan(settings, home, number, seed, options.start_share)
                anew = plan.run(engine, "anew", options.rounds)
                best = anew.summary[f"validation_{anew.summary['best_by']}"]
                rows.append({**new, **anew.row(best)})
                if number > 1:
                    rows.append({**new, **plan.run(engine, "continued", continued).row(best)})
                print(pd.DataFrame(rows).to_string(index=False), flush=True)
    table = pd.DataFrame(rows)
    if options.csv:
        table.to_csv(options.csv, index=False)


class Slices:
    """A prepared dataset as its source would have grown, and the dataset that follows it."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.dataset, self.times = load_dataset(folder), load_times(folder)
        self.ids, self.home = np.array(load_item_ids(folder), dtype=object), home
        self.owners = np.repeat(np.arange(self.dataset.num_users), np.diff(self.dataset.offsets))

    def prepare(self, number: int, slices: int) -> dict[str, Any]:
        """Extends the folder ``HOME/data`` to the end of a slice, counted from 1."""
        end = np.quantile(self.times, number / slices, method="higher")
        rows = np.flatnonzero(self.times <= end)
        toml = _write(self, rows, self.home / "source")
        schema = prepare("csv", source=toml, out=self.home / "data")
        counts = {name: schema.counts[name] for name in ("users", "items", "interactions")}
        grown = schema.counts.get("grown", {"new items": schema.num_items})
        return {"slice": number, **counts, "new_items": grown.get("new items", 0)}


class Plan:
    """The runs of a slice with a seed."""

    def __init__(
        self, settings: Values, home: Path, number: int, seed: int, start_share: float
    ) -> None:
        self.settings, self.home, self.number, self.seed = settings, home, number, seed
        self.start_share = start_share

    def run(self, engine: FlowerEngine, way: str, rounds: int) -> Run:
        """Trains anew, or goes on from the slice before."""
        values: Values = {
            **self.settings,
            "data.dataset": "slices",
            "data.data-dir": str(self.home / "data"),
            "data.home": str(self.home),
            "training.seed": self.seed + self.number * 1000,
            "server.num-server-rounds": rounds,
            "run.name": self._name(way, self.number),
            "run.tensorboard": False,
        }
        if way == "continued":
            before = self._name("continued" if self.number > 2 else "anew", self.number - 1)
            values["run.start-from"] = before
            values["run.start-share"] = self.start_share
        return Run(way, self.seed, run_on(engine, values, app=None))

    def _name(self, way: str, number: int) -> str:
        return f"{way}-{number}-seed-{self.seed}"


class Run:
    """What a run has left."""

    def __init__(self, way: str, seed: int, summary: dict[str, Any]) -> None:
        self.way, self.seed, self.summary = way, seed, summary

    def row(self, best: float | None) -> dict[str, Any]:
        """Its line of the table; ``best``: the best validation of the model trained anew."""
        summary, name = self.summary, self.summary["best_by"]
        history = read_history(Path(summary["path"]) / "history.jsonl")
        near = [
            entry["round"]
            for entry in history
            if entry["kind"] == "validation"
            and best is not None
            and (entry[name] or -np.inf) >= best - CLOSE
        ]
        test = {measure: summary["test"].get(measure) for measure in MEASURES}
        return {
            "way": self.way, "seed": self.seed, "rounds": summary["rounds"],
            "best_round": summary["best_round"], "enough": min(near, default=None),
            **{measure: None if v is None else round(v, 4) for measure, v in test.items()},
            "seconds": round(summary["seconds"], 1),
        }  # fmt: skip


def _write(source: Slices, rows: NDArray[np.int64], folder: Path) -> Path:
    """The rows, and the items and users they name, as files with the TOML that describes them."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset, schema = source.dataset, source.dataset.schema
    items, users = np.unique(dataset.items[rows]), np.unique(source.owners[rows])
    log = {
        "user": pa.array(dataset.user_ids[source.owners[rows]], pa.string()),
        "item": pa.array(source.ids[dataset.items[rows]], pa.string()),
        "time": source.times[rows],
        "label": dataset.labels[rows],
    }
    pq.write_table(pa.table(log), folder / "log.parquet")
    for side, ids, codes, features in (
        ("items", source.ids[items], _of(dataset.item_features, items), schema.item_features),
        ("users", dataset.user_ids[users], _of(dataset.user_features, users), schema.user_features),
    ):
        columns = {f.name: _texts(f, codes[f.name]) for f in features if f.kind != "id"}
        pq.write_table(
            pa.table({"id": pa.array(ids, pa.string()), **columns}), folder / f"{side}.parquet"
        )
    path = folder / "slices.toml"
    path.write_text(_described(dataset))
    return path


def _of(codes: dict[str, Any], rows: NDArray[Any]) -> dict[str, Any]:
    return {name: values[rows] for name, values in codes.items()}


def _texts(feature: Feature, codes: NDArray[np.int32]) -> Any:
    """Codes as the names of values; several as a list, none as a gap."""
    names = [None, *(feature.values or map(str, range(1, feature.size)))]
    if feature.kind == "multi":
        lists = [[names[code] for code in row if code] for row in codes]
        return pa.array(lists, pa.list_(pa.string()))
    return pa.array([names[code] for code in codes], pa.string())


def _described(dataset: Dataset) -> str:
    """Buckets are categories of their own here: their edges are known by name only."""
    schema = dataset.schema
    kinds = {"bucket": "categorical"}
    lines = ['name = "slices"', "[interactions]", 'file = "log.parquet"']
    lines += [f'{name} = "{name}"' for name in ("user", "item", "time")]
    lines += [] if schema.kind == "events" else ['label = "label"', f'kind = "{schema.kind}"']
    lines += [] if schema.repeats or schema.kind == "labelled" else ['repeats = "first"']
    for side, features in (("items", schema.item_features), ("users", schema.user_features)):
        lines += [f"[{side}]", f'file = "{side}.parquet"', 'id = "id"', f"[{side}.features]"]
        lines += [f'"{f.name}" = "{kinds.get(f.kind, f.kind)}"' for f in features]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
