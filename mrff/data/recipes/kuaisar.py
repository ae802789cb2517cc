"""KuaiSAR-R: the short-video impressions published with the MRFF paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrff.data.encoding import Rows, UserTable, categorical, prepared
from mrff.data.recipes.recipe import FilesRecipe
from mrff.data.tables import Layout, read_table
from mrff.data.writing import Items, Prepared

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
        items = Items(
            videos.distinct("video_id").to_pylist(),
            [categorical(name, videos.text(name)) for name in VIDEO_FEATURES],
        )
        rows = Rows(
            impressions.text("user_id"),
            impressions.text("video_id"),
            impressions.binary("is_click"),
            impressions.times("timestamp"),
        )
        encoded = [
            categorical(name, users.text(name), values=[str(code) for code in range(count)])
            for name, count in USER_CODES.items()
        ]
        known = UserTable(users.distinct("user_id"), encoded)
        return prepared(self.name, "is_click = 1", items, rows, known)
