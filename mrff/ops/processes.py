"""Processes that belong together, by a mark in their environment: started, found again, ended.

Each is started in a session of its own, and what one of them starts carries the mark as well: so
one whose parent has died is still known. They are ended by pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

MARK = "MRFF_PROCESSES"
_STOP_SECONDS = 10.0


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: what is interrupted cleans up as after Ctrl-C."""


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
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


def start(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Starts a program in the folder of ``log``, which gets what it says."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command, env=environment, cwd=log.parent, stdin=subprocess.DEVNULL,
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def marked(mark: str) -> list[int]:
    """The other living processes with this mark; Ray's own sessions included."""
    found, entry_of_mark = [], f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = entry_of_mark in (entry / "environ").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if is_ours and state != "Z" and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def stop_marked(mark: str) -> None:
    """Ends them all; those that do not listen by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in marked(mark):
            send(process, number)
            send(process, signal.SIGCONT)  # a frozen one hears of its end only then
        with contextlib.suppress(TimeoutError):
            wait_for("their end", lambda: not marked(mark), _STOP_SECONDS)


def send(process: int, number: signal.Signals) -> None:
    """Sends a signal to a process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def wait_for(what: str, holds: Callable[[], object], seconds: float, *, every: float = 0.1) -> None:
    """Returns when ``holds()`` is true.

    Raises:
        TimeoutError: it never was.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(every)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
