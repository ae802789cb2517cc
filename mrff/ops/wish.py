"""Which items are asked for, and which of them may be on a list."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mrff.data.dataset import Dataset
from mrff.data.errors import DataError
from mrff.data.schema import Schema

USUAL_TOP = 10


@dataclass(frozen=True)
class Wish:
    """Which items are asked for.

    Args:
        top: how many; None: ten, or all where there are fewer.
        include_seen: items that the user has met as well; None: where the data's repeats mean
            something.
        only: values that an item's features must have, by feature.
    """

    top: int | None = None
    include_seen: bool | None = None
    only: Mapping[str, str] = field(default_factory=dict)

    def number(self, num_items: int) -> int:
        """How many of the items; DataError if there are not as many."""
        if self.top is None:
            return min(USUAL_TOP, num_items)
        if not 1 <= self.top <= num_items:
            raise DataError(
                f"top must be between 1 and {num_items} (the number of items), got {self.top}"
            )
        return self.top

    def leaves_out_met(self, schema: Schema) -> bool:
        """Whether items that a user has met are no answer."""
        return not (schema.repeats if self.include_seen is None else self.include_seen)


def items_that_fit(dataset: Dataset, wish: Wish) -> NDArray[np.bool_]:
    """(items,) of items 1, 2, ...: those that have all of the values asked for.

    Raises:
        DataError: there is no such feature or value.
    """
    fits = np.ones(dataset.schema.num_items + 1, dtype=bool)
    known = {f.name: f for f in dataset.schema.item_features if f.kind != "id"}
    for name, value in wish.only.items():
        feature = known.get(name)
        if feature is None:
            raise DataError(f"items have no feature {name!r}; known: {', '.join(known) or 'none'}")
        if value not in feature.values:
            near = difflib.get_close_matches(value, feature.values, n=3) or feature.values[:5]
            raise DataError(f"{name} has no value {value!r}; near it: {', '.join(near)}")
        codes = dataset.item_features[name].reshape(len(fits), -1)
        fits &= (codes == feature.values.index(value) + 1).any(axis=1)
    return fits[1:]


def nothing_left(dataset: Dataset, wish: Wish) -> str:
    """Why a user's list is empty, in one clause."""
    if wish.only:
        named = ", ".join(f"{name}={value}" for name, value in wish.only.items())
        return f"no item with {named} is left that the user has not met"
    return f"the user has met all {dataset.schema.num_items} items: there is nothing to recommend"
