"""Does `torch.compile` pay: a training round with the layers as they are, and with them compiled?

Both sides train the same users from the same start with the cohort learner and take turns in one
process; the first compiled round, which compiles, is timed apart:

    python benchmarks/compiled.py --dataset ~/.mrff/data/kuaisar-r --repeats 3

Dropout's masks stay outside: their 64-bit counters overflow what the compiler indexes by.
Settings as in `round_speed.py`; with ``--device cuda`` on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from measuring import read_options, show, take_turns
from population import POPULATION, chosen_population
from round_speed import largest_difference, train_round
from torch import Tensor

from client_app.learners import Trained
from mrff_model import block, dropout


def main() -> None:
    """Prints a table of both sides and their ratio."""
    options = read_options(
        __doc__, *POPULATION, threads=1, repeats=3,
        device={"default": "cpu", "choices": ("cpu", "cuda")},
    )  # fmt: skip
    torch.set_num_threads(options.threads)
    population = chosen_population(options)
    population = replace(population, network=population.network.to(options.device))

    torch._dynamo.config.recompile_limit = 64  # chunks of one user or one length are cases apart
    as_it_is = block.Block.forward
    dropout.dropout_factors = masks_as_one_operation()  # type: ignore[assignment]
    compiled = torch.compile(as_it_is, dynamic=True)

    def round_with(forward: object) -> Trained:
        block.Block.forward = forward  # type: ignore[method-assign, assignment]
        return train_round(population, "cohort")

    sides = {name: partial(round_with, f) for name, f in (("eager", as_it_is), ("it", compiled))}
    sides["eager"]()
    began = time.perf_counter()
    sides["it"]()
    first = time.perf_counter() - began
    eager, faster = take_turns(sides, options.repeats).values()
    row = {
        "users": len(population.cohort.users),
        "device": options.device,
        "first_compiled_seconds": first,
        "eager_seconds": eager.median,
        "compiled_seconds": faster.median,
        "ratio": eager.median / faster.median,
        "largest_difference": largest_difference(eager.result, faster.result),
    }
    show([row])


def masks_as_one_operation() -> Callable[[Tensor, torch.Size, int, int], Tensor]:
    """`dropout_factors` as an operation that the compiler does not look into."""
    computed = dropout.dropout_factors

    @torch.library.custom_op("benchmark::masks", mutates_args=())
    def masks(key: Tensor, shape: list[int], threshold: int, site: int) -> Tensor:
        return computed(key, torch.Size(shape), threshold, site).contiguous()

    @masks.register_fake
    def _(key: Tensor, shape: list[int], threshold: int, site: int) -> Tensor:
        return key.new_empty((len(key), *shape), dtype=torch.float32)

    return lambda key, shape, threshold, site: masks(key, list(shape), threshold, site)


if __name__ == "__main__":
    main()
