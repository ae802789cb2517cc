"""The recipes with files of their own: tiny copies written here, and the real ones where present.

The real files are found through MRFF_SHARED_DATA, or beside the checkout in ``shared/data``.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrff.data.dataset import load_dataset
from mrff.data.errors import DataError
from mrff.data.floors import Floors, floors
from mrff.data.prepare import prepare
from tests.support.shared_data import shared_data


def kuaisar(folder: Path, *, clicks: str = "1") -> Path:
    folder.mkdir()
    (folder / "interactions.csv").write_text(
        "user_id,video_id,timestamp,is_click\n"
        f"1,7,200.0,{clicks}\n1,8,100.0,0\n1,7,200.0,0\n0,8,5.0,1\n1,9,1.0,1\n"
    )
    levels = ["first", "second", "third", "fourth"]
    header = ",".join(
        ["video_id", "item_type", "upload_type", *(f"{n}_level_category_name" for n in levels)]
    )
    content = f"{header}\n8,0,14,3,3,3,3\n7,1,2,3,3,3,3\n"
    (folder / "video_features.csv.gz").write_bytes(gzip.compress(content.encode()))
    (folder / "user_features.csv").write_text(
        "user_id,onehot_feat1,onehot_feat2,search_active_level,reco_active_level\n0,7,2,6,3\n"
    )
    return folder


def test_kuaisar(tmp_path: Path) -> None:
    """Video 9 is in no catalogue, user 1 has no features; equal times keep the file's order."""
    schema = prepare("kuaisar-r", source=kuaisar(tmp_path / "k"), out=tmp_path / "d")
    dataset = load_dataset(tmp_path / "d")
    assert dataset.user_ids.tolist() == ["0", "1"]
    assert dataset.items.tolist() == [1, 1, 2, 2]  # video 8 is in the first row of its file
    assert dataset.labels.tolist() == [1, 0, 1, 0]
    assert schema.counts["dropped"] == {"rows of items missing from the catalogue": 1}
    assert dataset.item_features["upload_type"].tolist() == [0, 2, 1]
    assert "item" not in dataset.item_features
    assert dataset.user_features["onehot_feat1"].tolist() == [8, 0]
    sizes = {feature.name: feature.size for feature in schema.user_features}
    assert sizes == {
        "onehot_feat1": 9,
        "onehot_feat2": 4,
        "search_active_level": 8,
        "reco_active_level": 5,
    }


def test_kuaisar_bad_files(tmp_path: Path) -> None:
    source = kuaisar(tmp_path / "k", clicks="2")
    with pytest.raises(DataError, match=r"interactions\.csv, row 1, column 'is_click': expected 0"):
        prepare("kuaisar-r", source=source, out=tmp_path / "d")
    with (source / "user_features.csv").open("a") as file:
        file.write("0,1,1,1,1\n")
    (source / "interactions.csv").write_text("user_id,video_id,timestamp,is_click\n0,7,1,1\n")
    with pytest.raises(DataError, match=r"user_features\.csv, row 2: user_id '0' was already in r"):
        prepare("kuaisar-r", source=source, out=tmp_path / "d")
    (source / "user_features.csv").write_text("user_id,a\n0,1\n")
    with pytest.raises(DataError, match="has no column 'onehot_feat1'; its columns are 'user_id'"):
        prepare("kuaisar-r", source=source, out=tmp_path / "d")
    (source / "user_features.csv").unlink()
    with pytest.raises(DataError, match=r"has no user_features\.csv \(nor user_features\.csv\.gz"):
        prepare("kuaisar-r", source=source, out=tmp_path / "d")


def test_kuairand(tmp_path: Path) -> None:
    """Tabs; an exact copy is dropped; what comes after the impression is not read."""
    path = tmp_path / "processed_standard_kcore_15.csv"
    path.write_text(
        "user_id\tvideo_id\ttime_ms\tis_click\tplay_time_ms\tduration_ms\n"
        "5\t9\t300\t1\t1\t6000\n5\t8\t100\t0\t2\t0\n5\t9\t300\t1\t3\t6000\n5\t9\t400\t1\t4\t6000\n"
    )
    schema = prepare("kuairand", source=tmp_path, out=tmp_path / "d")
    dataset = load_dataset(tmp_path / "d")
    assert dataset.items.tolist() == [1, 2, 2]
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.item_features["duration"].tolist() == [0, 1, 3]
    assert [feature.name for feature in schema.item_features] == ["item", "duration"]
    assert schema.counts["dropped"] == {"exact copies of a row": 1}


def test_ciaodvd(tmp_path: Path) -> None:
    """The first of two ratings of a film counts; trust is counted in both directions."""
    source = tmp_path / "c"
    source.mkdir()
    (source / "movie-ratings.txt").write_text(
        "3,20,17,1,5,2001-02-03\n3,4,1,2,4,2000-02-03\n3,20,17,3,1,2002-01-01\n4,4,1,4,5,2000-01-01\n"
    )
    trusts = "3,4,1\n3,99,1\n99,3,1\n98,3,1\n97,3,1\n"
    (source / "trusts.txt.gz").write_bytes(gzip.compress(trusts.encode()))
    schema = prepare("ciaodvd", source=source, out=tmp_path / "d")
    dataset = load_dataset(tmp_path / "d")
    assert dataset.items.tolist() == [1, 2, 1]
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.item_features["genre"].tolist() == [0, 1, 17]
    assert dataset.user_features["trusts"].tolist() == [3, 1]
    assert dataset.user_features["trusted_by"].tolist() == [4, 2]
    assert schema.item_features[1].values[16] == "Anime"
    assert schema.counts["dropped"] == {"repeated items, first kept": 1}


def test_amazon(tmp_path: Path) -> None:
    columns = {
        "user_id": ["u", "u", "v"],
        "parent_asin": ["B2", "B1", "B1"],
        "rating": [5.0, 4.0, 5.0],
        "timestamp": [2, 1, 3],
    }
    pq.write_table(pa.table(columns), tmp_path / "interactions.parquet")
    schema = prepare(
        "amazon-electronics", source=tmp_path / "interactions.parquet", out=tmp_path / "d"
    )
    dataset = load_dataset(tmp_path / "d")
    assert dataset.items.tolist() == [1, 2, 1]
    assert dataset.labels.tolist() == [0, 1, 1]
    assert schema.user_features == ()
    columns["rating"][1] = float("nan")
    pq.write_table(pa.table(columns), tmp_path / "interactions.parquet")
    with pytest.raises(
        DataError, match="row 2, column 'rating': expected a finite number, got nan"
    ):
        prepare("amazon-electronics", source=tmp_path, out=tmp_path / "e")


def measured(name: str, folder: str, out: Path, **counts: int) -> Floors:
    schema = prepare(name, source=shared_data(folder), out=out)
    assert {key: schema.counts[key] for key in counts} == counts
    return floors(load_dataset(out), holdout=1, part="test")


def test_real_kuaisar(tmp_path: Path) -> None:
    """The floors stated with the data: 0.688 / 0.636 and 0.704 / 0.633."""
    found = measured(
        "kuaisar-r", "kuaisar-r", tmp_path, users=1791, items=69704, interactions=117590
    )
    assert (round(found.user.auc, 3), round(found.user.log_loss, 3)) == (0.688, 0.636)
    assert (round(found.user_item.auc, 3), round(found.user_item.log_loss, 3)) == (0.704, 0.632)
    assert found.user_features is not None
    assert round(found.user_features.auc, 3) == 0.718
    dataset = load_dataset(tmp_path)
    sizes = np.diff(dataset.offsets)
    assert (sizes.min(), sizes.max(), np.median(sizes)) == (10, 1029, 33)


def test_real_kuairand(tmp_path: Path) -> None:
    found = measured("kuairand", "kuairand-27k-kcore15", tmp_path, users=664, items=9359)
    assert found.users == 664
    assert found.user_item.auc == pytest.approx(0.772, abs=1e-3)


def test_real_ciaodvd(tmp_path: Path) -> None:
    found = measured("ciaodvd", "ciaodvd", tmp_path, users=17615, items=16121, interactions=72345)
    assert found.users == 4743
    assert found.user_item.auc == pytest.approx(0.746, abs=1e-3)  # 12,872 users only train


def test_real_amazon(tmp_path: Path) -> None:
    found = measured(
        "amazon-electronics",
        "amazon-electronics-2023",
        tmp_path,
        users=16841,
        items=8663,
        interactions=31286,
    )
    assert found.user.auc == pytest.approx(0.654, abs=1e-3)
