"""Every optional part of a dataset left out or alone, on six users and eight items: each command
that reads a run answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.data.prepare import prepare
from tests.support.federation import run_federation
from tests.support.serving import asking

ROWS = "u,i,y,t\n" + "".join(
    f"{user},{(user + 3 * n) % 8},{(user + n) % 2},{n}\n" for user in range(6) for n in range(7)
)
ITEMS = "i,name,brand,tags,price\n" + "".join(
    f"{i},Item {i},b{i % 3},{'|'.join('xyz'[: i % 3])},{i * 1.5}\n" for i in range(8)
)
USERS = "u,region,langs,age\n" + "".join(
    f"{u},r{u % 2},{'|'.join(['en', 'de'][: u % 3])},{u * 9}\n" for u in range(6)
)
ITEM_FILE = '[items]\nfile = "items.csv"\nid = "i"\n'
USER_FILE = '[users]\nfile = "users.csv"\nid = "u"\n'
FEATURES = {
    "categorical": '"categorical"',
    "multi": '"multi"',
    "bucket": '{ kind = "bucket", edges = [3, 18] }',
    "unknown": '{ kind = "categorical", values = ["none"] }',
}
COLUMNS = {"categorical": "brand", "multi": "tags", "bucket": "price", "unknown": "brand"}
OF_USERS = {"categorical": "region", "multi": "langs", "bucket": "age", "unknown": "region"}


def features(side: str, columns: dict[str, str], kinds: Sequence[str]) -> str:
    lines = [f"{columns[kind]} = {FEATURES[kind]}\n" for kind in kinds]
    return f"[{side}.features]\n" + "".join(lines)


KINDS = ("categorical", "multi", "bucket")
EVERYTHING = (
    ITEM_FILE + 'title = "name"\n' + features("items", COLUMNS, KINDS) + 'item = "id"\n'
    + USER_FILE + features("users", OF_USERS, KINDS)
)  # fmt: skip
SHAPES = {
    "id only": "",
    "id and title": ITEM_FILE + 'title = "name"\n',
    **{f"items: {kind}": ITEM_FILE + features("items", COLUMNS, [kind]) for kind in COLUMNS},
    **{f"users: {kind}": USER_FILE + features("users", OF_USERS, [kind]) for kind in OF_USERS},
    "everything": EVERYTHING,
}
LABELS = {"click": 'label = "y"\n', "next": "", "both": 'label = "y"\nkind = "both"\n'}
DEVICES = [  # a model of both has the parts of each alone
    *((shape, "both") for shape in ("id only", "items: multi", "everything")),
    *(("everything", objective) for objective in ("click", "next")),
]
CASES = [
    *((shape, "click") for shape in SHAPES),
    *((shape, objective) for shape in ("id only", "everything") for objective in ("next", "both")),
]


def trained(folder: Path, shape: str, objective: str) -> str:
    """The folder of a run of two rounds on such data, which is in ``folder / "d"``."""
    for name, content in (("rows", ROWS), ("items", ITEMS), ("users", USERS)):
        (folder / f"{name}.csv").write_text(content)
    rows = '[interactions]\nfile = "rows.csv"\nuser = "u"\nitem = "i"\ntime = "t"\n'
    (folder / "own.toml").write_text(rows + LABELS[objective] + SHAPES[shape])
    prepare("csv", source=folder / "own.toml", out=folder / "d")
    run_federation(
        folder / "d", folder, nodes=2, name="run", num_server_rounds=2, evaluate_every=1,
        window_length=6, sampling_rate=1.0,
    )  # fmt: skip
    return str(folder / "runs" / "run")


@pytest.mark.parametrize(("shape", "objective"), CASES)
def test_every_command_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: str, objective: str
) -> None:
    run = trained(tmp_path, shape, objective)
    with asking(tmp_path, "run") as client:
        for address in ("users/1/recommendations?explain=true", "users/1/popular"):
            answer = client.get(f"/v1/{address}")
            assert answer.status_code == 200, answer.text
        answer = client.post("/v1/recommendations", json={"history": [{"item": "id:1"}]})
        assert answer.status_code == 200, answer.text
    for words in (
        ["recommend", run, "--user", "1"],  # eight items are fewer than the usual ten
        ["recommend", run, "--user", "1", "--explain", "--include-seen"],
        ["recommend", run, "--user", "nobody", "--explain"],
        ["recommend", run, "--history", "id:1,id:2"],
        ["recommend", run, "--all-users", "--out", str(tmp_path / "all.csv")],
        ["report", run, "--out", str(tmp_path / "page.html")],
        ["privacy", "report", run],
        ["data", "describe", str(tmp_path / "d")],
    ):
        assert main(words) == 0, (words, capsys.readouterr().err)
        assert capsys.readouterr().out


@pytest.mark.parametrize("where", ["updates", "data"])
@pytest.mark.parametrize("shape", ["id only", "everything"])
def test_the_audit_answers(tmp_path: Path, shape: str, where: str) -> None:
    trained(tmp_path, shape, "click")
    words = ["privacy", "audit", str(tmp_path / "d"), "--canaries", "20", "--canaries-in", where]
    words += ["--users", "5", "-c", "server.num-server-rounds=2", "-c", "data.window-length=6"]
    assert main(words) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "objective"), DEVICES)
def test_a_device_gets_its_model(tmp_path: Path, shape: str, objective: str) -> None:
    run = trained(tmp_path, shape, objective)
    assert main(["export", run, "--user", "1", "--out", str(tmp_path / "device")]) == 0
