"""KuaiRand-27K: a 15-core slice of short-video impressions with explicit feedback."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrff.data.encoding import Rows, bucket, first_rows, item_id_feature, natural_order, prepared
from mrff.data.recipes.recipe import FilesRecipe
from mrff.data.tables import Layout, read_table
from mrff.data.writing import Items, Prepared

DURATION_EDGES = (  # ms; below 1: no duration is known
    1, 5_000, 7_000, 9_000, 12_000, 16_000, 22_000, 32_000, 50_000, 80_000, 130_000, 240_000,
)  # fmt: skip


class KuaiRand(FilesRecipe):
    """Label is_click; a video is its id and its duration.

    The log's other columns (play time, comment time, likes, ...) come into being after the
    impression and would give the label away. Exact copies of a row are dropped; a video shown
    again later is an impression of its own.
    """

    name = "kuairand"
    version = 1
    summary = "KuaiRand-27K, 15-core: 664 users, 9,359 short videos, 41,828 impressions"
    files = ("processed_standard_kcore_15.csv",)

    def read(self, paths: Sequence[Path]) -> Prepared:
        """The log: tab separated, although its name ends in .csv."""
        columns = ["user_id", "video_id", "time_ms", "is_click", "duration_ms"]
        log = read_table(paths[0], columns, layout=Layout(separator="\t"))
        videos = log.text("video_id")
        names = natural_order(videos.unique())
        durations = log.numbers("duration_ms")[first_rows(videos, names)]
        items = Items(
            names, [item_id_feature(len(names)), bucket("duration", durations, DURATION_EDGES)]
        )
        labels, times = log.binary("is_click"), log.times("time_ms")
        rows = Rows(log.text("user_id"), videos, labels, times, repeats="exact")
        return prepared(self.name, "is_click = 1", items, rows)
