"""Short-video impressions: KuaiSAR-R, published with the MRFF paper, and part of KuaiRand-27K."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrff.data import encoding
from mrff.data.recipes.recipe import FilesRecipe
from mrff.data.tables import Layout, read_table
from mrff.data.writing import Entities, Prepared

VIDEO_FEATURES = (
    "item_type",
    "upload_type",
    "first_level_category_name",
    "second_level_category_name",
    "third_level_category_name",
    "fourth_level_category_name",
)
USER_CODES = {  # feature: number of its codes, from the dataset's description
    "onehot_feat1": 8,
    "onehot_feat2": 3,
    "search_active_level": 7,
    "reco_active_level": 4,
}
DURATION_EDGES = (  # ms; below 1: no duration is known
    1, 5_000, 7_000, 9_000, 12_000, 16_000, 22_000, 32_000, 50_000, 80_000, 130_000, 240_000,
)  # fmt: skip


class KuaiSAR(FilesRecipe):
    """Label is_click; a video is its six category codes, as in the paper (no video id).

    Every row is an impression, so a video shown twice to a user counts twice.
    """

    name = "kuaisar-r"
    version = 1
    summary = "KuaiSAR-R: 1,791 users, 69,704 short videos, 117,590 impressions"
    files = ("interactions.csv", "video_features.csv", "user_features.csv")

    def read(self, paths: Sequence[Path]) -> Prepared:
        """Impressions, videos and users, each a file."""
        impressions, videos, users = (read_table(path, layout=Layout()) for path in paths)
        items = Entities(
            videos.distinct("video_id").to_pylist(),
            [encoding.categorical(name, videos.text(name)) for name in VIDEO_FEATURES],
        )
        rows = encoding.Rows(
            impressions.text("user_id"),
            impressions.text("video_id"),
            impressions.binary("is_click"),
            impressions.times("timestamp"),
        )
        encoded = [
            encoding.categorical(name, users.text(name), values=list(map(str, range(count))))
            for name, count in USER_CODES.items()
        ]
        known = Entities(users.distinct("user_id").to_pylist(), encoded)
        return encoding.prepared(self.name, "is_click = 1", items, rows, known)


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
        names = encoding.natural_order(videos.unique())
        durations = log.numbers("duration_ms")[encoding.first_rows(videos, names)]
        duration = encoding.bucket("duration", durations, DURATION_EDGES)
        items = Entities(names, [encoding.item_id_feature(len(names)), duration])
        labels, times = log.binary("is_click"), log.times("time_ms")
        rows = encoding.Rows(log.text("user_id"), videos, labels, times, repeats="exact")
        return encoding.prepared(self.name, "is_click = 1", items, rows)
