"""Where the rows of items begin, before round 1 (``training.item-start``).

What is drawn tells nothing. The catalogue is public, and items that it says alike can begin alike:
that costs no privacy and no round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mrff.config import ConfigError
from mrff.data.dataset import Catalogue

Rows = NDArray[np.float32]


def _drawn(rows: Rows, catalogue: Catalogue, scale: float) -> Rows:
    """As they are."""
    return rows


def _described(rows: Rows, catalogue: Catalogue, scale: float) -> Rows:
    """The principal components of what the catalogue says of items, each of deviation ``scale``.

    Columns that the catalogue is too poor for stay as they were drawn.

    Raises:
        ConfigError: it says nothing of items but their id.
    """
    features = [f for f in catalogue.schema.item_features if f.kind != "id"]
    if not features:
        raise ConfigError(
            f"training.item-start=catalogue: items of {catalogue.schema.name} have an id and "
            "nothing else; use training.item-start=random"
        )
    told = sparse.hstack([_shares(catalogue.item_codes[f.name], f.size) for f in features]).tocsr()
    columns = min(rows.shape[1], min(told.shape) - 1)
    found = rows.copy()
    if columns < 1:
        return found
    from sklearn.decomposition import PCA  # takes a second, and few runs need it

    parts = PCA(columns, svd_solver="arpack", random_state=0).fit_transform(told)
    deviations = parts.std(axis=0)
    kept = deviations > 1e-6 * max(deviations.max(), 1e-12)
    found[1:, np.flatnonzero(kept)] = scale * parts[:, kept] / deviations[kept]
    return found


def _shares(codes: NDArray[np.int32], size: int) -> sparse.csr_matrix:
    """(items, size): 1 for an item's value; several values share it, none is nothing."""
    codes = codes[1:].reshape(len(codes) - 1, -1)
    items, places = np.nonzero(codes)
    share = 1.0 / np.maximum((codes > 0).sum(axis=1), 1)
    return sparse.csr_matrix((share[items], (items, codes[items, places])), (len(codes), size))


ITEM_STARTS: Mapping[str, Callable[[Rows, Catalogue, float], Rows]] = {
    "random": _drawn,
    "catalogue": _described,
}
"""Of the table of items' own rows (items + 1, F), drawn already; row 0 is padding."""
