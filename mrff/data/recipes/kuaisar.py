"""KuaiSAR-R: the short-video impressions published with the MRFF paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrff.data.encoding import Rows, categorical, sorted_users, with_user_features
from mrff.data.recipes.recipe import Progress, Recipe, files_in, fingerprint, needed, no_options
from mrff.data.tables import Layout, read_table
from mrff.data.writing import Catalogue, Prepared

FILES = ("interactions.csv", "video_features.csv", "user_features.csv")
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


class KuaiSAR(Recipe):
    """Label is_click; a video is its six category codes, as in the paper (no video id).

    Every row is an impression, so a video shown twice to a user counts twice.
    """

    name = "kuaisar-r"
    version = 1
    summary = "KuaiSAR-R: 1,791 users, 69,704 short videos, 117,590 impressions"
    default_source = ""

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The checksums of the three files."""
        no_options(self, options)
        return fingerprint(files_in(needed(self, source), FILES))

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Reads ``interactions.csv``, ``video_features.csv``, ``user_features.csv`` (or .gz)."""
        progress(f"reading {self.name}", 0, None)
        interactions, videos, users = (
            read_table(path, layout=Layout()) for path in files_in(needed(self, source), FILES)
        )
        encoded = {name: categorical(name, videos.text(name)) for name in VIDEO_FEATURES}
        catalogue = Catalogue(
            ids=videos.distinct("video_id").to_pylist(),
            features=tuple(feature for feature, _ in encoded.values()),
            codes={name: codes for name, (_, codes) in encoded.items()},
        )
        rows = Rows(
            interactions.text("user_id"),
            interactions.text("video_id"),
            interactions.binary("is_click"),
            interactions.times("timestamp"),
        )
        dropped: dict[str, int] = {}
        chunk = sorted_users(rows, catalogue, repeats="keep", dropped=dropped)
        encoded_users = [
            categorical(name, users.text(name), values=[str(code) for code in range(count)])
            for name, count in USER_CODES.items()
        ]
        user_features = with_user_features(chunk, users.distinct("user_id"), encoded_users)
        return Prepared(
            name=self.name,
            label_rule="is_click = 1",
            catalogue=catalogue,
            user_features=user_features,
            chunks=[chunk],
            dropped=dropped,
        )


KUAISAR = KuaiSAR()
