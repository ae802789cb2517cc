"""What does it cost a node to read the private parameters of the users it trains?

Both sides are the same users in segments of 256: those of earlier releases, with one checksum of
all of a segment, and today's, with one of each version. A round trains a tenth of the users, who
are spread over the segments:

    python benchmarks/store_speed.py --users 860 --numbers 119926

The defaults are half of kuaisar-r with a whole network per user (`local-only`). CPU seconds,
medians; the two take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from benchmark_table import print_table

from client_app.private_store import SEGMENT_USERS, PrivateStore


def main() -> None:
    """Prints both sides and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=860)
    parser.add_argument("--numbers", type=int, default=119_926, help="of each user")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    keys = np.unique(random.integers(0, 2**63, arguments.users, dtype=np.uint64))
    values = torch.from_numpy(random.random((len(keys), arguments.numbers), dtype=np.float32))
    with tempfile.TemporaryDirectory() as temporary:
        today, earlier = Path(temporary) / "today", Path(temporary) / "earlier"
        PrivateStore(today).save(
            keys, {"own": values}, np.zeros((len(keys), 2), dtype=np.int64),
            round_number=1, checkpoint_round=0, best_round=0,
        )  # fmt: skip
        write_earlier(earlier, keys, values)
        rows = []
        for share in (0.1, 1.0):
            some = np.sort(random.choice(keys, max(1, round(share * len(keys))), replace=False))
            taken: dict[str, list[float]] = {"earlier": [], "today": []}
            for _ in range(arguments.repeats):
                for name, folder in (("earlier", earlier), ("today", today)):
                    began = time.process_time()
                    found, _ = PrivateStore(folder).load(
                        some, up_to_round=1, initial={"own": values[:1]}, num_layers=2
                    )
                    taken[name].append(time.process_time() - began)
                    assert torch.equal(found["own"], values[np.isin(keys, some)])
            seconds = {name: statistics.median(times) for name, times in taken.items()}
            rows.append(
                {"users read": len(some), **seconds, "ratio": seconds["earlier"] / seconds["today"]}
            )
    print_table(rows)


def write_earlier(folder: Path, keys: np.ndarray, values: torch.Tensor) -> None:
    """The segments of an earlier release."""
    folder.mkdir()
    for first in range(0, len(keys), SEGMENT_USERS):
        part = slice(first, first + SEGMENT_USERS)
        count = len(keys[part])
        tensors = {
            "user-keys": torch.from_numpy(keys[part].view(np.int64)),
            "rounds": torch.ones(count, dtype=torch.int64),
            "epochs": torch.zeros(count, dtype=torch.int64),
            "routes": torch.zeros((count, 2), dtype=torch.int64),
            "own": values[part].contiguous(),
        }
        digest = blake2b(digest_size=16)
        for name in sorted(tensors):
            digest.update(name.encode())
            digest.update(tensors[name].numpy().tobytes())
        content = safetensors.torch.save(tensors, metadata={"checksum": digest.hexdigest()})
        (folder / f"round-{1:08d}-{first:08d}.safetensors").write_bytes(content)


if __name__ == "__main__":
    main()
