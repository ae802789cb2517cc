"""Who may ask, and what is measured of it: both around the whole application.

The server listens on the loopback only. Any program of this machine reaches that, and so does any
page in a browser here, by a name of its own that it lets point to this machine (DNS rebinding).
Hence a token, which is compared before a body is read, and a list of names to be called by.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from pathlib import Path

from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = ["127.0.0.1", "localhost", "[::1]"]
MOST_BYTES = 2**20  # of a request: ten thousand entries of a history
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def token_of(file: Path) -> str:
    """What the file holds; a new one is made where there is none, for its owner to read.

    Raises:
        ValueError: it is too short to keep anybody out.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(24) + "\n")
    token = file.read_text().strip()
    if len(token) < 16:
        raise ValueError(f"the token in {file} has {len(token)} characters, it needs 16: remove it")
    return token


class Guard:
    """Refuses what comes without the token or is too long.

    Args:
        open_paths: for which no token is asked.
    """

    def __init__(self, app: ASGIApp, token: str, open_paths: Collection[str]) -> None:
        self._app, self._open = app, open_paths
        self._wanted = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("authorization", "").encode()
        length = headers.get("content-length", "0")
        answer = None
        if scope["path"] not in self._open and not secrets.compare_digest(given, self._wanted):
            answer = _refused(401, "send the token: Authorization: Bearer TOKEN")
        elif "transfer-encoding" in headers or not length.isdecimal():
            answer = _refused(411, "say how long the request is: Content-Length")
        elif int(length) > MOST_BYTES:
            answer = _refused(413, f"a request has at most {MOST_BYTES} bytes, got {length}")
        await (answer or self._app)(scope, receive, send)


class Measured:
    """Counts answers and their seconds, by route; the newest are in ``registry``."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._answers = Counter("mrff_answers", "Answers.", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "mrff_answer_seconds", "To an answer.", ["route"], registry=registry, buckets=SECONDS
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._answers.labels(route, status).inc()
            self._seconds.labels(route).observe(time.perf_counter() - began)


def _refused(status: int, why: str) -> JSONResponse:
    return JSONResponse({"detail": why}, status)
