"""JSON lines and zip archives: what CSV says, said in another way, and what is wrong with them."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrff.data import archives
from mrff.data.columns import Table
from mrff.data.dataset import load_dataset
from mrff.data.errors import DataError
from mrff.data.prepare import prepare
from mrff.data.tables import Layout, read_table

LINES = [
    {"user": {"id": 7, "geo": {"city": "Žilina"}}, "n": 2, "tags": ["a", "b"], "ok": True},
    {"user": {"id": "x"}, "n": 2.5, "tags": None, "ok": False, "more": 1},
    {"user": None, "n": None, "tags": "c", "ok": 1, "user.id": "dotted itself"},
]
TEXT = "\n".join(json.dumps(line) for line in LINES) + "\n\n"


def read(path: Path, *columns: str, tolerant: bool = False, member: str | None = None) -> Table:
    return read_table(path, columns, layout=Layout(member=member), tolerant=tolerant)


def packed(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_dotted_names_reach_into_objects(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(TEXT, encoding="utf-8")
    (tmp_path / "t.ndjson.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "t.json").write_text(json.dumps(LINES, indent=1))
    for name in ("t.jsonl", "t.ndjson.gz", "t.json"):
        table = read(tmp_path / name, "user.id", "user.geo.city", "n", "tags", "ok")
        assert table.text("user.id").to_pylist() == ["7", "x", "dotted itself"]
        city = table.text("user.geo.city", optional=True)
        assert city.to_pylist() == ["Žilina", None, None]
        assert table.numbers("n", optional=True)[:2].tolist() == [2, 2.5]
        assert table.lists("tags", "|", table.keep()) == [["a", "b"], [], ["c"]]
        assert table.binary("ok").tolist() == [1, 0, 1]


@pytest.mark.parametrize("line", ["{", "[1]", "7", '"text"', "[" * 100_000, "{'u': 1}", "\x00"])
def test_lines_that_are_no_objects(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.jsonl").write_text('{"u": 1}\n' + line + '\n{"u": 2}\n')
    with pytest.raises(DataError, match=r"t\.jsonl") as error:
        read(tmp_path / "t.jsonl", "u")
    assert "\n" not in str(error.value)
    if line == "\x00":
        return  # no text at all
    table = read(tmp_path / "t.jsonl", "u", tolerant=True)
    assert (table.text("u").to_pylist(), table.malformed) == (["1", "2"], 1)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        (TEXT, "users", r"has no column 'users'; its columns are 'user', 'n', 'tags', 'ok'"),
        (TEXT, "user.name", "has no column 'user.name'"),
        (TEXT, "user", r"column 'user' holds objects; name a value in them, as user\.KEY"),
        ('{"u": [{"v": 1}]}\n', "u", "holds objects"),
        ('{"u": "\\ud800"}\n', "u", "row 1: expected an object"),
        ('[{"u": 1}, ', "u", "is no valid JSON"),
        ("null\n", "u", "row 1: expected an object"),
        ("", "u", "is empty"),
    ],
)
def test_what_is_wrong_with_json_is_one_line(
    tmp_path: Path, text: str, column: str, message: str
) -> None:
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path / "t.jsonl", column)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [('[{"u": 1}, ', "is no valid JSON"), ("[]", "has no rows"), ("[[1]]", "row 1: expected an")],
)
def test_what_is_wrong_with_a_list_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path / "t.json", "u")
    assert "\n" not in str(error.value)


def test_files_of_an_archive(tmp_path: Path) -> None:
    parquet = pa.BufferOutputStream()
    pq.write_table(pa.table({"u": [5]}), parquet)
    one = packed(tmp_path / "one.zip", {"in/rows.csv": b"u\n1\n", "__MACOSX/._rows.csv": b"?"})
    assert read(one, "u").text("u").to_pylist() == ["1"]
    files = {"a.csv": b"u\n2\n", "b.jsonl": b'{"u": 3}', "c.parquet": parquet.getvalue()}
    several = packed(tmp_path / "several.zip", {**files, "folder/": b"", "d.csv": b""})
    for member, value in (("a.csv", "2"), ("b.jsonl", "3"), ("c.parquet", "5")):
        assert read(several, "u", member=member).text("u").to_pylist() == [value]
    with pytest.raises(DataError, match="holds 4 files; name one with member: a"):
        read(several, "u")
    with pytest.raises(DataError, match=r"has no 'e\.csv'; it holds a\.csv, b"):
        read(several, "u", member="e.csv")
    with pytest.raises(DataError, match="is empty"):
        read(several, "u", member="d.csv")


def test_archives_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "t.zip", {"rows.csv": b"u\n" + b"1\n" * 5000})
    monkeypatch.setattr(archives, "MOST_UNPACKED", 10_000)
    with pytest.raises(DataError, match="unpacks to 10,002 bytes, more than 10,000; split"):
        read(path, "u")
    content = bytearray(path.read_bytes())
    content[60:64] = b"????"
    path.write_bytes(content)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"t\.zip cannot be (unpacked|read)") as error:
        read(path, "u")
    assert "\n" not in str(error.value)


OWN = """[interactions]
file = "log.zip"
member = "rows.jsonl"
user = "who.id"
item = "what"
time = "at"
label = "stars >= 2"
where = '''"who.id" <> 'c' and "at" > 0'''
"""


def test_own_data_of_json_in_an_archive(tmp_path: Path) -> None:
    stars = [{"what": f"s{n}", "at": n, "stars": n} for n in range(5)]
    rows = [{"who": {"id": user}} | row for user in "abc" for row in stars]
    packed(tmp_path / "log.zip", {"rows.jsonl": "\n".join(map(json.dumps, rows)).encode()})
    (tmp_path / "own.toml").write_text(OWN)
    prepare("csv", source=tmp_path / "own.toml", out=tmp_path / "d")
    dataset = load_dataset(tmp_path / "d")
    assert dataset.user_ids.tolist() == ["a", "b"]
    assert dataset.items.tolist() == [1, 2, 3, 4] * 2
    assert dataset.labels.tolist() == [0, 1, 1, 1] * 2
