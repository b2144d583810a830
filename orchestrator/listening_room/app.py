"""The web application of a listening test: a rater's pages, and the organiser's.

Nothing that leaves it tells which system a clip is of: clips are named by a rater's own item and
side, and pages, headers and errors are the same whatever is heard.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError

from orchestrator.listening_room.entrance import PAGES, Entrance, PlainRefusal
from orchestrator.listening_room.organiser_routes import organiser_routes
from orchestrator.listening_room.rater_routes import rater_routes
from orchestrator.listening_room.store import StudyStore
from orchestrator.listening_room.study import ListeningStudy

LARGEST_BODY = 8192
"""Bytes of a request's body."""
_FILES = {"room.js": "text/javascript", "room.css": "text/css", "organiser.js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; media-src blob:; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _Guard:
    """Refuses bodies that are too large, and gives every response the same headers."""

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], root_path: str
    ) -> None:
        self._app, self._root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        # Whether the proxy takes the root path away or leaves it, routes are found.
        scope["root_path"] = self._root_path

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.lower().encode(), text.encode()) for name, text in _HEADERS.items()),
                ]
            await send(message)

        # Read here and handed on whole: a handler never sees more, declared or not.
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > LARGEST_BODY:
                await PlainRefusal(413, "The request is too large.")(scope, receive, send_guarded)
                return
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_whole() -> Message:
            return next(given, None) or await receive()

        await self._app(scope, receive_whole, send_guarded)


def create_app(
    store: StudyStore,
    study: ListeningStudy,
    texts: dict[str, str],
    organiser: str,
    end: str,
    root_path: str = "",
) -> FastAPI:
    """The application of one study.

    Args:
        store: where it is kept.
        study: the one that is served.
        texts: what each sentence says, by id.
        organiser: the organiser's token.
        end: the command that ends the test.
        root_path: the path under which a reverse proxy has it, such as ``/listen``.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Guard, root_path=root_path)
    entrance = Entrance.of(store, study, organiser, root_path)

    @app.exception_handler(HTTPException)
    async def _refuse(_: Request, error: HTTPException) -> Response:
        return PlainRefusal(error.status_code, str(error.detail))

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def _not_found(_: Request, __: Exception) -> Response:
        return PlainRefusal(404, "There is nothing here.")

    @app.exception_handler(RequestValidationError)
    async def _malformed(_: Request, __: RequestValidationError) -> Response:
        return PlainRefusal(422, "The request cannot be understood.")

    @app.get("/join/{token}")
    def join(token: str, request: Request) -> Response:
        return entrance.join(token, request.url.scheme == "https")

    @app.get("/file/{name}")
    def file(name: Literal["room.js", "room.css", "organiser.js"]) -> Response:
        return Response((PAGES / name).read_bytes(), media_type=_FILES[name])

    app.include_router(rater_routes(entrance, texts))
    app.include_router(organiser_routes(entrance, end))
    return app
