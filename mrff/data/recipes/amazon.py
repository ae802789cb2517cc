"""Amazon Reviews 2023, Electronics: a small sample of ratings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mrff.data.encoding import Rows, item_id_feature, natural_order, sorted_users
from mrff.data.recipes.recipe import Progress, Recipe, fingerprint, needed, no_options, one_file
from mrff.data.tables import Layout, read_table
from mrff.data.writing import Catalogue, Prepared

FILE = "interactions.parquet"


class AmazonElectronics(Recipe):
    """Label rating = 5; a product is its id. Of repeated ratings of a product the first is kept."""

    name = "amazon-electronics"
    version = 1
    summary = "Amazon Reviews 2023, Electronics sample: 16,841 users, 8,663 items, 31,286 ratings"
    default_source = ""

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The checksum of the parquet file."""
        no_options(self, options)
        return fingerprint([one_file(needed(self, source), FILE)])

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Reads ``interactions.parquet``."""
        progress(f"reading {self.name}", 0, None)
        ratings = read_table(
            one_file(needed(self, source), FILE),
            ["user_id", "parent_asin", "rating", "timestamp"],
            layout=Layout(),
        )
        products = ratings.text("parent_asin")
        names = natural_order(products.unique())
        id_feature, id_codes = item_id_feature(len(names))
        catalogue = Catalogue(ids=names, features=(id_feature,), codes={"item": id_codes})
        labels = (ratings.numbers("rating") == 5).astype(np.int8)
        rows = Rows(ratings.text("user_id"), products, labels, ratings.times("timestamp"))
        dropped: dict[str, int] = {}
        chunk = sorted_users(rows, catalogue, repeats="first", dropped=dropped)
        return Prepared(
            name=self.name,
            label_rule="rating = 5",
            catalogue=catalogue,
            user_features=(),
            chunks=[chunk],
            dropped=dropped,
        )


AMAZON_ELECTRONICS = AmazonElectronics()
