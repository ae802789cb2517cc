"""Amazon Reviews 2023, Electronics: a small sample of ratings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mrff.data.encoding import Rows, item_id_feature, natural_order, prepared
from mrff.data.recipes.recipe import FilesRecipe
from mrff.data.tables import Layout, read_table
from mrff.data.writing import Entities, Prepared


class AmazonElectronics(FilesRecipe):
    """Label rating = 5; a product is its id. Of repeated ratings of a product the first is kept."""

    name = "amazon-electronics"
    version = 1
    summary = "Amazon Reviews 2023, Electronics sample: 16,841 users, 8,663 items, 31,286 ratings"
    files = ("interactions.parquet",)

    def read(self, paths: Sequence[Path]) -> Prepared:
        """A rating per row."""
        columns = ["user_id", "parent_asin", "rating", "timestamp"]
        ratings = read_table(paths[0], columns, layout=Layout())
        products = ratings.text("parent_asin")
        names = natural_order(products.unique())
        labels = (ratings.numbers("rating") == 5).astype(np.int8)
        rows = Rows(
            ratings.text("user_id"), products, labels, ratings.times("timestamp"), repeats="first"
        )
        items = Entities(names, [item_id_feature(len(names))])
        return prepared(self.name, "rating = 5", items, rows)
