"""KuaiRand-27K: a 15-core slice of short-video impressions with explicit feedback."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrff.data.encoding import (
    Rows,
    bucket,
    first_rows,
    item_id_feature,
    natural_order,
    sorted_users,
)
from mrff.data.recipes.recipe import Progress, Recipe, fingerprint, needed, no_options, one_file
from mrff.data.tables import Layout, read_table
from mrff.data.writing import Catalogue, Prepared

FILE = "processed_standard_kcore_15.csv"
DURATION_EDGES = (  # ms; below 1: no duration is known
    1, 5_000, 7_000, 9_000, 12_000, 16_000, 22_000, 32_000, 50_000, 80_000, 130_000, 240_000,
)  # fmt: skip


class KuaiRand(Recipe):
    """Label is_click; a video is its id and its duration.

    The log's other columns (play time, comment time, likes, ...) come into being after the
    impression and would give the label away. Exact copies of a row are dropped; a video shown
    again later is an impression of its own.
    """

    name = "kuairand"
    version = 1
    summary = "KuaiRand-27K, 15-core: 664 users, 9,359 short videos, 41,828 impressions"
    default_source = ""

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The checksum of the log."""
        no_options(self, options)
        return fingerprint([one_file(needed(self, source), FILE)])

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Reads the log: tab separated, although its name ends in .csv."""
        progress(f"reading {self.name}", 0, None)
        log = read_table(
            one_file(needed(self, source), FILE),
            ["user_id", "video_id", "time_ms", "is_click", "duration_ms"],
            layout=Layout(separator="\t"),
        )
        videos = log.text("video_id")
        names = natural_order(videos.unique())
        first = first_rows(videos, names)
        id_feature, id_codes = item_id_feature(len(names))
        duration, duration_codes = bucket(
            "duration", log.numbers("duration_ms")[first], DURATION_EDGES
        )
        catalogue = Catalogue(
            ids=names,
            features=(id_feature, duration),
            codes={"item": id_codes, "duration": duration_codes},
        )
        rows = Rows(log.text("user_id"), videos, log.binary("is_click"), log.times("time_ms"))
        dropped: dict[str, int] = {}
        chunk = sorted_users(rows, catalogue, repeats="exact", dropped=dropped)
        return Prepared(
            name=self.name,
            label_rule="is_click = 1",
            catalogue=catalogue,
            user_features=(),
            chunks=[chunk],
            dropped=dropped,
        )


KUAIRAND = KuaiRand()
