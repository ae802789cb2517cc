"""The HTTP interface of `Newest`: what may be asked, in which words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel, Field
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mrff.data.errors import DataError
from mrff.ops.trained_run import RunError
from mrff.ops.wish import Wish
from mrff.serving.guard import NAMES, Guard, Measured
from mrff.serving.newest import Newest
from mrff.serving.served import UnknownUserError

HERE = Path(__file__).parent
PAGE = {"/": "page.html", "/page.js": "page.js", "/page.css": "page.css"}
OPEN = (*PAGE, "/health", "/docs", "/openapi.json", "/favicon.ico")
# The page takes nothing from elsewhere, and nobody else may frame it.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
MOST_USERS, MOST_EVENTS = 1000, 10_000

Top = Annotated[int, Query(ge=1, description="How many items.")]
IncludeSeen = Annotated[
    bool | None, Query(description="Items the user has met as well; default: by the data's kind.")
]
Only = Annotated[
    list[str], Query(alias="filter", description="FEATURE=VALUE that items must have; repeatable.")
]
Explain = Annotated[bool, Query(description="Name the history items that moved each score.")]


class Event(BaseModel):
    """Something met, the newest comes last."""

    item: str = Field(description="A title, a part of one, or id:ID.")
    liked: bool = True


class Question(BaseModel):
    """Which items are wanted."""

    top: int = Field(10, ge=1)
    include_seen: bool | None = None
    filter: dict[str, str] = {}
    explain: bool = False

    @property
    def wish(self) -> Wish:
        """As `recommend` takes it."""
        return Wish(self.top, self.include_seen, self.filter)


class ByHistory(Question):
    """For somebody who is in no data."""

    history: list[Event] = Field(min_length=1, max_length=MOST_EVENTS)


class ByUsers(Question):
    """For several users of this node."""

    users: list[str] = Field(min_length=1, max_length=MOST_USERS)


def application(newest: Newest, token: str) -> FastAPI:
    """The application; whoever knows the token may ask it."""
    registry = CollectorRegistry()
    Gauge("mrff_best_round", "Round of the model that answers.", registry=registry).set_function(
        lambda: newest.served.best.round
    )

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        newest.start()
        yield
        newest.stop()

    app = FastAPI(
        title="MRFF on this node", lifespan=life, redoc_url=None,
        description="Items for the users of this node. Send the token: Authorization: Bearer TOKEN",
        middleware=[
            Middleware(Measured, registry=registry),
            Middleware(TrustedHostMiddleware, allowed_hosts=NAMES),
            Middleware(Guard, token=token, open_paths=OPEN),
        ],
    )  # fmt: skip
    for kind, status in ((UnknownUserError, 404), (DataError, 422), (RunError, 503)):
        app.add_exception_handler(kind, _told(status))
    _add_page(app)
    _add_answers(app, newest)

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        """Counts and seconds, as Prometheus reads them."""
        return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _add_page(app: FastAPI) -> None:
    def give(request: Request) -> FileResponse:
        return FileResponse(HERE / PAGE[request.url.path], headers=PAGE_HEADERS)

    for path in PAGE:
        app.add_api_route(path, give, include_in_schema=False, response_class=FileResponse)


def _add_answers(app: FastAPI, newest: Newest) -> None:
    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether it answers, and by which model."""
        return {"status": "ok", **newest.served.about}

    @app.get("/v1/users")
    def users(start: str = "", limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> list[str]:
        """Users of this node whose names begin so."""
        found = (name for name in newest.served.places if name.startswith(start))
        return [name for name, _ in zip(found, range(limit), strict=False)]

    @app.get("/v1/users/{user}/recommendations")
    def recommendations(
        user: str,
        top: Top = 10,
        include_seen: IncludeSeen = None,
        only: Only = [],  # noqa: B006
        explain: Explain = False,
    ) -> dict[str, Any]:
        """The best items for a user of this node, by their own parameters."""
        wish = Wish(top, include_seen, dict(_pair(text) for text in only))
        return newest.served.for_user(user, wish, explain=explain)

    @app.get("/v1/users/{user}/history")
    def history(user: str, last: Annotated[int, Query(ge=1)] = 20) -> list[dict[str, Any]]:
        """What the user met, the newest first."""
        return newest.served.history(user, last)

    @app.get("/v1/users/{user}/popular")
    def popular(user: str, top: Top = 10) -> list[dict[str, Any]]:
        """What most users of this node met and this one did not."""
        return newest.served.most_met(user, top)

    @app.post("/v1/recommendations")
    def by_history(asked: ByHistory) -> dict[str, Any]:
        """The best items after a history, for somebody who is in no data."""
        texts, liked = [e.item for e in asked.history], [e.liked for e in asked.history]
        return newest.served.for_history(texts, liked, asked.wish, explain=asked.explain)

    @app.post("/v1/batch")
    def batch(asked: ByUsers) -> list[dict[str, Any]]:
        """The best items for several users; others are answered in between."""
        served = newest.served  # all by the same model
        return [served.for_user(u, asked.wish, explain=asked.explain) for u in asked.users]


def _told(status: int) -> Any:
    def tell(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status)

    return tell


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise DataError(f"filter needs FEATURE=VALUE, got {text!r}")
    return name.strip(), value.strip()
