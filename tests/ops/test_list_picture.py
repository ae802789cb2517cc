"""The picture of a list: what it shows is what the command answers, whatever titles hold."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from mrff.cli.main import main
from mrff.data.dataset import load_dataset, load_titles
from mrff.ops.list_picture import list_picture
from tests.support.trained import RUN

SVG = "{http://www.w3.org/2000/svg}"


def drawn(text: str) -> list[str]:
    return [found.text or "" for found in ET.fromstring(text).iter(f"{SVG}text")]


def test_the_list_is_the_commands_and_popularity_is_counted_from_training(
    at_home: Path, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, titles = load_dataset(small_data), load_titles(small_data)
    user, start, end = str(dataset.user_ids[4]), *dataset.offsets[4:6]
    file = tmp_path / "list.svg"
    asked = ["recommend", RUN, "--user", user, "--top", "3", "--before-test"]
    assert main([*asked, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert main([*asked, "--picture", str(file)]) == 0
    texts = [text.removesuffix(" ✓") for text in drawn(file.read_text())]
    ours = texts.index("MRFF recommends") + 1
    assert texts[ours : ours + 3] == [line["item"] for line in said["items"]]
    counts = np.zeros(len(titles))
    for row in range(dataset.num_users):
        first, last = dataset.offsets[row : row + 2]
        np.add.at(counts, dataset.items[first : last - 2], 1)  # validation and test left out
    counts[0] = counts[dataset.items[start : end - 1]] = -1  # met
    best = [titles[item] for item in np.argsort(-counts, kind="stable")[:3]]
    popular = texts.index("Most popular") + 1
    assert texts[popular : popular + 3] == best
    assert texts[-1].endswith(f": {titles[dataset.items[end - 1]]}")


def test_titles_are_text_and_what_was_taken_next_is_marked() -> None:
    said = {"user": "<7>", "latest": ["a & b"], "items": [{"item": "<b>x</b>"}, {"item": "y" * 50}]}
    picture = list_picture(said, ["z", "<b>x</b>"], "<b>x</b>")
    texts = drawn(picture)
    assert texts.count("<b>x</b> ✓") == 2
    assert "y" * 35 + "…" in texts
    assert "a & b" in texts
    assert "<b>x</b>" in ET.fromstring(picture).attrib["aria-label"]


def test_a_picture_is_of_a_user(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", RUN, "--history", "id:1", "--picture", "x.svg"]) == 2
    assert "--picture does not go with --history" in capsys.readouterr().err
