"""What do the user's own rates cost, sorted and written out?

Both sides count the same for B users, every target by the history up to it: as differences of
running sums in sorted order (`mrff_model.own_rates`, with all that it makes of the counts), and by
comparing every target with every history item:

    python benchmarks/own_rates_speed.py

CPU milliseconds of one feature with 300 codes, medians; the two take turns.
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import torch
from measuring import read_options, show, take_turns
from torch import Tensor

from mrff_model.own_rates import own_rates


def main() -> None:
    """Prints both sides and their ratio for three shapes of a chunk of 8,192 positions."""
    options = read_options(__doc__, repeats=15)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for users, windows, length in ((126, 1, 65), (64, 1, 128), (32, 2, 128)):
        shape, each = (users, windows, length), torch.arange(length)
        history, targets = (torch.randint(0, 300, shape, generator=generator) for _ in range(2))
        feedback = torch.randint(0, 3, shape, generator=generator)
        sides = {
            "written out": partial(written_out, feedback, history, targets),
            "sorted": partial(own_rates, feedback, {"f": history}, {"f": targets}, until=each),
            "alone": partial(own_rates, feedback, {}, {}, until=each),  # what is no feature's
        }
        found = take_turns(sides, options.repeats, clock=time.process_time)
        expected, rates, alone = (side.result for side in found.values())
        assert torch.equal(rates[..., 5], 0.25 * expected[..., 0].log1p())
        assert torch.equal(rates[..., :4], alone)
        pairs = zip(found["sorted"].taken, found["alone"].taken, strict=True)
        feature = statistics.median(both - without for both, without in pairs)
        slow = found["written out"].median
        rows.append(
            {
                "users x windows x length": "x".join(map(str, shape)),
                "written out": 1e3 * slow, "sorted": 1e3 * feature, "ratio": slow / feature,
            }
        )  # fmt: skip
    show(rows)


def written_out(feedback: Tensor, history: Tensor, targets: Tensor) -> Tensor:
    """(B, W, L, 2): seen and liked at the history's positions 0..t with the code of target t."""
    counted = torch.stack([(feedback > 0).float(), (feedback == 2).float()], dim=-1)
    wanted = torch.where(targets > 0, targets, -1)
    alike = (wanted.unsqueeze(-1) == history.unsqueeze(-2)).float()
    return alike.tril() @ counted


if __name__ == "__main__":
    main()
