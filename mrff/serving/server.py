"""Runs the application on the loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import torch
import uvicorn
from fastapi import FastAPI

LOOPBACK = "127.0.0.1"


def answer_at(app: FastAPI, port: int, tell: Callable[[str], None]) -> None:
    """Answers until it is interrupted.

    Args:
        port: 0: any that is free.
        tell: is called with the address as soon as it is taken.

    Raises:
        ValueError: somebody else listens there.
    """
    torch.set_num_threads(1)  # answers are small: threads that wait for each other cost more
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((LOOPBACK, port))
            listening.listen()  # who asks before it is ready waits
        except OSError as error:
            raise ValueError(
                f"port {port} of {LOOPBACK} cannot be taken ({error.strerror}): "
                "choose another one with --port, or 0 for any"
            ) from error
        tell(f"http://{LOOPBACK}:{listening.getsockname()[1]}")
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        with suppress(KeyboardInterrupt):  # the way to end it is no failure
            uvicorn.Server(config).run(sockets=[listening])
