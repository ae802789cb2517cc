"""What does privacy cost? Quality against epsilon, for each mode and unit, over seeds.

    python benchmarks/privacy_utility.py --dataset ~/.mrff/data/ml-1m --out ml-1m.jsonl
    python benchmarks/privacy_utility.py --out ml-1m.jsonl --plot docs/privacy-ml-1m.png

The first command trains whatever cell of the grid is not yet in the file, one line per finished
run, and can be stopped and started again; the second draws what is there and prints it as a table
(needs the extra ``bench``). Epsilon inf is the same configuration with privacy.mode=none. Messages
are real and travel through an in-process grid (tests/support/local_grid.py): hundreds of rounds
are cheap. A private run's own test is noised: here the released model is scored exactly afterwards,
outside the guarantee, as nobody could who has not all the nodes at hand.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, RecordDict
from measuring import read_options
from privacy_utility_plot import MEASURES, print_results, save_plot, summary_of

from client_app.app import app as client_app
from client_app.learners.cohort import CohortLearner
from mrff.metrics import evaluation_of
from mrff.ops.nodes import NodesAtHand
from mrff.ops.simulation import read_settings
from mrff.ops.trained_run import find_run, load_best
from mrff.privacy.accounting import Release, epsilon_of
from mrff.privacy.planning import Plan, solve
from mrff.sums import CohortSums
from server_app.app import app as server_app
from server_app.run.history import read_history

sys.path.append(str(Path(__file__).resolve().parents[1]))
from tests.support.local_grid import LocalGrid

Settings = dict[str, Any]
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, math.inf)
VARIANTS: dict[str, Settings] = {  # mode/unit
    "central-user/user": {"privacy.mode": "central-user"},
    "distributed-user/user": {
        "privacy.mode": "distributed-user", "privacy.secure-aggregation": True,
        "privacy.accountant": "rdp", "privacy.grid-steps": 4096, "training.sampling-rate": 1.0,
    },
    "local-dp-sgd/user": {"privacy.mode": "local-dp-sgd", "training.sampling-rate": 1.0},
    "local-dp-sgd/record": {
        "privacy.mode": "local-dp-sgd", "privacy.unit": "record", "training.sampling-rate": 1.0,
        "data.max-windows-per-user": "all", "privacy.private-training": "noised",
    },
    "laplace/user": {"privacy.mode": "laplace"},
}  # fmt: skip
LOCAL_SGD: Settings = {
    "privacy.record-sampling-rate": 0.2,
    "training.local-steps": 2,
    "training.local-learning-rate": 0.3,
}


def main() -> None:
    """Trains the missing cells, or shows the finished ones."""
    options = read_options(
        __doc__,
        *("dataset", "config", "set"),
        out={"type": Path, "required": True, "metavar": "JSONL"},
        plot={"type": Path, "metavar": "PNG-or-SVG", "help": "draw, do not train"},
        variants={"nargs": "+", "choices": VARIANTS, "default": list(VARIANTS)},
        epsilons={"nargs": "+", "type": float, "default": list(EPSILONS)},
        seeds={"nargs": "+", "type": int, "default": [0, 1, 2]},
        nodes={"type": int, "default": 4, "help": "silos that hold the users (4)"},
    )
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    rows = [json.loads(line) for line in lines]
    if options.plot:
        found = summary_of(rows)
        print_results(found)
        save_plot(found, options.plot)
        return
    if options.dataset is None:
        raise SystemExit("--dataset is needed for training")
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    base, done = read_settings(options.config, options.set), {Cell.of(row) for row in rows}
    # Seeds first: every curve is there early, and its intervals get narrower.
    for seed, variant, epsilon in product(options.seeds, options.variants, options.epsilons):
        cell = Cell(options.dataset.name, variant, epsilon, seed)
        if cell in done:
            continue
        row = train(cell, options.dataset, base, nodes=options.nodes)
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        told = " ".join(f"{m} {row[m]:.4f}" for m in MEASURES if row[m] is not None)
        print(f"{variant} epsilon {epsilon:g} seed {seed}: {told}", flush=True)


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    dataset: str
    variant: str
    epsilon: float
    seed: int

    @classmethod
    def of(cls, row: Settings) -> Cell:
        """The cell of a row of results."""
        return cls(row["dataset"], row["variant"], float(row["epsilon"]), row["seed"])


def train(cell: Cell, dataset: Path, base: Settings, *, nodes: int) -> Settings:
    """One run; its row of results."""
    epsilon = cell.epsilon
    settings: Settings = {
        **(LOCAL_SGD if cell.variant.startswith("local-dp-sgd") else {}),
        "server.num-server-rounds": 60,
        "privacy.delta": 1e-5,
        **base,
        **VARIANTS[cell.variant],
        "training.seed": cell.seed,
        "run.tensorboard": False,
        "run.checkpoint-every": 1_000_000,
    }
    settings["privacy.epsilon-budget"] = "off"  # the grid's epsilon, not the configuration's
    if math.isinf(epsilon):
        settings["privacy.mode"] = "none"
    else:
        settings["privacy.noise-multiplier"] = noise_for(epsilon, settings)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        config = {
            **settings, "data.dataset": dataset.name, "data.data-dir": str(dataset.absolute()),
            "data.home": home, "run.name": "cell", "server.expected-nodes": nodes,
        }  # fmt: skip
        grid = LocalGrid(client_app, nodes, config)
        server_app(grid=grid, context=Context(1, 0, {}, RecordDict(), config))
        run = Path(home) / "runs/cell"
        summary = json.loads((run / "summary.json").read_text())
        measures = measures_of_released(run)
        history = [e for e in read_history(run / "history.jsonl") if e["kind"] == "round"]
    ratios = [entry["privacy"]["signal_to_noise"] for entry in history if "privacy" in entry]
    return {
        "dataset": cell.dataset,
        "variant": cell.variant,
        "epsilon": epsilon if math.isfinite(epsilon) else "inf",
        "seed": cell.seed,
        **{m: measures.get(m) for m in MEASURES},
        "best_round": summary["best_round"],
        "rounds": summary["rounds"],
        "signal_to_noise": sum(ratios) / len(ratios) if ratios else None,
        "seconds": round(time.perf_counter() - began, 1),
        "settings": settings,
    }


def measures_of_released(run: Path) -> dict[str, float | None]:
    """Of the test, by the run's released model: exact, outside the guarantee, on data of ours."""
    best = load_best(find_run(str(run)))
    evaluation, sums = evaluation_of(best.config, private=False), CohortSums()
    for node in NodesAtHand(best).open_all():
        learner = CohortLearner(node.network, best.config)
        for cohort in node.cohorts(node.users, up_to_round=best.round):
            sums += evaluation.sums_of(learner.score_as_loaded(cohort, "test"))
    return evaluation.measures(sums)


def noise_for(epsilon: float, settings: Settings) -> float:
    """The least noise multiplier with which all rounds together cost at most ``epsilon``."""
    rounds, delta = int(settings["server.num-server-rounds"]), float(settings["privacy.delta"])
    mode = settings["privacy.mode"]
    if mode == "laplace":
        low, high = 0.0, rounds / epsilon  # the pure sum, which is never too little
        while high - low > 1e-3 * high:
            middle = 0.5 * (low + high)
            release = Release(middle, steps=rounds, mechanism="laplace")
            low, high = (low, middle) if epsilon_of([release], delta) <= epsilon else (middle, high)
        return high
    local = mode == "local-dp-sgd"
    wish = Plan(
        delta=delta,
        epsilon=epsilon,
        rounds=rounds,
        sampling_rate=float(
            settings["privacy.record-sampling-rate"]
            if local
            else settings.get("training.sampling-rate", 0.2)
        ),
        local_steps=int(settings["training.local-steps"]) if local else 1,
        accountant=settings.get("privacy.accountant", "prv"),
        item_noise=float(settings.get("privacy.item-noise", 2.0))
        if settings.get("network.item-statistics")
        else 0.0,
        grid_steps=int(settings.get("privacy.grid-steps", 0)),
    )
    return solve(wish).noise_multiplier


if __name__ == "__main__":
    main()
