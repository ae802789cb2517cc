"""What a node says of its errors: one line without its paths; the rest stays in its own log.

Flower sends the text of an exception to the server, which logs it and keeps it in its history.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from logging import getLogger
from pathlib import Path

from flwr.app import Context, Message

OURS = ("client_app", "mrff", "mrff_model")
_WITH_SLASH = re.compile(r"""[^\s'"(),;]*[/\\][^\s'"(),;]*""")
_FRACTION = re.compile(r"\d+/\w+")
log = getLogger("flwr")


class NodeError(RuntimeError):
    """Something that no message of ours foresees; its own text might quote data."""


def without_paths(
    message: Message, context: Context, answer: Callable[[Message, Context], Message]
) -> Message:
    """A Flower mod: whatever goes wrong in ``answer``, the server reads no path of this node.

    Raises:
        NodeError: for an error from outside this app, with its kind alone.
    """
    try:
        return answer(message, context)
    except Exception as error:
        log.exception("this node cannot answer")
        if type(error).__module__.partition(".")[0] not in OURS:
            kind = type(error).__name__
            raise NodeError(f"{kind} on this node; its own log says more") from None
        raise type(error)(_stripped(str(error), context)) from None


def _stripped(text: str, context: Context) -> str:
    """``text`` with its paths cut out; fractions such as 1/n stay."""
    for folder in sorted(_folders(context), key=len, reverse=True):
        text = text.replace(folder, "/")  # it may hold spaces
    return _WITH_SLASH.sub(
        lambda found: found[0] if _FRACTION.fullmatch(found[0]) else "[path]", text
    )


def _folders(context: Context) -> Iterator[str]:
    for value in context.node_config.values():
        if isinstance(value, str) and re.search(r"[/\\~]", value):
            yield value
            yield str(Path(value).expanduser().absolute())
    yield from (str(Path.home()), str(Path.cwd()))
