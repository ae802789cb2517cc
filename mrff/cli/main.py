"""``mrff``: the command line. Every error is one line on stderr and a non-zero exit status."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from mrff.cli import (
    compare_command,
    data_commands,
    demo_command,
    deploy_commands,
    export_command,
    privacy_commands,
    recommend_command,
    report_command,
    run_command,
)

COMMANDS = (
    data_commands,
    run_command,
    demo_command,
    deploy_commands,
    privacy_commands,
    compare_command,
    report_command,
    recommend_command,
    export_command,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 2 for what the user can mend, 130 or 143 when interrupted."""
    parser = argparse.ArgumentParser(prog="mrff", description="Federated recommendation (MRFF)")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    chosen = parser.parse_args(arguments)
    try:
        with _termination_interrupts():
            status: int = chosen.handler(chosen)
    except BrokenPipeError:  # the reader, head for one, has seen enough
        sys.stderr.close()
        return 0
    except (ValueError, OSError) as error:
        print(f"mrff: {error}", file=sys.stderr)
        return 2
    except Terminated:
        print("mrff: terminated", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print("mrff: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return status


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: what is interrupted cleans up as after Ctrl-C."""


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Lets SIGTERM end a command as Ctrl-C does, so that it stops the processes it has started.

    The first one does; more of them do not disturb the cleaning up. (A handler that does nothing,
    since processes started meanwhile would inherit that a signal is ignored.)
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
