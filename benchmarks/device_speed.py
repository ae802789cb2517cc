"""How fast is a training round on a node's GPU, against the same round on its CPU?

Both sides train the same users from the same start with the cohort learner, take turns in one
process, and must give the same result:

    python benchmarks/device_speed.py --dataset ~/.mrff/data/kuaisar-r

Settings as in `round_speed.py`. Times are medians and include the copies to the GPU and back.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from measuring import read_options, show, take_turns
from population import POPULATION, chosen_population
from round_speed import largest_difference, train_round


def main() -> None:
    """Prints a table of both sides and their ratio."""
    threads = torch.get_num_threads()
    options = read_options(__doc__, *POPULATION, threads=threads, repeats=5)
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU here: there is nothing to compare")
    torch.set_num_threads(options.threads)

    on_cpu = chosen_population(options)
    on_gpu = replace(on_cpu, network=deepcopy(on_cpu.network).to("cuda"))
    sides = {
        "cpu": partial(train_round, on_cpu, "cohort"),
        "gpu": partial(train_round, on_gpu, "cohort"),
    }
    take_turns(sides, 1)  # warms up
    cpu, gpu = take_turns(sides, options.repeats).values()
    show(
        [
            {
                "users": len(on_cpu.cohort.users),
                "threads": options.threads,
                "gpu": torch.cuda.get_device_name(),
                "cpu_seconds": cpu.median,
                "gpu_seconds": gpu.median,
                "ratio": cpu.median / gpu.median,
                "gpu_memory_mb": torch.cuda.max_memory_allocated() / 2**20,
                "largest_difference": largest_difference(cpu.result, gpu.result),
                "same_routes": int((cpu.result.routes == gpu.result.routes).all()),
            }
        ]
    )


if __name__ == "__main__":
    main()
