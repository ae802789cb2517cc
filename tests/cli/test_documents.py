"""What documents tell people to type is there, and their tables fit a laptop's window."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from mrff.cli.main import command_group
from mrff.config import RunConfig
from mrff.ops.simulation import read_settings

ROOT = Path(__file__).parents[2]
PLACES = ("docs/*.md", "docs/howto/*", "docs/tutorial.py", "*.md", "conf/*.toml")
WIDEST = 110  # characters of a row's source
WIDE: set[str] = set()  # pages that are not cut yet
DOCUMENTS = sorted(path for place in PLACES for path in ROOT.glob(place))
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in DOCUMENTS}
SETTING = re.compile(r"""(?:-c|--set) ([a-z.-]+=(?![A-Z`]+\b|"?\$)[^\s`\\|),;]+)""")
TOGETHER = re.compile(rf"(?:{SETTING.pattern}[ \\\n]*)+")  # of one command, over its lines
OPTION = re.compile(r"--?[a-z]")
# A command to its end: of the code, or of the line where none goes on; without its comment.
COMMAND = re.compile(r"(?:^|`|\$ |&& )(mrff [a-z]+ (?:[^`\n#|&]|\\\n)*)", re.MULTILINE)


def changes() -> list[tuple[str, str]]:
    return sorted({(n, m[0].strip()) for n, text in TEXTS.items() for m in TOGETHER.finditer(text)})


@pytest.mark.parametrize(("document", "given"), changes())
def test_settings_in_a_document_are_some_that_a_run_takes(document: str, given: str) -> None:
    RunConfig.from_flat(read_settings(None, SETTING.findall(given)))


def test_an_option_in_a_document_is_one_that_its_command_has() -> None:
    unknown, seen = [], 0
    for document, text in TEXTS.items():
        for line in COMMAND.findall(text):
            command, words = resolved(line.split()[1:])
            options = {option for param in command.params for option in param.opts}
            given = [
                word.split("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z=-]*", word)
            ]
            seen += len(given)
            unknown += [f"{document}: {line}" for option in given if option not in options]
    assert not unknown
    assert seen > 50, "commands are found"


def resolved(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the first words name, and what follows them."""
    found: click.Command = command_group()
    while isinstance(found, click.Group):
        found, words = found.commands[words[0]], words[1:]
    return found, words


def wide_rows(text: str) -> list[int]:
    """The lines, from 1, of table rows that are too wide; fenced and indented code has none."""
    outside, wide = True, []
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith(("```", "~~~")):
            outside = not outside
        elif outside and re.match(r" {0,3}\|", line) and len(line) > WIDEST:
            wide.append(number)
    return wide


def test_no_table_is_wider_than_a_window() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")}
    pages = {page for page in pages if "generated" not in page} | {"README.md", "CONTRIBUTING.md"}
    found = {page: wide_rows((ROOT / page).read_text()) for page in sorted(pages)}
    assert len(pages) > 30
    assert [f"{p}:{n}" for p, lines in found.items() if p not in WIDE for n in lines] == []
    assert all(found[page] for page in WIDE), "a page that is cut stays so"


def test_a_wide_row_is_seen_where_it_is_one() -> None:
    row = "| " + "wide " * 22 + "|"
    text = f"{row[:WIDEST]}\n{row}\n```sh\n{row}\n```\n    {row}\n{row}"
    assert len(row) == WIDEST + 3
    assert wide_rows(text) == [2, 7]
