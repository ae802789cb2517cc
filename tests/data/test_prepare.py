"""Preparing: once, whole or not at all, by one process at a time, and never over other files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mrff.data import prepare as prepare_module
from mrff.data import recipes
from mrff.data.errors import DataError
from mrff.data.prepare import prepare
from mrff.data.recipes import Progress, Recipe
from mrff.data.schema import Schema
from mrff.data.shard import shard
from mrff.data.writing import Prepared
from tests.support.small_folders import alternating, chunk, prepared


class Small(Recipe):
    """Counts how often it is built; fails or dies where it is told to."""

    name = "small"
    version = 1
    summary = "a recipe for tests"
    default_source = "made up"
    extra_files = ("truth.parquet",)

    def __init__(self) -> None:
        self.built = 0
        self.downloads = False
        self.error: Exception | None = None
        self.histories = alternating(3, 4)

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        return {} if self.downloads and source is None else {"from": str(source)}

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        self.built += 1
        (staging / "truth.parquet").write_text("half")
        if self.error:
            raise self.error
        return prepared([chunk(self.histories)])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Small:
    recipe = Small()
    monkeypatch.setitem(recipes.RECIPES, "small", recipe)
    return recipe


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


WHOLE = {"schema.json", "items.parquet", "users.parquet", "interactions.parquet", "truth.parquet"}


def test_prepared_once(tmp_path: Path, small: Small) -> None:
    said: list[str] = []
    first = prepare("small", out=tmp_path / "d")
    second = prepare("small", out=tmp_path / "d", progress=lambda stage, *_: said.append(stage))
    assert first == second == Schema.load(tmp_path / "d")
    assert small.built == 1
    assert said == [f"{tmp_path / 'd'} is up to date"]
    assert names(tmp_path / "d") == WHOLE
    assert first.counts == {
        "items": 4,
        "users": 2,
        "interactions": 7,
        "positive": 4,
        "dropped": {},
    }


def test_prepared_anew_when_something_changed(tmp_path: Path, small: Small) -> None:
    out = tmp_path / "d"
    prepare("small", out=out)
    small.version = 2
    small.histories = alternating(5)
    assert prepare("small", out=out).counts["users"] == 1
    prepare("small", out=out, source=tmp_path)  # another source
    (out / "users.parquet").unlink()  # damaged
    prepare("small", out=out, source=tmp_path)
    (out / "schema.json").write_text("{")
    prepare("small", out=out, source=tmp_path)
    assert small.built == 5
    assert names(out) == WHOLE
    assert names(tmp_path) == {"d", ".d.lock"}


def test_a_recipe_that_downloads_accepts_any_source_by_default(
    tmp_path: Path, small: Small
) -> None:
    small.downloads = True
    prepare("small", out=tmp_path / "d", source=tmp_path)
    prepare("small", out=tmp_path / "d")
    assert small.built == 1


@pytest.mark.parametrize("error", [DataError("bad"), KeyboardInterrupt()])
def test_an_error_leaves_what_was_there(tmp_path: Path, small: Small, error: Exception) -> None:
    out = tmp_path / "d"
    small.error = error
    with pytest.raises(type(error)):
        prepare("small", out=out)
    assert names(tmp_path) == {".d.lock"}
    small.error = None
    first = prepare("small", out=out)
    small.error, small.version = error, 2
    with pytest.raises(type(error)):
        prepare("small", out=out)
    assert Schema.load(out) == first
    assert names(out) == WHOLE
    assert names(tmp_path) == {"d", ".d.lock"}


def test_a_killed_process_leaves_nothing_that_counts(tmp_path: Path) -> None:
    """The process dies while it writes; the next one starts as if nothing had been there."""
    code = (
        "import os, sys; from pathlib import Path; from mrff.data import prepare as p; "
        "whole = p.write_folder; "
        "p.write_folder = lambda *a, **k: (whole(*a, **k), os._exit(9)); "
        f"p.prepare('synthetic', out=Path({str(tmp_path / 'd')!r}), options={{'users': 5}})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    left = names(tmp_path)
    assert "d" not in left
    assert any(name.startswith(".d.preparing-") for name in left)
    prepare("synthetic", out=tmp_path / "d", options={"users": 5})
    assert names(tmp_path) == {"d", ".d.lock"}


def test_two_processes_prepare_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mrff.data.prepare import prepare; "
        f"prepare('synthetic', out=Path({str(tmp_path / 'd')!r}), "
        "options={'users': 20_000}, progress=lambda stage, *_: print(stage))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = sorted(process.communicate()[0].splitlines()[-1] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert said == [f"{tmp_path / 'd'} is up to date", "making users"]
    assert names(tmp_path) == {"d", ".d.lock"}


def test_other_peoples_files_are_safe(tmp_path: Path, small: Small) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds 'notes\.txt', which would not be part of it; choo"):
        prepare("small", out=tmp_path)
    file = tmp_path / "notes.txt"
    with pytest.raises(DataError, match="is a file; choose another folder"):
        prepare("small", out=file)
    assert names(tmp_path.parent) >= {tmp_path.name}
    assert file.read_text() == "mine"


def test_another_dataset_is_not_replaced(tmp_path: Path, small: Small) -> None:
    prepare("small", out=tmp_path / "d")
    with pytest.raises(DataError, match="holds the dataset 'small', not 'synthetic'; choose anoth"):
        prepare("synthetic", out=tmp_path / "d", options={"users": 3})


def test_unwritable_folder(tmp_path: Path, small: Small) -> None:
    """Below a file nobody can write, root neither."""
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "d", tmp_path / "file" / "deep" / "d"):
        with pytest.raises(DataError, match=r"cannot write .*choose another folder with --out"):
            prepare("small", out=out)
    assert small.built == 0


def test_full_disk(tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare_module, "write_folder", full)
    with pytest.raises(DataError, match=r"cannot write .* \(No space left on device\)"):
        prepare("small", out=tmp_path / "d")
    assert names(tmp_path) == {".d.lock"}


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare("small", out=tmp_path / "d")
    small.version = 2
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(DataError, match=r"cannot write .* \(Input/output error\)"):
        prepare("small", out=tmp_path / "d")
    assert Schema.load(tmp_path / "d") == first
    assert names(tmp_path / "d") == WHOLE


def test_a_shard_is_not_taken_for_the_dataset(tmp_path: Path, small: Small) -> None:
    prepare("small", out=tmp_path / "d")
    shard(tmp_path / "d", tmp_path / "s", 2)
    with pytest.raises(DataError, match="holds a node's shard"):
        prepare("small", out=tmp_path / "s" / "node-0")


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown dataset 'ml-10k'; known are ml-100k, ml-1m"):
        prepare("ml-10k", out=tmp_path / "d")
    with pytest.raises(DataError, match="does not exist; check the path given with --from"):
        prepare("kuaisar-r", source=tmp_path / "nothing", out=tmp_path / "d")
    with pytest.raises(DataError, match="kuaisar-r has no default source; give its files with"):
        prepare("kuaisar-r", out=tmp_path / "d")
    with pytest.raises(DataError, match="ml-100k takes no option 'users'"):
        prepare("ml-100k", out=tmp_path / "d", options={"users": 3})


def test_nothing_to_write(tmp_path: Path, small: Small) -> None:
    small.histories = [[]]
    with pytest.raises(DataError, match="small has no interactions to write; check the source"):
        prepare("small", out=tmp_path / "d")


def test_user_named_twice(tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = prepared([chunk(alternating(3)), chunk(alternating(3))])
    monkeypatch.setattr(small, "build", lambda *_: twice)
    with pytest.raises(DataError, match="two users have the same user_id"):
        prepare("small", out=tmp_path / "d")
