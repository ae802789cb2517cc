"""What a run sums over all users before its first round, for the inputs of the head.

Two queries' worth of `mrff_model.item_statistics`: how often items are met and liked, then, some
times over, the moments that item vectors are solved from. In private modes the first alone, noised.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrff.linear import item_factors
from mrff.metrics.lists import ITEM_COUNTS
from mrff.privacy.mechanisms.base import ServerHalf
from mrff.privacy.noised_items import NoisyItems
from mrff.sums import CohortSums, Expected, Quantity, require
from mrff.wire.aggregation import RoundFailedError
from mrff.wire.requests import FACTOR_SUMS, ITEM_LIKES, ITEM_RATES, SQUARES, USERS, Arrays
from mrff_model.item_statistics import ITEM_RIDGE
from strategies.queries import Asking


def statistics(
    query: Asking, mechanism: ServerHalf, shared: Mapping[str, np.ndarray], seed: int
) -> Arrays:
    """The fixed arrays of ``shared`` by their names, as all nodes' users make them.

    Args:
        query: asks everybody, see `strategies.queries.Query`.
        mechanism: says whether sums are noised.
        seed: of the vectors to begin with.

    Raises:
        BudgetExceededError: the privacy budget does not allow it.
    """
    rates = next(array for name, array in shared.items() if name.endswith("statistics.rates"))
    items = len(rates) - 1
    noisy = mechanism.noisy_items
    found = _noised(query, mechanism, noisy, items) if noisy else _exact(query, items)
    dims = [array.shape[1] for name, array in shared.items() if name.endswith("statistics.vectors")]
    if dims:
        found["vectors"], found["prior"][1] = _vectors(query, found, dims[0], seed)
    return {name: found[name.rpartition(".")[2]].astype(np.float32) for name in shared}


def _noised(query: Asking, mechanism: ServerHalf, noisy: NoisyItems, items: int) -> Arrays:
    mechanism.spend_items()
    sums = query(ITEM_RATES, {}, noisy.expected(items), noisy.check)
    rates, liked, noise = noisy.measured(mechanism.release_items(sums))
    rates = np.pad(rates, ((1, 0), (0, 0)))  # item 0 is none
    return {"rates": rates, "prior": np.array([liked, 0.25]), "noise": noise}


def _exact(query: Asking, items: int) -> Arrays:
    counted = {name: Quantity((items,), whole=True) for name in (ITEM_COUNTS, ITEM_LIKES)}
    sums = query(ITEM_RATES, {}, Expected(numbers=counted), check_item_rates).numbers
    found = {"rates": np.zeros((items + 1, 2)), "prior": np.array([0.5, 0.25])}
    found["rates"][1:] = np.stack([sums[ITEM_COUNTS], sums[ITEM_LIKES]], axis=1)
    total, liked = found["rates"].sum(axis=0)
    found["prior"][0] = (liked + 0.5) / (total + 1.0)
    return found


def check_item_rates(sums: CohortSums) -> None:
    """Nobody likes what they have not met."""
    require(
        bool((sums.numbers[ITEM_LIKES] <= sums.numbers[ITEM_COUNTS]).all()),
        "an item was liked more often than met",
    )


def check_moments(sums: CohortSums) -> None:
    """Squares are nothing below 0."""
    for name in (item_factors.SECOND, item_factors.SPREAD):
        squares = item_factors.squares(sums.updates[name])
        require(not (squares < 0).any(), f"array {name} holds squares below 0")


def _vectors(query: Asking, found: Arrays, dim: int, seed: int) -> tuple[np.ndarray, float]:
    """(items + 1, d), and the mean square of residuals."""
    items = len(found["rates"]) - 1
    vectors, noise = item_factors.first_vectors(items, dim, seed), 0.0
    numbers = {SQUARES: Quantity(), USERS: Quantity(whole=True)}
    expected = Expected(updates=item_factors.shapes(items, dim), numbers=numbers)
    for step in range(item_factors.STEPS):
        came = {
            "rates": found["rates"],
            "prior": np.array([found["prior"][0], noise or found["prior"][1]]),
            "vectors": vectors,
        }
        asked = {name: values.astype(np.float32) for name, values in came.items()}
        sums = query.of_step(step + 1)(FACTOR_SUMS, asked, expected, check_moments)
        rows = float(found["rates"][:, 0].sum())
        noise = max(float(sums.numbers[SQUARES]) / max(rows, 1.0), 1e-4)
        try:
            vectors = item_factors.solved(sums.updates, int(sums.numbers[USERS]), ITEM_RIDGE)
        except np.linalg.LinAlgError as error:
            raise RoundFailedError(
                f"item vectors, step {step + 1}: the nodes' sums are no moments of anybody's taste "
                f"({error}); leave out the node that sent them, or set "
                "network.closed-form-factors=off"
            ) from error
    return vectors, noise
