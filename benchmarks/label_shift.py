"""One dataset as two domains with label shift: in one of them people like less of the same things.

    python benchmarks/label_shift.py --dataset ~/.mrff/data/ml-100k --out /tmp/ml-100k-shift
    python benchmarks/domains.py --dataset /tmp/ml-100k-shift --config conf/ml-100k.toml \
        --methods one-group mrff ifca fedper --home /tmp/shift

Half of the users, by key, keep all their rows; the other half loses most rows that were liked,
drawn at random. So P(label) differs and P(item | label) does not (Lipton, Wang and Smola, 2018:
"Detecting and correcting for label shift with black box predictors"). Both use one catalogue and
one item table; nothing but users' ids, which no network reads, says who is where.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from cold_users import write_changed
from measuring import read_options

from mrff.data.dataset import Dataset, load_dataset, load_times, take_users
from mrff.data.windows import is_chosen

DOMAINS = ("as-they-are", "few-liked")


def main() -> None:
    """Writes the folder and prints what is in it."""
    options = read_options(
        __doc__,
        dataset={"type": Path, "required": True, "help": "a prepared folder"},
        out={"type": Path, "required": True, "help": "a new folder"},
        keep={"type": float, "default": 0.3, "help": "share of liked rows that are kept"},
        seed=0,
    )
    if options.out.exists():
        raise SystemExit(f"{options.out} is there already; name a new folder")
    write_shifted(options.dataset.expanduser(), options.out, keep=options.keep, seed=options.seed)
    shifted = load_dataset(options.out)
    owners = np.repeat(np.arange(shifted.num_users), np.diff(shifted.offsets))
    for name in DOMAINS:
        of = np.char.startswith(shifted.user_ids.astype(str), f"{name}/")
        rows = shifted.labels[of[owners]]
        print(f"{name}: {of.sum()} users, {len(rows)} rows, {rows.mean():.3f} liked")


def write_shifted(folder: Path, out: Path, *, keep: float, seed: int) -> None:
    """A prepared folder of two domains; users who have no row left are left out."""
    dataset, times = load_dataset(folder), load_times(folder)
    few = is_chosen(dataset.user_keys, 0.5)
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
    drawn = np.random.default_rng(seed).random(len(owners)) < keep
    rows = np.flatnonzero(~few[owners] | (dataset.labels == 0) | drawn)
    sizes = np.bincount(owners[rows], minlength=dataset.num_users)
    left = named(dataset.with_rows(rows, np.concatenate([[0], np.cumsum(sizes)])), few)
    there = take_users(left, np.flatnonzero(sizes))
    renamed = replace(there, schema=replace(there.schema, name=out.name))
    write_changed(folder, renamed, times[rows], out)


def named(dataset: Dataset, few: np.ndarray) -> Dataset:
    """The same users, their ids after the domain's name."""
    ids = [f"{DOMAINS[int(f)]}/{name}" for name, f in zip(dataset.user_ids, few, strict=True)]
    return replace(dataset, user_ids=np.array(ids, dtype=object))


if __name__ == "__main__":
    main()
