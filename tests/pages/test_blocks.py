"""Shell blocks of the documents: each is run as it stands, or says why it is not."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.doc_blocks import Block, commands_without_a_fence, shell_blocks

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    *sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob("howto/*.md")),
    *("using.md", "data.md", "serving.md", "growing.md", "tuning.md"),
]
BLOCKS = {page: shell_blocks((DOCS / page).read_text()) for page in PAGES}
LONG = {"howto/weekly-retraining.md", "data.md"}  # two runs; many preparations
RUN = [page for page in PAGES if any(block.world for block in BLOCKS[page])]


def shop(folder: Path, days: range = range(10)) -> None:
    """The files that own-data.md describes, with its description."""
    chance, events = random.Random(days.start), folder / "events.csv"
    with events.open("a") as file:
        if not events.stat().st_size:
            file.write("customer,sku,day,stars\n")
        for customer in range(20):
            for day in days:
                file.write(f"c{customer},s{chance.randrange(15)},{day},{chance.randint(1, 5)}\n")
    kinds = ("tea", "coffee")
    drinks = [f"s{number},Drink {number},{kinds[number % 2]}\n" for number in range(15)]
    (folder / "drinks.csv").write_text("sku,label,kind\n" + "".join(drinks))
    page = (DOCS / "howto" / "own-data.md").read_text()
    toml = re.search(r"```toml\n(# shop\.toml\n.*?)```", page, re.DOTALL)
    assert toml
    (folder / "shop.toml").write_text(toml[1])


def plays(folder: Path) -> None:
    """Songs that somebody heard, and ratings in the layout of MovieLens."""
    chance = random.Random(0)
    heard = [f"l{n % 20},s{chance.randrange(15)},{n}\n" for n in range(240)]
    (folder / "plays.csv").write_text("listener,song,when\n" + "".join(heard))
    rated = [
        f"{n % 20 + 1}::{chance.randrange(15) + 1}::{chance.randint(1, 5)}::{900_000_000 + n}\n"
        for n in range(240)
    ]
    (folder / "ratings.dat").write_text("".join(rated))


def mydata(folder: Path) -> None:
    plays(folder)
    (folder / "plays.csv").rename(folder / "mydata.csv")


WORLDS: dict[str, Callable[[Path], None]] = {
    "empty": lambda folder: None,
    "shop": shop,
    "a week later": lambda folder: shop(folder, range(10, 14)),
    "plays": plays,
    "mydata": mydata,
}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    for block in BLOCKS[page]:
        assert block.world in WORLDS or len(block.reason) > 8, f"{page}:{block.line}"
    assert commands_without_a_fence((DOCS / page).read_text()) == []


def test_blocks_are_found_with_what_is_said_of_them() -> None:
    text = "a\n\n1. b\n\n   <!-- run: shop -->\n   ```sh\n   one \\\n      two\n   ```\n"
    text += "```sh\nx\n```\n"
    assert shell_blocks(text) == [
        Block(6, "one \\\n   two\n", "shop", ""),
        Block(10, "x\n", None, ""),
    ]
    reason = "<!-- not run: needs: a GPU -->\n```sh\nx\n```\n"
    assert shell_blocks(reason) == [Block(2, "x\n", None, "needs: a GPU")]
    assert commands_without_a_fence("a:\n\n    mrff run\n") == ["mrff run"]
    assert sum(len(blocks) for blocks in BLOCKS.values()) > 25


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=[pytest.mark.long] if p in LONG else []) for p in RUN]
)
def test_blocks_that_can_run_do(page: str, tmp_path: Path) -> None:
    """Those of a page one after the other, in one folder and one home."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    homes = {"MRFF_HOME": str(tmp_path / "home"), "FLWR_HOME": str(tmp_path / "flower")}
    for block in BLOCKS[page]:
        if block.world is None:
            continue
        WORLDS[block.world](tmp_path)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            cwd=tmp_path, env={**os.environ, "PATH": path, **homes},
            capture_output=True, text=True, timeout=1200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{page}:{block.line}: {(done.stdout + done.stderr)[-3000:]}"
