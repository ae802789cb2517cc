"""What limits a round on a CPU: operations, bytes and seconds of the network's parts.

    python benchmarks/roofline.py --dataset ~/.mrff/data/kuaisar-r
    python benchmarks/roofline.py --dataset ~/.mrff/data/kuaisar-r --set local-steps=5 --users 600
    python benchmarks/roofline.py --dataset ~/.mrff/data/ml-1m --config conf/ml-1m-next.toml \
        --phase validation

One round of the cohort learner, forward and backward, or everybody's held-out items scored (ranked,
where the next item is learned): every PyTorch operation is timed and given to the module that
called it. Operations are those of matrix products; bytes are what they read and write (views are
free). `bound` is the least time that the machine needs for either: operations at the rate of a
large product, bytes at the rate of a large copy. Timing each operation costs time of its own, so
that seconds add up to more than a round takes (`round_speed.py`).
"""

from __future__ import annotations

import time
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from measuring import read_options, take_turns
from population import POPULATION, Population, chosen_population
from round_speed import matmul_rate, train_round
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from client_app.learners.cohort import CohortLearner

PARTS = {  # the first that a module's name contains
    "attention": "attention",
    "experts": "experts",
    "gate": "gate",
    "own": "user network",
    "features": "embeddings",
    "head": "head",
    "norm": "norms",
}
OTHER = "inputs, loss, the rest"
PHASES: dict[str, Callable[[Population], Any]] = {
    "training": lambda population: train_round(population, "cohort"),
    "validation": lambda population: CohortLearner(population.network, population.config).score(
        population.model, population.cohort, "valid"
    ),
}


def main() -> None:
    """Prints a row per part, and one for all of it."""
    options = read_options(
        __doc__, *POPULATION, phase={"default": "training", "choices": sorted(PHASES)}
    )
    torch.set_num_threads(1)  # operations are seen on this thread alone
    population, phase = chosen_population(options), PHASES[options.phase]
    phase(population)  # the first one is not counted
    began = time.perf_counter()
    phase(population)
    seconds = time.perf_counter() - began
    counted = Counted()
    with counted, counted.tracker:
        phase(population)
    flops, copied = matmul_rate(), copy_rate()
    print(f"matrix products {flops / 1e9:.0f} GFLOP/s, copies {copied / 1e9:.1f} GB/s")
    print(f"{options.phase} takes {seconds:.2f} s; with every operation timed:")
    print("| part | calls | GFLOP | GB | FLOP a byte | s | bound, s | share of it |")
    print("|---|---|---|---|---|---|---|---|")
    total = Costs()
    for part, costs in sorted(counted.parts.items(), key=lambda each: -each[1].seconds):
        print(costs.row(part, flops, copied))
        total += costs
    print(total.row("all", flops, copied))
    steps = len(population.cohort.users)
    if options.phase == "training":
        steps *= population.config.training.local_steps
    mflop, mbytes = total.flops / steps / 1e6, total.bytes / steps / 1e6
    print(f"a user's step: {mflop:.1f} MFLOP, {mbytes:.1f} MB, {total.calls / steps:.1f} calls")


@dataclass
class Costs:
    """Of some operations."""

    calls: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Costs) -> Costs:
        """Of both."""
        return Costs(
            self.calls + other.calls,
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.seconds + other.seconds,
        )

    def row(self, part: str, flops: float, copied: float) -> str:
        """A line of the table; the rates are of the machine, a second."""
        bound = max(self.flops / flops, self.bytes / copied)
        cells = [
            part,
            f"{self.calls:,}",
            f"{self.flops / 1e9:.2f}",
            f"{self.bytes / 1e9:.2f}",
            f"{self.flops / max(self.bytes, 1.0):.1f}",
            f"{self.seconds:.3f}",
            f"{bound:.3f}",
            f"{bound / max(self.seconds, 1e-9):.0%}",
        ]
        return f"| {' | '.join(cells)} |"


class Counted(TorchDispatchMode):
    """Counts operations by the part of the network that is at work, backward as well."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker, self.parts = ModuleTracker(), defaultdict[str, Costs](Costs)
        self.marks: list[tuple[int, str]] = []  # parts by their first step of the graph

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Times one operation."""
        kwargs = dict(kwargs or {})
        began = time.perf_counter()
        out = func(*args, **kwargs)
        costs = Costs(1, 0.0, 0.0, time.perf_counter() - began)
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
            costs.bytes = float(sum(t.numel() * t.element_size() for t in tensors))
        if counter := flop_registry.get(func._overloadpacket):
            costs.flops = float(counter(*args, **kwargs, out_val=out))
        self.parts[self._part()] += costs
        return out

    def _part(self) -> str:
        """Of the innermost module at work; backward, of the one that was at the step undone."""
        node = torch._C._current_autograd_node()  # None: forward
        if node is not None:
            place = bisect(self.marks, (node._sequence_nr(), "~")) - 1
            return self.marks[place][1] if place >= 0 else OTHER
        at_work = max(self.tracker.parents, key=len, default="")
        part = next((part for key, part in PARTS.items() if key in at_work), OTHER)
        step = (
            torch._C._autograd._get_sequence_nr() - 1
        )  # an operation's own is there before it runs
        if not self.marks or self.marks[-1][1] != part:
            self.marks.append((step, part))
        return part


def copy_rate(size: int = 2**26, repeats: int = 5) -> float:
    """Bytes a second that this machine reads and writes in a large copy."""
    there, here = torch.empty(size), torch.ones(size)
    copy: Callable[[], Tensor] = lambda: there.copy_(here)  # noqa: E731
    return 2.0 * 4 * size / take_turns({0: copy}, repeats)[0].median


if __name__ == "__main__":
    main()
