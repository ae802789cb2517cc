"""Do groups pay where a federation is made of different worlds? AUC in each domain, by method.

    mrff data prepare domains --from domains.toml --out ~/.mrff/data/four-domains
    python benchmarks/domains.py --dataset ~/.mrff/data/four-domains --config conf/domains.toml \
        --methods one-group mrff ifca fedper --seeds 0 1 2 3 4 --home /tmp/domains

Each method is trained on all domains together, federated ones through Flower, `pooled` and the
like in one place; `alone` is the first one, trained on each domain by itself. Differences to the
first method are paired over a domain's users and seeds, p-values by Holm over all of them. Runs
that are in ``--home`` already are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cold_users import RESAMPLES, method_options, method_rows, with_holm, write_known
from numpy.typing import NDArray

from client_app.kept_scores import FILE, KeptScores, read_scores, write_scores
from mrff.config import RunConfig
from mrff.config.methods import METHODS
from mrff.data.dataset import Dataset, load_dataset
from mrff.experiments.central.methods import run_central
from mrff.experiments.comparison.bootstrap import resampled
from mrff.experiments.comparison.measures import auc_of
from mrff.ops.engine import FlowerEngine
from mrff.ops.federation import Federation
from mrff.ops.processes import termination_interrupts
from mrff.ops.simulation import Values, read_settings, run_on

ALONE = "alone"


def main() -> None:
    """Prints a row per domain and method."""
    options = method_options(__doc__, ["one-group", "mrff"])
    home, folder = options.home.expanduser().absolute(), options.dataset.expanduser().absolute()
    dataset = load_dataset(folder)
    domains = domains_of(dataset)
    found: dict[str, list[KeptScores]] = {}
    with (
        termination_interrupts(),
        FlowerEngine(home / "flower", Federation(options.nodes)) as engine,
    ):
        given = read_settings(options.config, options.set)
        for method in options.methods:
            training = Training(engine, home, {**given, **METHODS[method].overrides})
            scores = training.scores if METHODS[method].is_federated else training.central_scores
            found[method] = [scores(method, folder, seed) for seed in options.seeds]
        first = options.methods[0]
        training = Training(engine, home, {**given, **METHODS[first].overrides})
        for domain, users in domains.items():
            part = home / "data" / domain
            if not part.exists():
                write_known(folder, dataset, users, part)
            found[f"{ALONE} {domain}"] = [
                training.scores(f"{ALONE}-{domain}", part, seed) for seed in options.seeds
            ]
    table = compared(found, {n: dataset.user_keys[u] for n, u in domains.items()}, first)
    print(table.to_string(index=False))
    if options.csv:
        table.to_csv(options.csv, index=False)


def domains_of(dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """The users of each domain; their ids begin with its name."""
    names = np.array([str(name).partition("/")[0] for name in dataset.user_ids])
    return {str(name): np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())}


class Training:
    """Runs with the same settings."""

    def __init__(self, engine: FlowerEngine, home: Path, settings: Values) -> None:
        self.engine, self.home, self.settings = engine, home, settings

    def scores(self, name: str, data: Path, seed: int) -> KeptScores:
        """The users' test predictions of a run, which is made if it is not there."""
        run = f"{name}-{seed}"
        if not (self.home / "runs" / run / "summary.json").exists():
            run_on(self.engine, self._values(data, run, seed), app=None)
        return read_scores(sorted((self.home / "state" / run).glob(f"*/{FILE}")))

    def central_scores(self, name: str, data: Path, seed: int) -> KeptScores:
        """The same of a method that sees everybody's data in one place."""
        kept = self.home / "central" / f"{name}-{seed}" / FILE
        if not kept.exists():
            config = RunConfig.from_flat(self._values(data, f"{name}-{seed}", seed))
            write_scores(kept, run_central(name, config).scores)
        return read_scores([kept])

    def _values(self, data: Path, run: str, seed: int) -> Values:
        return {
            **self.settings, "data.dataset": data.name, "data.data-dir": str(data),
            "data.home": str(self.home), "training.seed": seed, "run.name": run,
            "run.tensorboard": False, "evaluation.keep-test-scores": True,
        }  # fmt: skip


def compared(
    found: Mapping[str, list[KeptScores]], keys: Mapping[str, NDArray[np.uint64]], first: str
) -> pd.DataFrame:
    """A row per domain and method; ``first`` is what the others are compared with."""
    rows: list[dict[str, Any]] = []
    for domain, of_domain in keys.items():
        together = {name: runs for name, runs in found.items() if not name.startswith(ALONE)}
        runs_of = {**together, ALONE: found[f"{ALONE} {domain}"]}
        scores = {
            name: [run.taken(np.flatnonzero(np.isin(run.user_keys, of_domain))) for run in runs]
            for name, runs in runs_of.items()
        }
        some = scores[first][0]
        measures = {
            domain: {
                name: [auc_of(run.logits, run.labels) for run in runs if run.logits is not None]
                for name, runs in scores.items()
            }
        }
        drawn_from = (len(some.labels), some.labels.size)
        values = resampled(measures, drawn_from, resamples=RESAMPLES, seed=[0])[domain]
        about = {"domain": domain, "users": len(some.labels)}
        rows += method_rows(about, values, first)
    return with_holm(rows)


if __name__ == "__main__":
    main()
