"""What does it cost a node to read and to write the private parameters of the users it trains?

Every round reads and writes all users. Two checkouts take turns; the ratio is the other's time
over this one's:

    git worktree add ../before COMMIT
    python benchmarks/store_speed.py --before ../before

The defaults are users of a small network. Half of kuaisar-r with a whole network per user
(`local-only`) is ``--users 860 --numbers 119926``. Medians of seconds and of CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import read_options, show

from client_app.private_store import PrivateStore

HERE = Path(__file__).resolve()


def main() -> None:
    """Prints both sides and their ratio."""
    options = read_options(
        __doc__,
        users={"nargs": "+", "default": [2000, 20000], "help": None},
        numbers={"type": int, "default": 1113, "help": "of each user"},
        repeats=7,
        before={"type": Path, "help": "another checkout"},
        folder={"type": Path, "help": "where the stores lie: the disk measured"},
        work={"metavar": "USERS", "type": int, "help": argparse.SUPPRESS},
    )
    torch.set_num_threads(1)
    if options.work:
        answer_rounds(options.folder, options.work, options.numbers)
        return
    checkouts = {"now": HERE.parent.parent}
    if options.before:
        checkouts["before"] = options.before.resolve()
    rows = []
    for users in options.users:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            workers = {
                name: start(checkout, Path(folder) / name, users, options.numbers)
                for name, checkout in checkouts.items()
            }
            rounds = [
                {name: ask(worker) for name, worker in workers.items()}
                for _ in range(options.repeats + 2)
            ][2:]  # the first two rounds fill the store
            for worker in workers.values():
                worker.communicate()
        for what in ("load", "save"):
            row: dict[str, object] = {"users": users, "": what}
            for measure in ("seconds", "CPU"):
                medians = {
                    name: statistics.median(r[name][f"{what} {measure}"] for r in rounds)
                    for name in checkouts
                }
                row |= {f"{name} {measure}": value for name, value in medians.items()}
                if "before" in medians:
                    row[f"ratio {measure}"] = medians["before"] / medians["now"]
            rows.append(row)
    show(rows)


def start(checkout: Path, folder: Path, users: int, numbers: int) -> subprocess.Popen[str]:
    """A process that works a round whenever it is asked, with the store of ``checkout``."""
    command = [
        sys.executable, str(HERE), "--work", str(users), "--folder", str(folder),
        "--numbers", str(numbers),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def ask(worker: subprocess.Popen[str]) -> dict[str, float]:
    """One round's measures."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("round\n")
    worker.stdin.flush()
    measures: dict[str, float] = json.loads(worker.stdout.readline())
    return measures


def answer_rounds(folder: Path, users: int, numbers: int) -> None:
    """A round for each line that comes in: save everybody, then read everybody."""
    random = np.random.default_rng(0)
    keys = np.unique(random.integers(0, 2**63, users, dtype=np.uint64))
    values = torch.from_numpy(random.random((len(keys), numbers), dtype=np.float32))
    routes = np.zeros((len(keys), 2), dtype=np.int64)
    for number, _ in enumerate(sys.stdin, start=1):
        measures = {}
        for what in ("save", "load"):
            store = PrivateStore(folder)
            began, began_cpu = time.perf_counter(), time.process_time()
            if what == "save":
                rounds = (number - number % 5, max(0, number - 2))
                store.save(
                    keys, {"own": values}, routes, round_number=number,
                    **kept_by(PrivateStore, rounds),
                )  # fmt: skip
            else:
                found, _ = store.load(
                    keys, up_to_round=number, initial={"own": values[:1]}, num_layers=2
                )
            measures[f"{what} seconds"] = time.perf_counter() - began
            measures[f"{what} CPU"] = time.process_time() - began_cpu
        assert torch.equal(found["own"], values)
        print(json.dumps(measures), flush=True)


def kept_by(store: type[PrivateStore], rounds: tuple[int, int]) -> dict[str, Any]:
    """The rounds of checkpoint and best model, as either checkout's store takes them."""
    if "keep_up_to" in signature(store.save).parameters:
        return {"keep_up_to": rounds}
    return dict(zip(("checkpoint_round", "best_round"), rounds, strict=True))


if __name__ == "__main__":
    main()
