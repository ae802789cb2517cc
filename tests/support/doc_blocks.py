"""Shell blocks of documents, and what the comment above each says of running it.

``<!-- run: WORLD -->``: a test runs it in a folder with that world's files.
``<!-- not run: REASON -->``: no test does.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

_FENCE = re.compile(
    r"(?:^ *<!-- (?P<mark>[^>]+?) -->\n)?^(?P<space> *)```sh\n(?P<code>.*?)^(?P=space)```$",
    re.MULTILINE | re.DOTALL,
)
_INDENTED = re.compile(r"\n\n {4}(mrff|flwr|python|pip|curl|ray|make|flower-\w+|cat) .*")


@dataclass(frozen=True)
class Block:
    """A fenced block of shell commands.

    Args:
        line: of the document, from 1.
        world: where it runs; None: it does not.
        reason: why it does not run; empty: nothing is said.
    """

    line: int
    code: str
    world: str | None
    reason: str


def shell_blocks(text: str) -> list[Block]:
    """Of a Markdown document, in order."""
    found = []
    for match in _FENCE.finditer(text):
        line = text[: match.start("code")].count("\n")
        said, _, what = (match["mark"] or "").partition(": ")
        world, reason = what if said == "run" else None, what if said == "not run" else ""
        found.append(Block(line, textwrap.dedent(match["code"]), world, reason))
    return found


def commands_without_a_fence(text: str) -> list[str]:
    """Indented commands, which no comment could mark."""
    return [match[0].strip() for match in _INDENTED.finditer(text)]
